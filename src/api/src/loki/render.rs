//! Answers of LogQL in Loki's JSON.

use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple};
use serde::{Serialize, Serializer};
use trefoil_logql::{Answer, Entry, MatrixSeries, Output, StreamResult, VectorSample, merge_labels};
use trefoil_model::Labels;

use super::stats;

/// The flag that keeps stream labels, structured metadata and parsed labels apart.
pub(super) const CATEGORIZE_LABELS: &str = "categorize-labels";

/// The body of `query` and `query_range`.
///
/// `took` is the time the query took, for `stats`.
pub(super) fn answer(answer: &Answer, categorize: bool, took: stats::Took) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Envelope {
        status: "success",
        data: Data {
            result_type: match answer.output {
                Output::Streams(_) => "streams",
                Output::Vector { .. } => "vector",
                Output::Matrix(_) => "matrix",
                Output::Scalar { .. } => "scalar",
            },
            result: ResultOf { output: &answer.output, categorize },
            encoding_flags: if categorize { &[CATEGORIZE_LABELS] } else { &[] },
            stats: stats::of(&answer.stats, took),
        },
    })
}

/// A message of `tail`; `dropped`: stream and time of lines that were left out.
pub(super) fn tail(
    streams: &[StreamResult],
    dropped: &[(Labels, i64)],
    categorize: bool,
) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Dropped<'a> {
        timestamp: String,
        labels: LabelsOf<'a>,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        streams: Streams<'a>,
        #[serde(rename = "encodingFlags", skip_serializing_if = "<[&str]>::is_empty")]
        encoding_flags: &'static [&'static str],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        dropped_entries: Vec<Dropped<'a>>,
    }
    serde_json::to_string(&Message {
        streams: Streams { streams, categorize },
        encoding_flags: if categorize { &[CATEGORIZE_LABELS] } else { &[] },
        dropped_entries: dropped
            .iter()
            .map(|(labels, ns)| Dropped { timestamp: ns.to_string(), labels: LabelsOf(labels) })
            .collect(),
    })
}

/// A number as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it.
pub(super) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    status: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    result_type: &'static str,
    result: ResultOf<'a>,
    #[serde(rename = "encodingFlags", skip_serializing_if = "<[&str]>::is_empty")]
    encoding_flags: &'static [&'static str],
    stats: serde_json::Value,
}

struct ResultOf<'a> {
    output: &'a Output,
    categorize: bool,
}

impl Serialize for ResultOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.output {
            Output::Streams(streams) => Streams { streams, categorize: self.categorize }.serialize(serializer),
            Output::Vector { time_ns, samples } => {
                let mut list = serializer.serialize_seq(Some(samples.len()))?;
                for sample in samples {
                    list.serialize_element(&VectorOf { time_ns: *time_ns, sample })?;
                }
                list.end()
            }
            Output::Matrix(series) => {
                let mut list = serializer.serialize_seq(Some(series.len()))?;
                for series in series {
                    list.serialize_element(&MatrixOf(series))?;
                }
                list.end()
            }
            Output::Scalar { time_ns, value } => Point(*time_ns, *value).serialize(serializer),
        }
    }
}

struct VectorOf<'a> {
    time_ns: i64,
    sample: &'a VectorSample,
}

impl Serialize for VectorOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("metric", &LabelsOf(&self.sample.labels))?;
        map.serialize_entry("value", &Point(self.time_ns, self.sample.value))?;
        map.end()
    }
}

struct MatrixOf<'a>(&'a MatrixSeries);

impl Serialize for MatrixOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("metric", &LabelsOf(&self.0.labels))?;
        let points: Vec<Point> = self.0.points.iter().map(|(t, v)| Point(*t, *v)).collect();
        map.serialize_entry("values", &points)?;
        map.end()
    }
}

/// Nanoseconds and a value, as `[seconds, "value"]` with whole milliseconds.
struct Point(i64, f64);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.div_euclid(1_000_000);
        let mut pair = serializer.serialize_tuple(2)?;
        if ms % 1000 == 0 {
            pair.serialize_element(&(ms / 1000))?;
        } else {
            pair.serialize_element(&(ms as f64 / 1000.0))?;
        }
        pair.serialize_element(&number(self.1))?;
        pair.end()
    }
}

/// A label set as an object.
pub(super) struct LabelsOf<'a>(pub(super) &'a Labels);

impl Serialize for LabelsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0)
    }
}

struct Pairs<'a>(&'a [(String, String)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(n, v)| (n, v)))
    }
}

struct Streams<'a> {
    streams: &'a [StreamResult],
    categorize: bool,
}

impl Serialize for Streams<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.categorize {
            let mut list = serializer.serialize_seq(Some(self.streams.len()))?;
            for stream in self.streams {
                list.serialize_element(&CategorizedStream(stream))?;
            }
            return list.end();
        }
        let merged = merge_labels(self.streams);
        let mut list = serializer.serialize_seq(Some(merged.len()))?;
        for stream in &merged {
            list.serialize_element(&PlainStream { labels: &stream.labels, values: &stream.values })?;
        }
        list.end()
    }
}

struct PlainStream<'a> {
    labels: &'a [(&'a str, &'a str)],
    values: &'a [(i64, &'a str)],
}

impl Serialize for PlainStream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Object<'a>(&'a [(&'a str, &'a str)]);
        impl Serialize for Object<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map(self.0.iter().copied())
            }
        }
        struct Values<'a>(&'a [(i64, &'a str)]);
        impl Serialize for Values<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|(t, line)| (t.to_string(), line)))
            }
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("stream", &Object(self.labels))?;
        map.serialize_entry("values", &Values(self.values))?;
        map.end()
    }
}

struct CategorizedStream<'a>(&'a StreamResult);

impl Serialize for CategorizedStream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("stream", &LabelsOf(&self.0.labels))?;
        let values: Vec<Triple<'_>> = self.0.entries.iter().map(Triple).collect();
        map.serialize_entry("values", &values)?;
        map.end()
    }
}

struct Triple<'a>(&'a Entry);

impl Serialize for Triple<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Extra<'a> {
            #[serde(rename = "structuredMetadata", skip_serializing_if = "Option::is_none")]
            structured_metadata: Option<Pairs<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parsed: Option<Pairs<'a>>,
        }
        fn some(pairs: &[(String, String)]) -> Option<Pairs<'_>> {
            (!pairs.is_empty()).then_some(Pairs(pairs))
        }
        let extra = Extra { structured_metadata: some(&self.0.structured_metadata), parsed: some(&self.0.parsed) };
        let mut triple = serializer.serialize_tuple(3)?;
        triple.serialize_element(&self.0.ts_ns.to_string())?;
        triple.serialize_element(&self.0.line)?;
        triple.serialize_element(&extra)?;
        triple.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: Output, categorize: bool, want: &str) {
        let body =
            answer(&Answer { output, stats: trefoil_logql::Stats::default() }, categorize, stats::Took::default())
                .unwrap();
        let body = String::from_utf8(body).unwrap();
        let got = body.split(",\"stats\"").next().unwrap();
        assert_eq!(got, want, "{body}");
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn streams() -> Output {
        let entry = |ts_ns, line: &str, metadata: &[(&str, &str)], parsed: &[(&str, &str)]| Entry {
            ts_ns,
            line: line.to_owned(),
            structured_metadata: pairs(metadata),
            parsed: pairs(parsed),
        };
        Output::Streams(vec![StreamResult {
            labels: Labels::from_pairs([("app", "a")]),
            entries: vec![entry(3, "x\"y", &[("trace_id", "1")], &[]), entry(2, "z", &[], &[("k", "v")])],
        }])
    }

    #[test]
    fn lines_with_labels_merged() {
        check(
            streams(),
            false,
            r#"{"status":"success","data":{"resultType":"streams","result":[{"stream":{"app":"a","trace_id":"1"},"values":[["3","x\"y"]]},{"stream":{"app":"a","k":"v"},"values":[["2","z"]]}]"#,
        );
    }

    #[test]
    fn lines_with_labels_apart() {
        check(
            streams(),
            true,
            r#"{"status":"success","data":{"resultType":"streams","result":[{"stream":{"app":"a"},"values":[["3","x\"y",{"structuredMetadata":{"trace_id":"1"}}],["2","z",{"parsed":{"k":"v"}}]]}],"encodingFlags":["categorize-labels"]"#,
        );
    }

    #[test]
    fn numbers() {
        check(
            Output::Vector {
                time_ns: 1_500_000_000,
                samples: vec![VectorSample { labels: Labels::empty(), value: f64::INFINITY }],
            },
            false,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1.5,"+Inf"]}]"#,
        );
        check(
            Output::Matrix(vec![MatrixSeries {
                labels: Labels::from_pairs([("l", "x")]),
                points: vec![(60_000_000_000, 0.5), (120_000_000_000, 1e21)],
            }]),
            false,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"l":"x"},"values":[[60,"0.5"],[120,"1000000000000000000000"]]}]"#,
        );
        check(
            Output::Scalar { time_ns: 0, value: 2.0 },
            false,
            r#"{"status":"success","data":{"resultType":"scalar","result":[0,"2"]"#,
        );
    }
}
