//! `trefoil tsdb import`, `export` and `dump`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::runtime::Handle;
use trefoil_model::{MetricBatch, MetricReader, MetricWriter, TenantId, WriteReport};
use trefoil_runtime::{RealVfs, data_dir};
use trefoil_scrape::TextFormat;
use trefoil_transfer::export::{ExportOptions, ExportReport, Exporter};
use trefoil_transfer::import::{BatchSink, ImportOptions, ImportReport, Importer};
use trefoil_transfer::remote_write::Sender;
use trefoil_transfer::{TransferError, input, json_lines, open_metrics, prometheus, remote_write};
use trefoil_tsdb::{Salvage, Tsdb};

use super::remote::RemoteReader;
use super::source::Source;
use super::{
    ExportArgs, ExportFormat, ImportArgs, ImportFormat, Place, Selection, Store, day_text, open, print, range, say,
    time_text,
};
use crate::cli::{Output, Target};

/// Findings that are printed one by one.
const FINDINGS_PRINTED: usize = 50;

/// A store of our own; flushes and merges go between the batches, as in a server.
struct Local<'a>(&'a Tsdb);

impl BatchSink for Local<'_> {
    fn write(&mut self, batch: MetricBatch) -> Result<WriteReport, TransferError> {
        let report = Handle::current().block_on(self.0.write(batch)).map_err(sink_error)?;
        if self.0.should_flush() {
            Handle::current().block_on(self.0.flush()).map_err(sink_error)?;
            self.0.merge_once().map_err(sink_error)?;
        }
        Ok(report)
    }
}

fn sink_error(error: impl std::error::Error + 'static) -> TransferError {
    TransferError::Sink(trefoil_runtime::tasks::chain(&error))
}

fn target(store: &Store, server: &str) -> Target {
    Target {
        server: server.trim_end_matches('/').to_owned(),
        authorization: store.authorization.clone(),
        ca_file: store.ca_file.clone(),
        insecure: store.insecure,
        output: Output::Json,
    }
}

fn sender(store: &Store, url: String) -> anyhow::Result<Sender> {
    Sender::check_url(&url)?;
    let client = crate::query::client(&target(store, ""))?;
    let (authorization, timeout) = (store.authorization.clone(), remote_write::REQUEST_TIMEOUT);
    Ok(Sender { client, url, authorization, runtime: Handle::current(), notice: say, timeout })
}

/// Imports files and folders.
pub(super) fn import(arguments: &ImportArgs) -> anyhow::Result<()> {
    let options = ImportOptions {
        tenant: TenantId(arguments.tenant),
        range: range(arguments.start.as_deref(), arguments.end.as_deref())?,
    };
    for path in arguments.paths.iter().filter(|p| p.as_os_str() != "-") {
        if !path.exists() {
            bail!("{} is not there", path.display());
        }
    }
    let report = match &arguments.store.server {
        Some(server) => {
            let url = format!("{}/api/v1/write", server.trim_end_matches('/'));
            let mut sink = sender(&arguments.store, url)?;
            import_into(arguments, options, &mut sink)?
        }
        None => {
            tell_foreign(&arguments.store.data);
            let opened = open(&arguments.store.data, true)?;
            let report = import_into(arguments, options, &mut Local(&opened.store))?;
            let handle = Handle::current();
            handle.block_on(opened.store.flush()).context("flush")?;
            while opened.store.merge_once().context("merge")? {}
            handle.block_on(opened.store.close());
            report
        }
    };
    tell(&report, arguments.json)
}

/// Says that a store is about to lie beside somebody else's database.
fn tell_foreign(data: &Path) {
    if data_dir::foreign_database(data).is_some() {
        let dir = data.display();
        say(&format!(
            "{dir} holds a Prometheus database: Trefoil keeps its own files beside it (metrics, events, FORMAT, LOCK) and \
             changes none of Prometheus'; what that database holds is imported with `trefoil tsdb import --data {dir} {dir}`"
        ));
    }
}

fn import_into(
    arguments: &ImportArgs,
    options: ImportOptions,
    sink: &mut dyn BatchSink,
) -> anyhow::Result<ImportReport> {
    let quiet = arguments.quiet;
    let mut progress = |text: &str| {
        if !quiet {
            say(text);
        }
    };
    let mut importer = Importer::new(options, sink, &mut progress);
    for path in &arguments.paths {
        import_path(path, arguments.format, &mut importer)?;
    }
    Ok(importer.finish()?)
}

fn import_path(path: &Path, format: ImportFormat, into: &mut Importer<'_>) -> anyhow::Result<()> {
    // What is packed is named by what is in it: `series.jsonl.gz`.
    let inner = path.extension().filter(|e| *e == "gz").and_then(|_| path.file_stem()).map_or(path, Path::new);
    let extension = inner.extension().and_then(|e| e.to_str()).unwrap_or("");
    let format = match format {
        ImportFormat::Auto if path.is_dir() => ImportFormat::Prometheus,
        ImportFormat::Auto if matches!(extension, "json" | "jsonl" | "ndjson") => ImportFormat::Json,
        ImportFormat::Auto => ImportFormat::Openmetrics,
        other => other,
    };
    if format == ImportFormat::Prometheus {
        let source = Source::begin(path)?;
        prometheus::data_dir::import(&RealVfs, path, into)?;
        return source.end();
    }
    into.say(&format!("file {}", path.display()));
    let from: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let mut from = input::unpacked(from).with_context(|| format!("read {}", path.display()))?;
    match format {
        ImportFormat::Json => json_lines::import(path, &mut from, into)?,
        ImportFormat::Text => open_metrics::import(path, &mut from, TextFormat::Classic, into)?,
        _ => open_metrics::import(path, &mut from, TextFormat::OpenMetrics, into)?,
    }
    Ok(())
}

fn tell(report: &ImportReport, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
        print(&serde_json::to_string_pretty(&json!({
            "series": report.series, "samples": report.samples, "rejected": report.rejected,
            "reasons": report.reasons, "deleted": report.deleted, "damage_count": report.damage_count,
            "damage": damage, "min_time_ms": report.times.map(|t| t.0), "max_time_ms": report.times.map(|t| t.1),
        }))?)?;
    } else {
        for damage in report.damage.iter().take(FINDINGS_PRINTED) {
            say(&format!("damage: {damage}"));
        }
        for reason in &report.reasons {
            say(&format!("refused: {reason}"));
        }
        let times = report.times.map(|(a, b)| format!(" from {} to {}", time_text(a), time_text(b)));
        let (series, samples) = (report.series, report.samples);
        print(&format!("{samples} samples of {series} series imported{}", times.unwrap_or_default()))?;
        if report.deleted > 0 {
            print(&format!("{} samples were deleted in the source and left out", report.deleted))?;
        }
    }
    match (report.damage_count, report.rejected) {
        (0, 0) => Ok(()),
        (0, rejected) if report.samples > 0 => {
            say(&format!("warning: {rejected} samples were refused; the rest is imported"));
            Ok(())
        }
        (0, rejected) => bail!("all {rejected} samples were refused"),
        (damage, rejected) => bail!("{damage} places were broken and {rejected} samples refused; the rest is imported"),
    }
}

/// Exports samples.
pub(super) fn export(arguments: &ExportArgs) -> anyhow::Result<()> {
    let is_replay = arguments.format == ExportFormat::RemoteWrite;
    if !is_replay && arguments.to.is_some() {
        crate::cli::wrong_usage("--to needs --format remote-write; a file is named by --output");
    }
    if is_replay && arguments.output.is_some() {
        crate::cli::wrong_usage(
            "--format remote-write sends to the URL of --to and writes no file: leave --output out",
        );
    }
    if let Some(url) = &arguments.to {
        Sender::check_url(url)?;
    }
    let mut damage = Ok(());
    let report = match &arguments.store.server {
        Some(server) => {
            let (reader, days) = RemoteReader::new(target(&arguments.store, server), arguments.selection.range()?)?;
            let report = export_from(arguments, &reader, days)?;
            if reader.left_out() > 0 {
                say(&format!("{} native histogram samples left out: the query API rounds them", reader.left_out()));
            }
            say(match reader.is_whole() {
                true => "warning: remote read has no start timestamps; export a snapshot with --data to lose nothing",
                false => {
                    "warning: a server's query API has no stale markers, NaN payloads and start timestamps; export a snapshot with --data to lose nothing"
                }
            });
            report
        }
        None => {
            let opened = open(&arguments.store.data, false)?;
            let days = opened.store.days(TenantId(arguments.selection.tenant));
            let salvage = opened.store.salvage();
            let report = export_from(arguments, &salvage, days)?;
            damage = tell_left_out(&salvage, &opened.store);
            report
        }
    };
    let ExportReport { series, samples, left_out, refused } = report;
    say(&format!("{samples} samples of {series} series exported"));
    if left_out > 0 {
        say(&format!(
            "{left_out} samples left out (stale markers, native histograms, no metric name): OpenMetrics cannot say them"
        ));
    }
    if refused > 0 {
        bail!("{refused} samples were refused by the receiver; the rest is there");
    }
    damage
}

fn exporter<'a>(selection: &Selection, store: &'a dyn MetricReader, days: Vec<i64>) -> anyhow::Result<Exporter<'a>> {
    let options = ExportOptions {
        tenant: TenantId(selection.tenant),
        selectors: selection.matchers()?,
        range: selection.range()?,
    };
    Ok(Exporter::new(store, options, days))
}

fn export_from(arguments: &ExportArgs, store: &dyn MetricReader, days: Vec<i64>) -> anyhow::Result<ExportReport> {
    let exporter = exporter(&arguments.selection, store, days)?;
    if let (ExportFormat::RemoteWrite, Some(url)) = (arguments.format, &arguments.to) {
        let report = remote_write::export(&exporter, &sender(&arguments.store, url.clone())?)?;
        tell_downsampled(&exporter);
        return Ok(report);
    }
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
            Box::new(BufWriter::with_capacity(1 << 20, file))
        }
        None => Box::new(BufWriter::with_capacity(1 << 16, std::io::stdout().lock())),
    };
    let report = match arguments.format {
        ExportFormat::Json => json_lines::export(&exporter, &mut out)?,
        _ => open_metrics::export(&exporter, &mut out)?,
    };
    tell_downsampled(&exporter);
    Ok(report)
}

/// Says that samples are not as they were written, when they are not.
fn tell_downsampled(exporter: &Exporter<'_>) {
    let (series, stretches) = exporter.downsampled();
    if stretches > 0 {
        say(&format!(
            "warning: {series} series are downsampled in {stretches} stretches: their kept samples are exported, the counts \
             and sums of what was dropped are not; a backup keeps them"
        ));
    }
}

/// Prints samples.
pub(super) fn dump(selection: &Selection, place: &Place) -> anyhow::Result<()> {
    let opened = open(&place.data, false)?;
    let days = opened.store.days(TenantId(selection.tenant));
    let salvage = opened.store.salvage();
    let exporter = exporter(selection, &salvage, days)?;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    if place.json {
        json_lines::export(&exporter, &mut out)?;
    } else {
        open_metrics::dump(&exporter, &mut out)?;
    }
    out.flush().context("write the samples")?;
    tell_downsampled(&exporter);
    tell_left_out(&salvage, &opened.store)
}

/// Names what was damaged on standard error; an error when samples were left out.
fn tell_left_out(salvage: &Salvage<'_>, store: &Tsdb) -> anyhow::Result<()> {
    let (left_out, more) = salvage.left_out();
    let journal = store.journal_findings();
    for place in left_out.iter().take(FINDINGS_PRINTED) {
        let (part, day, what) = (place.part, day_text(place.day), &place.place);
        let series = match place.series {
            0 => "none of its series is there".to_owned(),
            n => format!("{n} series are not whole"),
        };
        say(&format!("part {part} of {day}: {what}; {series}"));
    }
    journal.iter().for_each(|finding| say(finding));
    // Nothing tells a write that was cut off from damage, so this alone is no failure.
    store.journal_torn().iter().for_each(|torn| say(torn));
    let places = left_out.len() as u64 + more + journal.len() as u64;
    if places > 0 {
        bail!("{places} places are damaged and their samples left out; `trefoil tsdb verify` names all of them");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trefoil_model::{FloatPoint, Labels};

    use super::*;

    #[test]
    fn a_receiver_that_hangs_is_given_up() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // Connections wait in the queue of the listener; nobody answers.
        let mut sender = Sender {
            client: reqwest::Client::new(),
            url: format!("http://{}/api/v1/write", listener.local_addr().unwrap()),
            authorization: None,
            runtime: runtime.handle().clone(),
            notice: |_| {},
            timeout: Duration::from_millis(50),
        };
        let mut batch = MetricBatch::default();
        let series = batch.add_series(Labels::from_pairs([("a".to_owned(), "b".to_owned())]));
        batch.floats.push(FloatPoint { series, t_ms: 1, start_ms: 0, value: 1.0 });
        let error = sender.write(batch).err().unwrap().to_string();
        assert!(error.contains("no answer within 50ms") && error.contains("after 2 attempts"), "{error}");
    }
}
