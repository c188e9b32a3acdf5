//! One scraped page made into a batch: labels, limits, staleness.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trefoil_model::labels::METRIC_NAME;
use trefoil_model::{Exemplar, FloatPoint, Labels, LabelsBuilder, MetricBatch, MetricKind, MetricMetadata, STALE_NAN};

use crate::cache::{Lookup, SeriesCache};
use crate::exposition::{Exposition, ExpositionError, Line, TextFormat, label_set, series_labels};
use crate::relabel::Relabel;

/// How a target's pages are read; see `scrape_configs` in the configuration reference.
#[derive(Debug, Clone)]
pub struct PageRules {
    /// Labels of the target.
    pub target: Labels,
    /// A clashing scraped label wins over the target's.
    pub honor_labels: bool,
    /// Timestamps of the page are kept.
    pub honor_timestamps: bool,
    /// Series with timestamps of their own are marked when they end.
    pub track_timestamps_staleness: bool,
    /// `metric_relabel_configs`.
    pub metric_relabel: Arc<Relabel>,
    /// Samples after relabelling; 0 for no limit.
    pub sample_limit: u64,
    /// Labels of a series; 0 for no limit.
    pub label_limit: u64,
    /// Bytes of a label name; 0 for no limit.
    pub label_name_length_limit: u64,
    /// Bytes of a label value; 0 for no limit.
    pub label_value_length_limit: u64,
}

/// Why a page is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It cannot be read.
    #[error(transparent)]
    Exposition(#[from] ExpositionError),
    /// A series name cannot be read.
    #[error("line names a bad series: {0}")]
    Series(String),
    /// More samples than `sample_limit`.
    #[error("sample limit exceeded: more than {0} samples after relabeling")]
    SampleLimit(u64),
    /// A label limit is exceeded.
    #[error("label limit exceeded: {0}")]
    LabelLimit(String),
}

/// What a page brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageReport {
    /// Samples on the page.
    pub scraped: u64,
    /// Samples after `metric_relabel_configs`, repeated ones included.
    pub kept: u64,
    /// Series not on the page before.
    pub added: u64,
    /// Lines that repeat a series of the page.
    pub duplicates: u64,
}

/// Reads the pages of one target, in order.
#[derive(Debug, Default)]
pub struct PageReader {
    cache: SeriesCache,
    metadata: FxHashMap<String, (MetricKind, u64)>,
    report: PageReport,
}

impl PageReader {
    /// Reads a page scraped at `t_ms` into a batch, with stale markers for the series that are gone.
    ///
    /// On an error nothing of the page counts: the batch then holds the stale markers of all series of the page before.
    pub fn read(
        &mut self,
        page: &[u8],
        format: TextFormat,
        t_ms: i64,
        rules: &PageRules,
    ) -> (MetricBatch, Result<PageReport, PageError>) {
        self.cache.begin_page();
        let mut batch = MetricBatch::default();
        let mut report = PageReport::default();
        let result = self.read_lines(page, format, t_ms, rules, &mut batch, &mut report);
        self.report = report;
        if let Err(error) = result {
            return (self.fail(t_ms), Err(error));
        }
        let ended = self.cache.end_page();
        mark_ended(&mut batch, ended, t_ms);
        (batch, Ok(report))
    }

    /// What was read of the last page, up to its fault when it was refused: what the reference reports of it.
    pub fn last_report(&self) -> PageReport {
        self.report
    }

    /// The batch of a scrape that failed before there was a page: stale markers for all series of the page before.
    pub fn no_page(&mut self, t_ms: i64) -> MetricBatch {
        self.cache.begin_page();
        self.report = PageReport::default();
        self.fail(t_ms)
    }

    /// The stale markers for a target that goes away.
    pub fn end(&self, t_ms: i64) -> MetricBatch {
        let mut batch = MetricBatch::default();
        mark_ended(&mut batch, self.cache.live(), t_ms);
        batch
    }

    fn fail(&mut self, t_ms: i64) -> MetricBatch {
        // An empty page after the one that failed: what the failed one had seen counts as gone as well.
        let mut ended = self.cache.end_page();
        self.cache.begin_page();
        ended.extend(self.cache.end_page());
        ended.sort_unstable();
        ended.dedup();
        let mut batch = MetricBatch::default();
        mark_ended(&mut batch, ended, t_ms);
        batch
    }

    fn read_lines(
        &mut self,
        page: &[u8],
        format: TextFormat,
        t_ms: i64,
        rules: &PageRules,
        batch: &mut MetricBatch,
        report: &mut PageReport,
    ) -> Result<(), PageError> {
        let mut families: FxHashMap<String, MetricMetadata> = FxHashMap::default();
        let family = |name: &str| MetricMetadata {
            name: name.to_owned(),
            kind: MetricKind::Unknown,
            help: String::new(),
            unit: String::new(),
        };
        // Repeated series count as kept, as in the reference, and not for the limit.
        let distinct = |report: &PageReport| report.kept - report.duplicates;
        let is_full = |report: &PageReport| rules.sample_limit > 0 && distinct(report) >= rules.sample_limit;
        let is_over = |report: &PageReport| rules.sample_limit > 0 && distinct(report) > rules.sample_limit;
        for line in Exposition::new(page, format)? {
            match line? {
                Line::Type { name, kind } => {
                    families.entry(name.to_string()).or_insert_with(|| family(&name)).kind = kind
                }
                Line::Help { name, text } => {
                    families.entry(name.to_string()).or_insert_with(|| family(&name)).help = text.into_owned()
                }
                Line::Unit { name, unit } => {
                    families.entry(name.to_string()).or_insert_with(|| family(&name)).unit = unit.to_owned()
                }
                Line::Sample { series, value, t_ms: own, exemplar } => {
                    report.scraped += 1;
                    let own = own.filter(|_| rules.honor_timestamps);
                    let marks_end = own.is_none() || rules.track_timestamps_staleness;
                    let labels = match self.cache.look_up(series, marks_end && own.is_none()) {
                        Lookup::Known(labels) => labels,
                        Lookup::Dropped => continue,
                        Lookup::Duplicate => {
                            report.kept += 1;
                            report.duplicates += 1;
                            continue;
                        }
                        Lookup::Unknown => {
                            let is_new = !self.cache.was_on_last_page(series);
                            let labels = final_labels(series, rules)?;
                            report.added += u64::from(is_new && labels.is_some() && !is_full(report));
                            self.cache.insert(series, labels.clone(), marks_end);
                            match labels {
                                Some(labels) => labels,
                                None => continue,
                            }
                        }
                    };
                    report.kept += 1;
                    if is_over(report) {
                        // The rest of the page is counted, and refused with it.
                        continue;
                    }
                    let index = batch.add_series(labels);
                    // A NaN that a page writes is an ordinary NaN, never a stale marker.
                    batch.floats.push(FloatPoint { series: index, t_ms: own.unwrap_or(t_ms), start_ms: 0, value });
                    if let Some(e) = exemplar
                        && let Ok(labels) = label_set(e.labels)
                        && self.cache.is_new_exemplar(series, &labels, e.value, e.t_ms.is_some())
                    {
                        batch.exemplars.push(Exemplar {
                            series: index,
                            t_ms: e.t_ms.unwrap_or(t_ms),
                            value: e.value,
                            labels,
                        });
                    }
                }
            }
        }
        if is_over(report) {
            return Err(PageError::SampleLimit(rules.sample_limit));
        }
        self.changed_metadata(families, batch);
        Ok(())
    }

    /// Metadata is written when it is new or has changed, not with every page.
    fn changed_metadata(&mut self, families: FxHashMap<String, MetricMetadata>, batch: &mut MetricBatch) {
        let mut changed: Vec<MetricMetadata> = families
            .into_values()
            .filter(|m| {
                let seen = (m.kind, xxhash_rust::xxh3::xxh3_64(format!("{}\u{0}{}", m.help, m.unit).as_bytes()));
                self.metadata.insert(m.name.clone(), seen) != Some(seen)
            })
            .collect();
        changed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        batch.metadata = changed;
    }
}

fn mark_ended(batch: &mut MetricBatch, ended: Vec<Labels>, t_ms: i64) {
    for labels in ended {
        batch.push_float(labels, t_ms, STALE_NAN);
    }
}

/// The stored labels of a series text, `None` when relabelling drops it.
fn final_labels(series: &str, rules: &PageRules) -> Result<Option<Labels>, PageError> {
    let mut labels = series_labels(series).map_err(PageError::Series)?;
    add_target_labels(&mut labels, &rules.target, rules.honor_labels);
    if !rules.metric_relabel.apply(&mut labels) {
        return Ok(None);
    }
    let labels = labels.build();
    if labels.metric_name().is_empty() {
        return Err(PageError::Series(format!("{series:.60} has no metric name after relabeling")));
    }
    check_label_limits(&labels, rules)?;
    Ok(Some(labels))
}

fn add_target_labels(labels: &mut LabelsBuilder, target: &Labels, honor_labels: bool) {
    if honor_labels {
        for (name, value) in target {
            // A label that the page sets, even to nothing, stays as the page has it.
            if !labels.pairs().iter().any(|(n, _)| n == name) {
                labels.set(name, value);
            }
        }
        return;
    }
    let clashing: Vec<(String, String)> = labels
        .pairs()
        .iter()
        .filter(|(name, value)| !value.is_empty() && target.get(name).is_some())
        .cloned()
        .collect();
    for (name, value) in target {
        labels.set(name, value);
    }
    for (name, value) in clashing {
        let mut exported = format!("exported_{name}");
        while labels.get(&exported).is_some() {
            exported = format!("exported_{exported}");
        }
        labels.set(exported, value);
    }
}

fn check_label_limits(labels: &Labels, rules: &PageRules) -> Result<(), PageError> {
    let name = labels.metric_name();
    let over = |limit: u64, n: usize| limit > 0 && n as u64 > limit;
    if over(rules.label_limit, labels.len()) {
        let n = labels.len();
        return Err(PageError::LabelLimit(format!("metric {name:?} has {n} labels, limit {}", rules.label_limit)));
    }
    for (n, v) in labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
        if over(rules.label_name_length_limit, n.len()) {
            let (len, limit) = (n.len(), rules.label_name_length_limit);
            return Err(PageError::LabelLimit(format!(
                "metric {name:?} has a label name of {len} bytes, limit {limit}"
            )));
        }
        if over(rules.label_value_length_limit, v.len()) {
            let (len, limit) = (v.len(), rules.label_value_length_limit);
            return Err(PageError::LabelLimit(format!(
                "metric {name:?} has a value of label {n:?} of {len} bytes, limit {limit}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PageRules {
        PageRules {
            target: Labels::from_pairs([("job", "j"), ("instance", "i")]),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            metric_relabel: Arc::default(),
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
        }
    }

    fn show(batch: &MetricBatch) -> Vec<String> {
        let value = |v: f64| if trefoil_model::is_stale_nan(v) { "stale".to_owned() } else { v.to_string() };
        batch
            .floats
            .iter()
            .map(|p| format!("{} {} @{}", batch.series[p.series as usize], value(p.value), p.t_ms))
            .collect()
    }

    #[test]
    fn target_labels_and_clashes() {
        let mut reader = PageReader::default();
        let (batch, report) = reader.read(b"a{job=\"x\"} 1\nb 2 77\n", TextFormat::Classic, 1000, &rules());
        assert_eq!(
            show(&batch),
            [
                r#"{__name__="a", exported_job="x", instance="i", job="j"} 1 @1000"#,
                r#"{__name__="b", instance="i", job="j"} 2 @77"#
            ]
        );
        let report = report.unwrap();
        assert_eq!((report.scraped, report.kept, report.added), (2, 2, 2));
        let mut honor = rules();
        honor.honor_labels = true;
        let (batch, _) = PageReader::default().read(b"a{job=\"x\"} 1\n", TextFormat::Classic, 1000, &honor);
        assert_eq!(show(&batch), [r#"{__name__="a", instance="i", job="x"} 1 @1000"#]);
    }

    #[test]
    fn vanished_and_failed_series_go_stale() {
        let mut reader = PageReader::default();
        reader.read(b"a 1\nb 1\nt 1 5\n", TextFormat::Classic, 1000, &rules()).1.unwrap();
        let (batch, report) = reader.read(b"a 2\na 3\n", TextFormat::Classic, 2000, &rules());
        assert_eq!(report.unwrap().duplicates, 1);
        assert_eq!(
            show(&batch),
            [
                r#"{__name__="a", instance="i", job="j"} 2 @2000"#,
                r#"{__name__="b", instance="i", job="j"} stale @2000"#
            ]
        );
        let (batch, report) = reader.read(b"a 3\nbad line here\n", TextFormat::Classic, 3000, &rules());
        assert!(report.is_err());
        assert_eq!(show(&batch), [r#"{__name__="a", instance="i", job="j"} stale @3000"#]);
        assert_eq!(show(&reader.no_page(4000)), [""; 0]);
        reader.read(b"a 4\n", TextFormat::Classic, 5000, &rules()).1.unwrap();
        assert_eq!(show(&reader.no_page(6000)), [r#"{__name__="a", instance="i", job="j"} stale @6000"#]);
    }

    #[test]
    fn a_refused_page_is_reported_up_to_its_fault() {
        let limited = |set: fn(&mut PageRules)| {
            let mut rules = rules();
            set(&mut rules);
            rules
        };
        for (rules, page, want) in [
            (rules(), "a 1\nb 1\nbad line here\nc 1\n", (2, 2, 2)),
            (limited(|r| r.sample_limit = 1), "a 1\nb 1\nb 1\nc 1\n", (4, 4, 1)),
            (limited(|r| r.label_limit = 3), "a 1\nb{x=\"1\",y=\"2\"} 1\nc 1\n", (2, 1, 1)),
        ] {
            let mut reader = PageReader::default();
            assert!(reader.read(page.as_bytes(), TextFormat::Classic, 1, &rules).1.is_err(), "{page}");
            let report = reader.last_report();
            assert_eq!((report.scraped, report.kept, report.added), want, "{page}");
            reader.no_page(2);
            assert_eq!(reader.last_report().scraped, 0);
        }
    }

    #[test]
    fn limits_refuse_the_page() {
        for (set, page) in [
            ((|r: &mut PageRules| r.sample_limit = 1) as fn(&mut PageRules), "a 1\nb 1\n"),
            (|r| r.label_limit = 2, "a{x=\"1\"} 1\n"),
            (|r| r.label_name_length_limit = 8, "a{long_name=\"1\"} 1\n"),
            (|r| r.label_value_length_limit = 3, "a{x=\"1234\"} 1\n"),
        ] {
            let mut rules = rules();
            set(&mut rules);
            let (batch, report) = PageReader::default().read(page.as_bytes(), TextFormat::Classic, 1, &rules);
            assert!(report.is_err(), "{page}");
            assert!(batch.floats.iter().all(|p| trefoil_model::is_stale_nan(p.value)), "{page}");
        }
    }
}
