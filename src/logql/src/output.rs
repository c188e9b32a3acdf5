//! What a query answers.

use std::collections::BTreeMap;

use trefoil_model::Labels;

/// An answer with what it cost.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The result.
    pub output: Output,
    /// What was read for it.
    pub stats: Stats,
}

/// Results by kind.
#[derive(Debug, Clone)]
pub enum Output {
    /// Lines of a log query. Entries stand in the query's direction within a stream; streams in the order of their
    /// first entry.
    Streams(Vec<StreamResult>),
    /// Of an instant query.
    Vector {
        /// Time of the query in Unix nanoseconds.
        time_ns: i64,
        /// Sorted by labels, unless sort, topk or bottomk order it.
        samples: Vec<VectorSample>,
    },
    /// Of a range query, sorted by labels.
    Matrix(Vec<MatrixSeries>),
    /// Of an instant query of literals.
    Scalar {
        /// Time of the query in Unix nanoseconds.
        time_ns: i64,
        /// The number.
        value: f64,
    },
}

/// Lines of one stream.
#[derive(Debug, Clone)]
pub struct StreamResult {
    /// Stream labels after the pipeline, names underscored.
    pub labels: Labels,
    /// Its lines.
    pub entries: Vec<Entry>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Unix nanoseconds.
    pub ts_ns: i64,
    /// The line after the pipeline.
    pub line: String,
    /// Labels from structured metadata, sorted; values may be empty.
    pub structured_metadata: Vec<(String, String)>,
    /// Labels that the pipeline made, the error labels included, sorted; values may be empty.
    pub parsed: Vec<(String, String)>,
}

/// Lines that share all labels: the form without `categorize-labels`.
#[derive(Debug, Clone)]
pub struct MergedStream<'a> {
    /// Stream labels, metadata and parsed labels, sorted; values may be empty.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Time and line.
    pub values: Vec<(i64, &'a str)>,
}

/// Joins the three kinds of labels; lines that then differ in labels become streams of their own.
pub fn merge_labels(streams: &[StreamResult]) -> Vec<MergedStream<'_>> {
    let mut merged: Vec<MergedStream<'_>> = Vec::new();
    let mut known: BTreeMap<Vec<(&str, &str)>, usize> = BTreeMap::new();
    for stream in streams {
        for entry in &stream.entries {
            let extra = entry.structured_metadata.iter().chain(&entry.parsed);
            let mut labels: Vec<(&str, &str)> =
                stream.labels.iter().chain(extra.map(|(n, v)| (n.as_str(), v.as_str()))).collect();
            labels.sort_unstable();
            let at = *known.entry(labels).or_insert_with_key(|labels| {
                merged.push(MergedStream { labels: labels.clone(), values: Vec::new() });
                merged.len() - 1
            });
            merged[at].values.push((entry.ts_ns, &entry.line));
        }
    }
    merged
}

/// A sample of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Labels.
    pub labels: Labels,
    /// Value.
    pub value: f64,
}

/// A series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Labels.
    pub labels: Labels,
    /// Unix nanoseconds and value, at least one.
    pub points: Vec<(i64, f64)>,
}

/// What a query read, for `stats` of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Lines that reached the pipeline.
    pub lines_processed: u64,
    /// Bytes of these lines.
    pub bytes_processed: u64,
    /// Bytes of the structured metadata that the pipeline looked at.
    pub metadata_bytes: u64,
    /// Lines or samples that passed it.
    pub lines_passed: u64,
    /// Blocks that the store decoded.
    pub blocks: u64,
    /// Records that the store looked at.
    pub records: u64,
    /// Entries of the answer.
    pub entries_returned: u64,
}
