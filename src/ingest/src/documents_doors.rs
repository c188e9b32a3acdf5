//! The doors of documents: from headers and body to what was stored.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use trefoil_model::{Labels, LogBatch, WriteReport};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::answer::Answer;
use crate::body::{Encoding, reserve};
use crate::bulk::{self, Action, Item};
use crate::documents::{FieldOptions, Mapping};
use crate::hec::{self, Fault, Metadata};
use crate::ingest::{Context, Ingest, finish, merge, refused};
use crate::journald::{self, Entry};
use crate::json_lines::{self, Decoded};
use crate::received::{self, Received};
use crate::{IngestError, counters, datadog, gelf};

/// Memory that decoding takes, as a multiple of the inflated body.
const DOCUMENTS_FACTOR: u64 = 6;

/// What became of a HEC request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HecOutcome {
    /// The first event that was refused, with its number; all good ones are stored.
    pub fault: Option<(Fault, usize)>,
}

impl Ingest {
    /// Takes an Elasticsearch `_bulk` request; answers what became of each action, in order.
    ///
    /// Errors: the request as a whole was refused, nothing is stored.
    pub async fn bulk(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        default_index: Option<String>,
        options: FieldOptions,
    ) -> Result<Vec<Item>, IngestError> {
        const PROTOCOL: &str = counters::ELASTICSEARCH;
        counters::bytes(PROTOCOL, body.len() as u64);
        let fingerprint = fingerprint(PROTOCOL, &body, &(&default_index, &options));
        let decode = async {
            let encoding = Encoding::from_headers(headers)?;
            self.decode(encoding, body, DOCUMENTS_FACTOR, move |context, bytes| {
                let mapping = Mapping::new(&options, &bulk::DEFAULTS);
                bulk::decode(&bytes, default_index.as_deref(), &mapping, context)
            })
            .await
        };
        let result = match decode.await {
            Ok((decoded, _memory)) => self.store_items(fingerprint, decoded).await,
            Err(error) => Err(error),
        };
        self.note(PROTOCOL, result)
    }

    /// Takes one document of Elasticsearch's `_doc` and `_create`.
    ///
    /// Errors: the request as a whole was refused.
    pub async fn document(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        action: Action,
        (index, id): (String, Option<String>),
        options: FieldOptions,
    ) -> Result<Item, IngestError> {
        const PROTOCOL: &str = counters::ELASTICSEARCH;
        counters::bytes(PROTOCOL, body.len() as u64);
        let fingerprint = fingerprint(PROTOCOL, &body, &(&index, &id, &options));
        let decode = async {
            let encoding = Encoding::from_headers(headers)?;
            self.decode(encoding, body, DOCUMENTS_FACTOR, move |context, bytes| {
                let mapping = Mapping::new(&options, &bulk::DEFAULTS);
                Ok(bulk::decode_one(&bytes, action, &index, id.as_deref(), &mapping, context))
            })
            .await
        };
        let result = match decode.await {
            Ok((decoded, _memory)) => self.store_items(fingerprint, decoded).await,
            Err(error) => Err(error),
        };
        self.note(PROTOCOL, result.map(|mut items| items.remove(0)))
    }

    async fn store_items(&self, fingerprint: u64, decoded: bulk::Decoded) -> Result<Vec<Item>, IngestError> {
        const PROTOCOL: &str = counters::ELASTICSEARCH;
        let bulk::Decoded { batch, mut items, times, ids, have_own_times } = decoded;
        let refused = items.iter().filter(|i| matches!(i.outcome, bulk::Outcome::Failed { .. })).count() as u64;
        let unchanged = items.iter().filter(|i| i.outcome == bulk::Outcome::Unchanged).count() as u64;
        counters::rejected(PROTOCOL, "invalid", refused);
        counters::repeated(PROTOCOL, unchanged);
        let report = self.store(PROTOCOL, Some(fingerprint).filter(|_| have_own_times), batch).await?;
        if report.rejected > 0 {
            bulk::mark_rejected(&mut items, times, report.rejected, &report.reasons);
        } else {
            let now_ms = self.context.clock.now_ms();
            for (id, content) in ids {
                self.context.ids.put(id, content, now_ms);
            }
        }
        if refused + report.rejected > 0 {
            let mut shown = WriteReport::default();
            for item in &items {
                if let bulk::Outcome::Failed { reason, .. } = &item.outcome {
                    shown.reject(|| reason.clone());
                }
            }
            self.log_refusal(PROTOCOL, &shown);
        }
        Ok(items)
    }

    /// Takes JSON lines (`POST /insert/jsonline`).
    pub async fn json_lines(&self, headers: &HeaderMap, body: Bytes, options: FieldOptions) -> Answer {
        const PROTOCOL: &str = counters::JSON_LINES;
        self.documents(PROTOCOL, headers, body, options, StatusCode::OK, |bytes, options, context| {
            Ok(json_lines::decode(bytes, &Mapping::new(options, &json_lines::DEFAULTS), context))
        })
        .await
    }

    /// Takes Datadog's logs (`POST /api/v2/logs`).
    pub async fn datadog_logs(&self, headers: &HeaderMap, body: Bytes, options: FieldOptions) -> Answer {
        const PROTOCOL: &str = counters::DATADOG;
        self.documents(PROTOCOL, headers, body, options, StatusCode::ACCEPTED, |bytes, options, context| {
            datadog::decode(bytes, &Mapping::new(options, &datadog::DEFAULTS), context)
        })
        .await
    }

    /// Takes documents of which no single one is answered: all good ones are stored, and bad ones are told by a 400.
    async fn documents(
        &self,
        protocol: &'static str,
        headers: &HeaderMap,
        body: Bytes,
        options: FieldOptions,
        good: StatusCode,
        decode: impl FnOnce(&[u8], &FieldOptions, &Context) -> Result<Decoded, IngestError> + Send + 'static,
    ) -> Answer {
        counters::bytes(protocol, body.len() as u64);
        let fingerprint = fingerprint(protocol, &body, &options);
        let work = async {
            let encoding = Encoding::from_headers(headers)?;
            let (decoded, _memory) = self
                .decode(encoding, body, DOCUMENTS_FACTOR, move |context, bytes| decode(&bytes, &options, context))
                .await?;
            self.store_decoded(protocol, fingerprint, decoded).await
        };
        let answer = match work.await {
            Ok(report) if report.rejected == 0 && good == StatusCode::ACCEPTED => {
                Answer::with_body(good, "application/json", "{}")
            }
            Ok(report) if report.rejected == 0 => Answer::empty(good),
            Ok(report) => {
                let reasons = report.reasons.join("; ");
                let text = format!("{} entries were rejected, all others are stored: {reasons}", report.rejected);
                Answer::text(StatusCode::BAD_REQUEST, &text)
            }
            Err(error) => refused(protocol, &error),
        };
        finish(protocol, answer)
    }

    /// Takes GELF over HTTP (`POST /gelf`): a message, or several, each on a line of its own.
    pub async fn gelf_http(&self, headers: &HeaderMap, body: Bytes) -> Answer {
        const PROTOCOL: &str = counters::GELF;
        counters::bytes(PROTOCOL, body.len() as u64);
        let fingerprint = fingerprint(PROTOCOL, &body, &());
        let work = async {
            // As over UDP, the first bytes say how a body is compressed when its headers do not.
            let encoding = match Encoding::from_headers(headers)? {
                Encoding::Identity => gelf::compression(&body),
                said => said,
            };
            let (messages, _memory) = self
                .decode(encoding, body, DOCUMENTS_FACTOR, |context, bytes| Ok(gelf_messages(&bytes, context)))
                .await?;
            let mut report = WriteReport::default();
            let mut records = Vec::new();
            for message in messages {
                match message {
                    Ok(record) => records.push(record),
                    Err(error) => report.reject(|| error.to_string()),
                }
            }
            counters::rejected(PROTOCOL, "invalid", report.rejected);
            // A message without a time of its own may be meant twice.
            let have_own_times = records.iter().all(|r| r.record.time_ns != 0);
            let batched = received::batch(records, &self.context);
            counters::rejected(PROTOCOL, "invalid", batched.report.rejected);
            merge(&mut report, batched.report);
            let fingerprint = Some(fingerprint).filter(|_| have_own_times);
            merge(&mut report, self.store(PROTOCOL, fingerprint, batched.batch).await?);
            if report.rejected > 0 {
                self.log_refusal(PROTOCOL, &report);
            }
            Ok(report)
        };
        let answer = match work.await {
            Ok(report) if report.rejected == 0 => Answer::empty(StatusCode::ACCEPTED),
            Ok(report) => {
                let reasons = report.reasons.join("; ");
                let text = format!("{} messages were rejected, all others are stored: {reasons}", report.rejected);
                Answer::text(StatusCode::BAD_REQUEST, &text)
            }
            Err(error) => refused(PROTOCOL, &error),
        };
        finish(PROTOCOL, answer)
    }

    /// Takes events of Splunk's HEC.
    ///
    /// Errors: the request as a whole was refused.
    pub async fn hec_events(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        metadata: Metadata,
        options: FieldOptions,
    ) -> Result<HecOutcome, IngestError> {
        self.hec(headers, body, metadata, options, hec::decode_events).await
    }

    /// Takes bare lines of Splunk's HEC. Errors: as [`Ingest::hec_events`].
    pub async fn hec_raw(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        metadata: Metadata,
        options: FieldOptions,
    ) -> Result<HecOutcome, IngestError> {
        self.hec(headers, body, metadata, options, |bytes, metadata, mapping, context| {
            let decoded = hec::decode_raw(bytes, metadata, mapping, context);
            let nothing = decoded.batch.groups.is_empty() && decoded.report.rejected == 0;
            (decoded, nothing.then_some((Fault::NoData, 0)))
        })
        .await
    }

    async fn hec(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        metadata: Metadata,
        options: FieldOptions,
        decode: impl FnOnce(&[u8], &Metadata, &Mapping, &Context) -> (Decoded, Option<(Fault, usize)>) + Send + 'static,
    ) -> Result<HecOutcome, IngestError> {
        const PROTOCOL: &str = counters::SPLUNK_HEC;
        counters::bytes(PROTOCOL, body.len() as u64);
        let fingerprint = fingerprint(PROTOCOL, &body, &(&metadata, &options));
        let work = async {
            let encoding = Encoding::from_headers(headers)?;
            let ((decoded, fault), _memory) = self
                .decode(encoding, body, DOCUMENTS_FACTOR, move |context, bytes| {
                    let mapping = Mapping::new(&options, &hec::DEFAULTS);
                    Ok(decode(&bytes, &metadata, &mapping, context))
                })
                .await?;
            let report = self.store_decoded(PROTOCOL, fingerprint, decoded).await?;
            let fault = fault.or_else(|| (report.rejected > 0).then_some((Fault::InvalidData, 0)));
            Ok(HecOutcome { fault })
        };
        let result = work.await;
        self.note(PROTOCOL, result)
    }

    /// Takes entries of a journal as they arrive.
    ///
    /// Errors: nothing of them is stored.
    pub async fn journal_entries(
        &self,
        entries: Vec<Entry>,
        options: &FieldOptions,
    ) -> Result<WriteReport, IngestError> {
        const PROTOCOL: &str = counters::JOURNALD;
        let bytes: usize = entries.iter().map(Entry::heap_bytes).sum();
        let _memory = reserve(&self.accountant, bytes as u64 * 2)?;
        let mapping = Mapping::new(options, &journald::DEFAULTS);
        let converted = journald::convert(&entries, &mapping, &self.context);
        drop(entries);
        counters::repeated(PROTOCOL, converted.repeated);
        counters::rejected(PROTOCOL, "invalid", converted.report.rejected);
        let mut report = converted.report;
        merge(&mut report, self.store(PROTOCOL, None, converted.batch).await?);
        let now_ms = self.context.clock.now_ms();
        for cursor in converted.cursors {
            self.context.cursors.put(cursor, 0, now_ms);
        }
        if report.rejected > 0 {
            self.log_refusal(PROTOCOL, &report);
        }
        Ok(report)
    }

    /// Notes bytes and the end of a journal's upload.
    pub fn journal_answered(&self, bytes: u64, status: StatusCode) {
        counters::bytes(counters::JOURNALD, bytes);
        counters::request(counters::JOURNALD, status.as_u16());
    }

    async fn store_decoded(
        &self,
        protocol: &'static str,
        fingerprint: u64,
        decoded: Decoded,
    ) -> Result<WriteReport, IngestError> {
        counters::rejected(protocol, "invalid", decoded.report.rejected);
        let mut report = decoded.report;
        let fingerprint = Some(fingerprint).filter(|_| decoded.have_own_times);
        merge(&mut report, self.store(protocol, fingerprint, decoded.batch).await?);
        if report.rejected > 0 {
            self.log_refusal(protocol, &report);
        }
        Ok(report)
    }

    /// Stores a batch. A request that says the times of all its records and was stored whole minutes ago, byte for byte,
    /// was sent again because its answer was lost: it is answered as it was and not stored twice.
    async fn store(
        &self,
        protocol: &'static str,
        fingerprint: Option<u64>,
        batch: LogBatch,
    ) -> Result<WriteReport, IngestError> {
        if batch.groups.is_empty() {
            return Ok(WriteReport::default());
        }
        let now_ms = self.context.clock.now_ms();
        if let Some(key) = fingerprint
            && self.context.requests.get(key, now_ms).is_some()
        {
            let accepted = batch.record_count() as u64;
            counters::repeated(protocol, accepted);
            return Ok(WriteReport { accepted, ..WriteReport::default() });
        }
        let stored = self.events.write_logs(batch).await?;
        counters::log_records(protocol, stored.accepted);
        counters::rejected(protocol, "store", stored.rejected);
        if let Some(key) = fingerprint
            && stored.rejected == 0
        {
            self.context.requests.put(key, 0, now_ms);
        }
        Ok(stored)
    }

    /// Counts how a request was answered.
    fn note<T>(&self, protocol: &'static str, result: Result<T, IngestError>) -> Result<T, IngestError> {
        match &result {
            Ok(_) => counters::request(protocol, 200),
            Err(error) => {
                counters::rejected(protocol, error.reason(), 1);
                counters::request(protocol, error.status().as_u16());
            }
        }
        result
    }
}

/// The messages of a body: one, which may be spread over lines, or one on each line.
fn gelf_messages(bytes: &[u8], context: &Context) -> Vec<Result<Received, IngestError>> {
    let labels = Labels::empty();
    let now_ns = context.clock.now_ns();
    let decode = |json: &[u8]| gelf::decode(json, &labels, context.limits.json_depth_max, now_ns);
    let mut lines = bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty());
    let is_list = lines.next().is_some_and(|first| first.trim_ascii().ends_with(b"}")) && lines.next().is_some();
    if !is_list {
        return vec![decode(bytes)];
    }
    bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).map(decode).collect()
}

/// A number for a request: what it is sent to, how it is to be read, and its body.
fn fingerprint(protocol: &str, body: &[u8], options: &impl std::fmt::Debug) -> u64 {
    xxh3_64_with_seed(body, xxh3_64(format!("{protocol} {options:?}").as_bytes()))
}
