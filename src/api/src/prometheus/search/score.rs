//! How like a name is to what somebody types: 0 to 1.
//!
//! A name that begins with the term has 1. `subsequence`: the characters of the term in their order; long runs are
//! worth the square of their length, gaps cost a little. `jarowinkler`: the term somewhere in the name, the earlier
//! the better, or else the similarity of Jaro and Winkler.

/// How names are compared that do not begin with a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Subsequence,
    JaroWinkler,
}

/// What is searched: a name that is like any of the terms.
#[derive(Debug)]
pub(super) struct Search {
    terms: Vec<String>,
    threshold: f64,
    algorithm: Algorithm,
    case_sensitive: bool,
}

/// What only begins or is like the term stays below what is the term.
const NOT_EQUAL: f64 = 0.999;
/// Characters of a name that are compared; what is longer is hardly typed.
const CHARS_MAX: usize = 1024;

impl Search {
    /// Empty terms are left out; without any every name is taken with 1.
    pub(super) fn new(terms: &[&str], threshold: f64, algorithm: Algorithm, case_sensitive: bool) -> Self {
        let terms = terms
            .iter()
            .filter(|t| !t.is_empty())
            .map(|t| if case_sensitive { (*t).to_owned() } else { t.to_lowercase() })
            .collect();
        Self { terms, threshold, algorithm, case_sensitive }
    }

    /// The score of a name; `None` when it is not like any term.
    pub(super) fn score(&self, name: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let lower = if self.case_sensitive { String::new() } else { name.to_lowercase() };
        let name = if self.case_sensitive { name } else { &lower };
        self.terms.iter().filter_map(|term| self.term(term, name)).max_by(f64::total_cmp)
    }

    fn term(&self, term: &str, name: &str) -> Option<f64> {
        if name.starts_with(term) {
            return Some(1.0);
        }
        match self.algorithm {
            Algorithm::Subsequence => {
                let score = subsequence(term, name);
                (score > 0.0 && score >= self.threshold).then_some(score)
            }
            Algorithm::JaroWinkler => substring(term, name).or_else(|| {
                let score = if self.threshold > 0.0 { jaro_winkler(term, name) } else { 0.0 };
                (self.threshold > 0.0 && score >= self.threshold).then_some(score)
            }),
        }
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().take(CHARS_MAX).collect()
}

/// 1 at the front, down to 0.1 at the end.
fn substring(term: &str, name: &str) -> Option<f64> {
    let at = name.find(term)?;
    let place = name[..at].chars().count();
    let last = name.chars().count() - term.chars().count();
    Some(if last == 0 { 1.0 } else { 1.0 - 0.9 * place as f64 / last as f64 })
}

/// The best score of the term's characters in their order; 0 when they are not there.
fn subsequence(term: &str, name: &str) -> f64 {
    let (term, name) = (chars(term), chars(name));
    if term.is_empty() || term == name {
        return 1.0;
    }
    let mut best = -1.0f64;
    for from in 0..name.len().saturating_sub(term.len() - 1) {
        if name[from] != term[0] {
            continue;
        }
        match runs(&term, &name, from) {
            Some(score) => best = best.max(score),
            // What cannot be completed from here cannot be from later on.
            None => break,
        }
    }
    if best < 0.0 { 0.0 } else { best / (term.len() * term.len()) as f64 * NOT_EQUAL }
}

/// The score of the match that takes each character as early as it can, the first one at `from`.
fn runs(term: &[char], name: &[char], from: usize) -> Option<f64> {
    let share = 1.0 / name.len() as f64;
    let mut score = 0.0;
    let (mut at, mut next, mut end) = (from, 0, 0);
    while next < term.len() {
        let start = at + name[at..].iter().position(|c| *c == term[next])?;
        at = start;
        while next < term.len() && name.get(at) == Some(&term[next]) {
            at += 1;
            next += 1;
        }
        score -= (start - end) as f64 * share;
        score += ((at - start) * (at - start)) as f64;
        end = at;
    }
    Some(score - (name.len() - end) as f64 * share * 0.5)
}

/// <https://en.wikipedia.org/wiki/Jaro%E2%80%93Winkler_distance>, with a prefix of up to four characters at 0.1 each.
fn jaro_winkler(a: &str, b: &str) -> f64 {
    let (mut a, mut b) = (chars(a), chars(b));
    if a.len() > b.len() {
        std::mem::swap(&mut a, &mut b);
    }
    if a.is_empty() || b.is_empty() {
        return if a.is_empty() && b.is_empty() { 1.0 } else { 0.0 };
    }
    let reach = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut taken = vec![false; b.len()];
    let mut matched = Vec::new();
    for (i, c) in a.iter().enumerate() {
        let (from, to) = (i.saturating_sub(reach), (i + reach + 1).min(b.len()));
        if let Some(j) = (from..to).find(|j| !taken[*j] && b[*j] == *c) {
            taken[j] = true;
            matched.push(*c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let other = b.iter().zip(&taken).filter(|(_, t)| **t).map(|(c, _)| *c);
    let swapped = matched.iter().zip(other).filter(|(x, y)| **x != *y).count() as f64 / 2.0;
    let m = matched.len() as f64;
    let jaro = (m / a.len() as f64 + m / b.len() as f64 + (m - swapped) / m) / 3.0;
    let prefix = a.iter().zip(&b).take(4).take_while(|(x, y)| x == y).count() as f64;
    jaro + prefix * 0.1 * (1.0 - jaro)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(algorithm: Algorithm, threshold: f64, term: &str, name: &str, want: Option<f64>) {
        let got = Search::new(&[term], threshold, algorithm, true).score(name);
        let same = match (got, want) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-3,
            (a, b) => a == b,
        };
        assert!(same, "{term} in {name}: {got:?}, want {want:?}");
    }

    #[test]
    fn subsequences() {
        let check = |term, name, want| check(Algorithm::Subsequence, 0.0, term, name, want);
        check("up", "up", Some(1.0));
        check("http", "http_requests", Some(1.0));
        check("", "anything", Some(1.0));
        check("xyz", "http", None);
        // A run of three after a gap of two, nothing behind: (9 - 2/5) / 9.
        check("abc", "xxabc", Some(8.6 / 9.0 * 0.999));
        // Two runs of one, a gap of one before each.
        check("ac", "zabc", Some((1.0 + 1.0 - 0.25 - 0.25) / 4.0 * 0.999));
        check("ba", "abc", None);
        super::tests::check(Algorithm::Subsequence, 0.99, "abc", "xxabc", None);
    }

    #[test]
    fn substrings_and_similar_names() {
        check(Algorithm::JaroWinkler, 0.0, "req", "http_req", Some(0.1));
        check(Algorithm::JaroWinkler, 0.0, "martha", "marhta", None);
        check(Algorithm::JaroWinkler, 0.5, "martha", "marhta", Some(0.961));
        check(Algorithm::JaroWinkler, 0.5, "dixon", "dicksonx", Some(0.813));
        check(Algorithm::JaroWinkler, 0.9, "dixon", "dicksonx", None);
    }

    #[test]
    fn case_may_not_matter() {
        let search = Search::new(&["", "HTTP", "node"], 0.0, Algorithm::Subsequence, false);
        assert_eq!(
            (search.score("Http_requests"), search.score("NODE_load"), search.score("up")),
            (Some(1.0), Some(1.0), None)
        );
        assert_eq!(Search::new(&[], 0.5, Algorithm::JaroWinkler, true).score("up"), Some(1.0));
    }
}
