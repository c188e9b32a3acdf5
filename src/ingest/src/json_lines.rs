//! JSON lines: one document a line (<https://docs.victoriametrics.com/victorialogs/data-ingestion/#json-stream-api>).

use trefoil_model::{LogBatch, WriteReport};

use crate::documents::{Builder, Defaults, Envelope, Mapping, STREAM_FIELDS, TimeUnit, parse_object};
use crate::ingest::Context;
use crate::metric_limits::shorten;

/// What the fields of a line are by default.
pub(crate) const DEFAULTS: Defaults<'_> = Defaults {
    message: &["_msg", "message", "msg", "log"],
    time: &["_time", "@timestamp", "timestamp", "time", "ts"],
    streams: &STREAM_FIELDS,
    severity: &["log.level"],
    unit: TimeUnit::ByMagnitude,
};

/// What came out of documents, whatever door they came in by.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) batch: LogBatch,
    pub(crate) report: WriteReport,
    /// Every document said its time.
    pub(crate) have_own_times: bool,
}

/// Decodes an inflated body. A line that cannot be taken is refused alone.
pub(crate) fn decode(bytes: &[u8], mapping: &Mapping, context: &Context) -> Decoded {
    // A byte that is not UTF-8 becomes U+FFFD instead of costing its line.
    let text = String::from_utf8_lossy(bytes);
    let mut builder = Builder::new(context, mapping);
    let mut decoded = Decoded { have_own_times: true, ..Decoded::default() };
    let mut fields = Vec::with_capacity(16);
    for (number, line) in text.split('\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        fields.clear();
        let added = parse_object(line, context.limits.json_depth_max, &mut fields)
            .and_then(|()| builder.add(&mut fields, line, &Envelope::default()));
        match added {
            Ok(placed) => decoded.have_own_times &= placed.has_own_time,
            Err(reason) => {
                decoded.report.reject(|| format!("line {} {:?}: {reason}", number + 1, shorten(line)));
            }
        }
    }
    decoded.batch = builder.finish();
    decoded
}
