//! Groups lines by shape: those with the same delimiters and mostly the same words are one cluster, and where their
//! words differ stands a capture.
//!
//! The idea is Drain's (a tree of fixed depth over tokens): the first level is the skeleton of delimiters with the
//! level of the line, the second the cluster with most words in common.

use rustc_hash::FxHashMap;
use trefoil_model::NanoRange;

use super::PatternSeries;
use super::counts::Counts;
use super::tokens::Tokens;

/// Most clusters of a miner.
const CLUSTERS_MAX: usize = 300;
/// Most clusters with the same skeleton; a line that fits none then goes to the nearest.
const CLUSTERS_PER_SKELETON_MAX: usize = 16;
/// What is beside the texts of a cluster.
const CLUSTER_BYTES: usize = 200;
const CAPTURE: &str = "<_>";

/// Levels that lines are told apart by.
const LEVELS: [&str; 8] = ["unknown", "trace", "debug", "info", "warn", "error", "critical", "fatal"];

fn known_level(level: &str) -> &'static str {
    LEVELS.iter().find(|l| **l == level).copied().unwrap_or(LEVELS[0])
}

#[derive(Debug)]
struct Cluster {
    level: &'static str,
    skeleton: u64,
    delimiters: Box<[Box<str>]>,
    /// `None` where words differ; with the flag of a key.
    words: Box<[(Option<Box<str>>, bool)]>,
    cut: bool,
    counts: Counts,
    total: u64,
    first_ns: i64,
    last_ns: i64,
}

impl Cluster {
    /// Words in common and words that count, of a line with the same delimiters.
    fn likeness(&self, tokens: &Tokens<'_>) -> (usize, usize) {
        let (mut same, mut counted) = (0, 0);
        for ((own, _), word) in self.words.iter().zip(&tokens.words) {
            let Some(own) = own else { continue };
            let equal = !word.variable && **own == *word.text;
            if word.key && equal {
                continue;
            }
            counted += 1;
            same += usize::from(equal);
        }
        (same, counted)
    }

    fn widen(&mut self, tokens: &Tokens<'_>) {
        for ((own, _), word) in self.words.iter_mut().zip(&tokens.words) {
            if own.as_ref().is_some_and(|own| word.variable || **own != *word.text) {
                *own = None;
            }
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.delimiters.iter().map(|d| d.len() + 16).sum::<usize>()
            + self.words.iter().map(|(w, _)| w.as_ref().map_or(0, |w| w.len()) + 24).sum::<usize>();
        CLUSTER_BYTES + texts + self.counts.steps() * Counts::STEP_BYTES
    }

    /// The pattern as `|>` takes it.
    fn pattern(&self) -> String {
        let mut out = self.delimiters.first().map_or("", |d| d).to_owned();
        for ((word, _), delimiter) in self.words.iter().zip(self.delimiters.iter().skip(1)) {
            out.push_str(word.as_deref().unwrap_or(CAPTURE));
            out.push_str(delimiter);
        }
        if self.cut && !out.ends_with(CAPTURE) {
            out.push_str(CAPTURE);
        }
        out
    }
}

/// The shapes of some lines, with counts over time.
#[derive(Debug, Default)]
pub struct Miner {
    clusters: Vec<Cluster>,
    by_skeleton: FxHashMap<(u64, &'static str), Vec<u32>>,
    bytes: usize,
    newest_ns: i64,
}

impl Miner {
    /// Takes a line that stands for `count` lines like it. `level` is a word such as `info`, any other counts as
    /// `unknown`.
    pub fn learn(&mut self, line: &str, level: &str, time_ns: i64, count: u32) {
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            return;
        }
        let mut tokens = Tokens::new();
        tokens.read(line);
        self.newest_ns = self.newest_ns.max(time_ns);
        let level = known_level(level);
        let at = self.find(&tokens, level).unwrap_or_else(|| self.make(&tokens, level, time_ns));
        let cluster = &mut self.clusters[at];
        cluster.widen(&tokens);
        if cluster.counts.add(time_ns, count) {
            self.bytes += Counts::STEP_BYTES;
        }
        cluster.total = cluster.total.saturating_add(u64::from(count));
        cluster.first_ns = cluster.first_ns.min(time_ns);
        cluster.last_ns = cluster.last_ns.max(time_ns);
    }

    fn find(&self, tokens: &Tokens<'_>, level: &'static str) -> Option<usize> {
        let alike = self.by_skeleton.get(&(tokens.skeleton, level))?;
        let mut best: Option<(usize, usize, usize)> = None;
        for at in alike {
            let at = *at as usize;
            let cluster = self.clusters.get(at).filter(|c| c.words.len() == tokens.words.len())?;
            let (same, counted) = cluster.likeness(tokens);
            if same == counted {
                return Some(at);
            }
            // The greater share of words in common; of equal ones the earlier cluster.
            if best.is_none_or(|(_, s, c)| same * c > s * counted) {
                best = Some((at, same, counted));
            }
        }
        let (at, same, counted) = best?;
        (same * 2 > counted || alike.len() >= CLUSTERS_PER_SKELETON_MAX).then_some(at)
    }

    fn make(&mut self, tokens: &Tokens<'_>, level: &'static str, time_ns: i64) -> usize {
        if self.clusters.len() >= CLUSTERS_MAX {
            self.forget(CLUSTERS_MAX / 8);
        }
        let cluster = Cluster {
            level,
            skeleton: tokens.skeleton,
            delimiters: tokens.delimiters.iter().map(|d| Box::from(*d)).collect(),
            words: tokens.words.iter().map(|w| ((!w.variable).then(|| Box::from(w.text)), w.key)).collect(),
            cut: tokens.cut,
            counts: Counts::default(),
            total: 0,
            first_ns: time_ns,
            last_ns: time_ns,
        };
        self.bytes += cluster.bytes();
        let at = self.clusters.len();
        self.by_skeleton.entry((tokens.skeleton, level)).or_default().push(u32::try_from(at).unwrap_or(u32::MAX));
        self.clusters.push(cluster);
        at
    }

    /// Forgets the clusters that were not seen for longest.
    pub(super) fn forget(&mut self, count: usize) {
        let mut times: Vec<i64> = self.clusters.iter().map(|c| c.last_ns).collect();
        times.sort_unstable();
        let Some(bound) = times.get(count.saturating_sub(1)).copied() else {
            *self = Self::default();
            return;
        };
        let mut left = count;
        self.clusters.retain(|c| {
            let goes = left > 0 && c.last_ns <= bound;
            left -= usize::from(goes);
            !goes
        });
        self.by_skeleton.clear();
        for (at, cluster) in self.clusters.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            self.by_skeleton.entry((cluster.skeleton, cluster.level)).or_default().push(at);
        }
        self.bytes = self.clusters.iter().map(Cluster::bytes).sum();
    }

    /// How many patterns there are.
    pub(super) fn patterns_held(&self) -> usize {
        self.clusters.len()
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unix nanoseconds of the newest line.
    pub(super) fn newest_ns(&self) -> i64 {
        self.newest_ns
    }

    /// The patterns with a line in the range, most frequent first. Clusters that came to the same pattern are one.
    pub fn patterns(&self, range: NanoRange) -> Vec<PatternSeries> {
        let mut found: FxHashMap<(String, &'static str), PatternSeries> = FxHashMap::default();
        for cluster in &self.clusters {
            let mut counts = cluster.counts.within(range).peekable();
            if counts.peek().is_none() {
                continue;
            }
            let pattern = cluster.pattern();
            let series = found.entry((pattern, cluster.level)).or_insert_with_key(|(pattern, level)| PatternSeries {
                pattern: pattern.clone(),
                level,
                samples: Vec::new(),
                total: 0,
                first_seen_ns: cluster.first_ns,
                last_seen_ns: cluster.last_ns,
            });
            series.add(counts, cluster.total, (cluster.first_ns, cluster.last_ns));
        }
        super::sorted(found.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: NanoRange = NanoRange { start_ns: i64::MIN, end_ns: i64::MAX };

    fn check(lines: &[&str], want: &[&str]) {
        let mut miner = Miner::default();
        for (i, line) in lines.iter().enumerate() {
            miner.learn(line, "info", i as i64, 1);
        }
        let got: Vec<String> = miner
            .patterns(ALL)
            .iter()
            .map(|p| format!("{} {}", p.samples.iter().map(|s| s.1).sum::<u64>(), p.pattern))
            .collect();
        assert_eq!(got, want, "{lines:?}");
    }

    #[test]
    fn lines_of_one_shape_are_one_pattern() {
        check(
            &["user bob logged in", "user alice logged in", "user eve logged in", "disk full"],
            &["3 user <_> logged in", "1 disk full"],
        );
        check(
            &[
                r#"level=info msg="order placed" id=12 user=ann"#,
                r#"level=info msg="order placed" id=13 user=bob"#,
                r#"level=info msg="payment failed" id=14 user=bob"#,
            ],
            &[
                r#"2 level=info msg="order placed" id=<_> user=<_>"#,
                r#"1 level=info msg="payment failed" id=<_> user=bob"#,
            ],
        );
        check(
            &[r#"10.0.0.1 "GET /a/b HTTP/1.1" 200 17"#, r#"10.0.0.2 "GET /a/c HTTP/1.1" 404 9"#],
            &[r#"2 <_> "GET /a/<_> HTTP/<_>" <_> <_>"#],
        );
    }

    #[test]
    fn levels_stay_apart() {
        let mut miner = Miner::default();
        miner.learn("it is done", "info", 0, 2);
        miner.learn("it is done", "error", 0, 3);
        miner.learn("it is done", "whatever", 0, 1);
        let got: Vec<(&str, u64)> = miner.patterns(ALL).iter().map(|p| (p.level, p.total)).collect();
        assert_eq!(got, [("error", 3), ("info", 2), ("unknown", 1)]);
    }

    #[test]
    fn clusters_and_bytes_are_bounded() {
        let mut miner = Miner::default();
        for i in 0..20_000i64 {
            let word = |n: i64| {
                let mut n = n;
                let mut out = String::new();
                while n > 0 {
                    out.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
                    n /= 26;
                }
                out
            };
            miner.learn(
                &format!("{} {}{}", word(i + 1), word(i * 7919 + 3), " ,".repeat((i % 400) as usize)),
                "info",
                i * 1_000_000_000,
                1,
            );
        }
        assert!(miner.clusters.len() <= CLUSTERS_MAX, "{}", miner.clusters.len());
        assert!(miner.bytes() < 2 << 20, "{}", miner.bytes());
        let counted: usize = miner.clusters.iter().map(Cluster::bytes).sum();
        assert!(miner.bytes().abs_diff(counted) <= counted / 4, "{} {counted}", miner.bytes());
    }
}
