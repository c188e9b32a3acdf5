//! Statistics of a query, in the form of Loki's answers.
//!
//! All reading is one process here, so that it is told under `querier`; `ingester` and the caches of Loki's parts have
//! nothing to tell.

use std::time::Duration;

use serde_json::{Value, json};
use trefoil_logql::Stats;

/// How long a query took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Took {
    /// Waiting for its turn.
    pub(super) waited: Duration,
    /// Running.
    pub(super) ran: Duration,
}

/// The member `stats` of an answer. Times are seconds, those of the store nanoseconds, sizes bytes.
pub(super) fn of(stats: &Stats, took: Took) -> Value {
    let ran = took.ran.as_secs_f64();
    let per_second = |n: u64| if ran > 0.0 { (n as f64 / ran) as u64 } else { 0 };
    let bytes = stats.bytes_processed.saturating_add(stats.metadata_bytes);
    json!({
        "summary": {
            "bytesProcessedPerSecond": per_second(bytes),
            "linesProcessedPerSecond": per_second(stats.lines_processed),
            "totalBytesProcessed": bytes,
            "totalLinesProcessed": stats.lines_processed,
            "execTime": ran,
            "queueTime": took.waited.as_secs_f64(),
            "subqueries": 0,
            "totalEntriesReturned": stats.entries_returned,
            "splits": 0,
            "shards": 0,
            "totalPostFilterLines": stats.lines_passed,
            "totalStructuredMetadataBytesProcessed": stats.metadata_bytes,
        },
        "querier": { "store": store(stats) },
        "ingester": {
            "totalReached": 0,
            "totalChunksMatched": 0,
            "totalBatches": 0,
            "totalLinesSent": 0,
            "store": store(&Stats::default()),
        },
        "cache": {
            "chunk": cache(),
            "index": cache(),
            "result": cache(),
            "statsResult": cache(),
            "volumeResult": cache(),
            "seriesResult": cache(),
            "labelResult": cache(),
            "instantMetricResult": cache(),
        },
        "index": {
            "totalChunks": stats.blocks,
            "postFilterChunks": stats.blocks,
            "shardsDuration": 0,
            "usedBloomFilters": false,
        },
    })
}

fn store(stats: &Stats) -> Value {
    json!({
        "totalChunksRef": stats.blocks,
        "totalChunksDownloaded": stats.blocks,
        "chunksDownloadTime": 0,
        "queryReferencedStructuredMetadata": stats.metadata_bytes > 0,
        "chunk": {
            "headChunkBytes": 0,
            "headChunkLines": 0,
            "decompressedBytes": stats.bytes_processed,
            "decompressedLines": stats.records.max(stats.lines_processed),
            "compressedBytes": 0,
            "totalDuplicates": 0,
            "postFilterLines": stats.lines_passed,
            "headChunkStructuredMetadataBytes": 0,
            "decompressedStructuredMetadataBytes": stats.metadata_bytes,
        },
        "chunkRefsFetchTime": 0,
        "congestionControlLatency": 0,
        "pipelineWrapperFilteredLines": 0,
    })
}

fn cache() -> Value {
    json!({
        "entriesFound": 0,
        "entriesRequested": 0,
        "entriesStored": 0,
        "bytesReceived": 0,
        "bytesSent": 0,
        "requests": 0,
        "downloadTime": 0,
        "queryLengthServed": 0,
    })
}
