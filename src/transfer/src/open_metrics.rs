//! OpenMetrics files (and the classic text format) with timestamps, in and out.
//!
//! In: as `promtool tsdb create-blocks-from openmetrics` takes them. Read in pieces of whole lines, so that a file may
//! be larger than memory. Every sample needs a timestamp. Types, help texts and exemplars are taken as well.
//!
//! Out: sorted by metric name, then labels; all samples of a series together, by time; `# EOF` at the end. Families are
//! of type `unknown` unless gauge or counter is known and fits the name, so that each metric name stands alone. What
//! the format cannot say is left out: stale markers, native histograms and series without a name, which are counted, and start timestamps.

use std::io::{BufRead, Write};
use std::path::Path;

use trefoil_model::labels::{METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
use trefoil_model::{FloatHistogram, Labels, MetricKind, MetricMetadata, SampleBuffer, is_stale_nan};
use trefoil_scrape::exposition::{label_set, series_labels};
use trefoil_scrape::{Exposition, Line, TextFormat};

use crate::error::{Damage, TransferError};
use crate::export::{ExportReport, Exporter};
use crate::import::Importer;

/// Lines are read in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;
/// The longest line.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Imports a file. A line that is wrong is told as damage with its byte and the rest is imported; so is, with its line,
/// what stands behind `# EOF`, a file that cannot be read further, and a last line without a line feed, which may have
/// lost its end and is not taken. With OpenMetrics a missing `# EOF` is damage too, since the file may be cut.
pub fn import(
    path: &Path,
    from: &mut dyn BufRead,
    format: TextFormat,
    into: &mut Importer<'_>,
) -> Result<(), TransferError> {
    let mut family = Family::default();
    let (mut piece, mut at, mut lines) = (Vec::new(), 0u64, 0u64);
    let mut end = End::Open;
    while end == End::Open {
        let begin = at;
        piece.clear();
        while piece.len() < PIECE_BYTES {
            let before = piece.len();
            let n = match read_line(path, from, at, &mut piece) {
                Ok(n) => n,
                Err(error) => {
                    piece.truncate(before);
                    end = End::Told;
                    let reason = format!(
                        "line {}: cannot be read further: {}",
                        lines + 1,
                        trefoil_runtime::tasks::chain(&error)
                    );
                    into.damage(Damage { path: path.to_owned(), offset: at, len: 0, reason });
                    break;
                }
            };
            if n == 0 {
                end = End::Reached;
                break;
            }
            lines += 1;
            at += n as u64;
            let line = &piece[before..];
            if format == TextFormat::OpenMetrics && is_eof(line) {
                piece.truncate(before);
                end = End::Marked;
                break;
            }
            // A number that lost its end is a wrong number.
            if line.last() != Some(&b'\n') {
                let reason =
                    format!("line {lines}: the last line has no line feed; the file may be cut, so it is not taken");
                into.damage(Damage { path: path.to_owned(), offset: at - n as u64, len: n as u64, reason });
                piece.truncate(before);
                end = End::Told;
                break;
            }
        }
        import_piece(path, begin, &piece, format, &mut family, into)?;
    }
    match end {
        End::Marked => nothing_follows(path, from, at, lines, into),
        End::Reached if format == TextFormat::OpenMetrics => {
            let reason = "data does not end with # EOF; the file may be cut".to_owned();
            into.damage(Damage { path: path.to_owned(), offset: at, len: 0, reason });
        }
        _ => {}
    }
    family.finish(into)
}

/// Where the reading of a file stands.
#[derive(PartialEq, Eq)]
enum End {
    Open,
    /// At the end of the file.
    Reached,
    /// At `# EOF`.
    Marked,
    /// Before the end of the file, which was told as damage.
    Told,
}

/// Tells what stands behind `# EOF`; blank lines do no harm.
fn nothing_follows(path: &Path, from: &mut dyn BufRead, mut at: u64, mut lines: u64, into: &mut Importer<'_>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(path, from, at, &mut line);
        lines += 1;
        match read {
            Ok(0) => return,
            Ok(n) if line.trim_ascii().is_empty() => at += n as u64,
            read => {
                let reason = match read {
                    Ok(_) => "unexpected data after # EOF; from here on nothing is imported".to_owned(),
                    Err(error) => format!("cannot be read further: {}", trefoil_runtime::tasks::chain(&error)),
                };
                let reason = format!("line {lines}: {reason}");
                return into.damage(Damage { path: path.to_owned(), offset: at, len: 0, reason });
            }
        }
    }
}

fn is_eof(line: &[u8]) -> bool {
    matches!(line, b"# EOF\n" | b"# EOF")
}

fn read_line(path: &Path, from: &mut dyn BufRead, at: u64, out: &mut Vec<u8>) -> Result<usize, TransferError> {
    let mut limited = std::io::Read::take(from, LINE_BYTES_MAX as u64);
    let n = limited.read_until(b'\n', out).map_err(TransferError::file(path))?;
    if n == LINE_BYTES_MAX && out.last() != Some(&b'\n') {
        let reason = format!("byte {at}: a line is longer than {LINE_BYTES_MAX} bytes");
        return Err(TransferError::Format { path: path.to_owned(), reason });
    }
    Ok(n)
}

/// What was said of the family at hand.
#[derive(Default)]
struct Family(Option<MetricMetadata>);

impl Family {
    fn of(&mut self, name: &str, into: &mut Importer<'_>) -> Result<&mut MetricMetadata, TransferError> {
        if self.0.as_ref().is_none_or(|m| m.name != name) {
            self.finish(into)?;
        }
        Ok(self.0.get_or_insert_with(|| MetricMetadata {
            name: name.to_owned(),
            kind: MetricKind::Unknown,
            help: String::new(),
            unit: String::new(),
        }))
    }

    fn finish(&mut self, into: &mut Importer<'_>) -> Result<(), TransferError> {
        match self.0.take() {
            // Our own exports say `unknown` of most: that is no news.
            Some(m) if m.kind != MetricKind::Unknown || !m.help.is_empty() => into.metadata(m),
            _ => Ok(()),
        }
    }
}

fn import_piece(
    path: &Path,
    begin: u64,
    piece: &[u8],
    format: TextFormat,
    family: &mut Family,
    into: &mut Importer<'_>,
) -> Result<(), TransferError> {
    let mut offset = 0;
    let mut last: (String, Option<Labels>) = (String::new(), None);
    for line in piece.split_inclusive(|b| *b == b'\n') {
        let (at, len) = (begin + offset as u64, line.len() as u64);
        offset += line.len();
        let broken = |reason: String, into: &mut Importer<'_>| {
            into.damage(Damage { path: path.to_owned(), offset: at, len, reason });
        };
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let mut reader = match Exposition::new(text, format) {
            Ok(reader) => reader,
            Err(e) => {
                broken(e.reason, into);
                continue;
            }
        };
        match reader.next() {
            Some(Ok(Line::Sample { series, value, t_ms, exemplar })) => {
                let Some(t_ms) = t_ms else {
                    broken(format!("sample of {series} has no timestamp"), into);
                    continue;
                };
                if last.0 != series || last.1.is_none() {
                    last = (series.to_owned(), None);
                    match series_labels(series) {
                        Ok(labels) => last.1 = Some(labels.build()),
                        Err(reason) => {
                            broken(reason, into);
                            continue;
                        }
                    }
                }
                let labels = last.1.as_ref().expect("it was just set");
                into.float(labels, t_ms, 0, value)?;
                if let Some(e) = exemplar
                    && let Ok(of) = label_set(e.labels)
                {
                    into.exemplar(labels, e.t_ms.unwrap_or(t_ms), e.value, of)?;
                }
            }
            Some(Ok(Line::Type { name, kind })) => family.of(&name, into)?.kind = kind,
            Some(Ok(Line::Help { name, text })) => family.of(&name, into)?.help = text.into_owned(),
            Some(Ok(Line::Unit { name, unit })) => family.of(&name, into)?.unit = unit.to_owned(),
            // Each line is read alone, so that the end is missed behind every comment.
            Some(Err(e)) if e.reason == "data does not end with # EOF" => {}
            Some(Err(e)) => broken(e.reason, into),
            None => {}
        }
    }
    Ok(())
}

/// Writes the series of an exporter.
pub fn export(exporter: &Exporter<'_>, out: &mut dyn Write) -> Result<ExportReport, TransferError> {
    let mut report = ExportReport::default();
    let mut name = None;
    let mut head = Vec::new();
    exporter.for_each(&mut |labels, samples, first| {
        if labels.metric_name().is_empty() {
            report.left_out += samples.len() as u64;
            return Ok(());
        }
        if first {
            if name.as_deref() != Some(labels.metric_name()) {
                name = Some(labels.metric_name().to_owned());
                put_family(labels.metric_name(), exporter.metadata(labels.metric_name()).as_ref(), out)?;
            }
            head.clear();
            put_series(labels, &mut head)?;
            report.series += 1;
        }
        put_samples(&head, samples, out, &mut report)
    })?;
    out.write_all(b"# EOF\n")?;
    out.flush()?;
    Ok(report)
}

fn put_family(name: &str, metadata: Option<&MetricMetadata>, out: &mut dyn Write) -> std::io::Result<()> {
    // The name of a counter's family has no suffix, its sample's name has; all others are alike.
    let (family, kind) = match metadata.map(|m| m.kind) {
        Some(MetricKind::Gauge) => (name, "gauge"),
        Some(MetricKind::Counter) if name.ends_with("_total") => {
            (name.strip_suffix("_total").unwrap_or(name), "counter")
        }
        _ => (name, "unknown"),
    };
    let mut quoted = Vec::new();
    if is_legacy_metric_name(family) {
        quoted.extend_from_slice(family.as_bytes());
    } else {
        put_quoted(family, &mut quoted);
    }
    out.write_all(b"# TYPE ")?;
    out.write_all(&quoted)?;
    writeln!(out, " {kind}")?;
    if let Some(m) = metadata.filter(|m| !m.help.is_empty()) {
        out.write_all(b"# HELP ")?;
        out.write_all(&quoted)?;
        let help = m.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        writeln!(out, " {help}")?;
    }
    Ok(())
}

fn put_quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for b in text.bytes() {
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b => out.push(b),
        }
    }
    out.push(b'"');
}

/// `name{label="value"}`; names that are not of the classic form stand in quotes inside the braces.
pub(crate) fn put_series(labels: &Labels, out: &mut Vec<u8>) -> std::io::Result<()> {
    let name = labels.metric_name();
    let is_legacy = is_legacy_metric_name(name);
    if is_legacy {
        out.extend_from_slice(name.as_bytes());
    }
    let mut any = false;
    let mut next = |out: &mut Vec<u8>| out.push(if std::mem::replace(&mut any, true) { b',' } else { b'{' });
    if !is_legacy && !name.is_empty() {
        next(out);
        put_quoted(name, out);
    }
    for (n, v) in labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
        next(out);
        if is_legacy_label_name(n) {
            out.extend_from_slice(n.as_bytes());
        } else {
            put_quoted(n, out);
        }
        out.push(b'=');
        put_quoted(v, out);
    }
    if any {
        out.push(b'}');
    }
    Ok(())
}

/// The shortest text that reads back to the same float.
pub(crate) fn put_value(value: f64, out: &mut Vec<u8>) {
    let text = if value.is_nan() {
        "NaN"
    } else if value == f64::INFINITY {
        "+Inf"
    } else if value == f64::NEG_INFINITY {
        "-Inf"
    } else {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
        return;
    };
    out.extend_from_slice(text.as_bytes());
}

fn put_samples(
    head: &[u8],
    samples: &SampleBuffer,
    out: &mut dyn Write,
    report: &mut ExportReport,
) -> Result<(), TransferError> {
    let mut line = Vec::new();
    let mut histograms = samples.histograms.iter().map(|(i, _)| *i as usize).peekable();
    for (i, (t, value)) in samples.times.iter().zip(&samples.values).enumerate() {
        let is_histogram = histograms.next_if_eq(&i).is_some();
        if is_histogram || is_stale_nan(*value) {
            report.left_out += 1;
            continue;
        }
        line.clear();
        line.extend_from_slice(head);
        line.push(b' ');
        put_value(*value, &mut line);
        let (sign, ms) = (if *t < 0 { "-" } else { "" }, t.unsigned_abs());
        writeln!(line, " {sign}{}.{:03}", ms / 1000, ms % 1000)?;
        out.write_all(&line)?;
        report.samples += 1;
    }
    Ok(())
}

/// Writes samples for people: series, value, Unix milliseconds, and the start timestamp where there is one. Stale markers
/// are `stale`, NaNs with other bits than the usual ones have them in brackets, histograms have all their fields.
pub fn dump(exporter: &Exporter<'_>, out: &mut dyn Write) -> Result<ExportReport, TransferError> {
    let mut report = ExportReport::default();
    let mut head = Vec::new();
    exporter.for_each(&mut |labels, samples, first| {
        if first {
            head.clear();
            put_series(labels, &mut head)?;
            report.series += 1;
        }
        report.samples += samples.len() as u64;
        let mut histograms = samples.histograms.iter().peekable();
        for (i, (t, value)) in samples.times.iter().zip(&samples.values).enumerate() {
            out.write_all(&head)?;
            let histogram = histograms.next_if(|(at, _)| *at as usize == i);
            match histogram {
                _ if is_stale_nan(*value) => write!(out, " stale")?,
                Some((_, h)) => write!(out, " {}", histogram_text(h))?,
                None if value.is_nan() && value.to_bits() != NAN_BITS => {
                    write!(out, " NaN({:#018x})", value.to_bits())?
                }
                None => {
                    let mut text = vec![b' '];
                    put_value(*value, &mut text);
                    out.write_all(&text)?;
                }
            }
            match samples.starts.get(i) {
                Some(start) if *start != 0 => writeln!(out, " {t} start:{start}")?,
                _ => writeln!(out, " {t}")?,
            }
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(report)
}

/// The NaN that texts read as `NaN` become.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// All fields of a histogram; spans as `offset+length`.
fn histogram_text(h: &FloatHistogram) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{{count:{} sum:{} schema:{}", h.count, h.sum, h.schema);
    let mut put = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("a string takes all");
    if h.zero_count != 0.0 || h.zero_threshold != 0.0 {
        put(format_args!(" zero:{} up to {}", h.zero_count, h.zero_threshold));
    }
    let sides =
        [("positive", &h.positive_spans, &h.positive_buckets), ("negative", &h.negative_spans, &h.negative_buckets)];
    for (name, spans, buckets) in sides {
        if !spans.is_empty() || !buckets.is_empty() {
            let spans: Vec<String> = spans.iter().map(|s| format!("{}+{}", s.offset, s.length)).collect();
            let buckets: Vec<String> = buckets.iter().map(f64::to_string).collect();
            put(format_args!(" {name}:{}=[{}]", spans.join(","), buckets.join(",")));
        }
    }
    if !h.custom_values.is_empty() {
        let bounds: Vec<String> = h.custom_values.iter().map(f64::to_string).collect();
        put(format_args!(" bounds:[{}]", bounds.join(",")));
    }
    put(format_args!(" hint:{:?} {}}}", h.counter_reset_hint, if h.integer { "integer" } else { "float" }));
    text
}
