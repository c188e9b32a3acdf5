//! Messages of `jaeger.api_v2.QueryService` and `jaeger.api_v3.QueryService`
//! (<https://github.com/jaegertracing/jaeger-idl/tree/main/proto>). The two ask alike, field by field.

use std::collections::BTreeMap;

use prost::Message;
use trefoil_ingest::jaeger::proto::{Span, Time};

/// Of version 2, where the id has 16 bytes.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetTraceRequestV2 {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
}

/// Of version 3, where the id is text.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetTraceRequestV3 {
    #[prost(string, tag = "1")]
    pub(super) trace_id: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct FindTracesRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) query: Option<TraceQueryParameters>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TraceQueryParameters {
    #[prost(string, tag = "1")]
    pub(super) service_name: String,
    #[prost(string, tag = "2")]
    pub(super) operation_name: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) attributes: BTreeMap<String, String>,
    #[prost(message, optional, tag = "4")]
    pub(super) start_time_min: Option<Time>,
    #[prost(message, optional, tag = "5")]
    pub(super) start_time_max: Option<Time>,
    #[prost(message, optional, tag = "6")]
    pub(super) duration_min: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub(super) duration_max: Option<Time>,
    #[prost(int32, tag = "8")]
    pub(super) search_depth: i32,
    /// An expression, which we do not know: to leave it out would find too much.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) filter: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SpansResponseChunk {
    #[prost(message, repeated, tag = "1")]
    pub(super) spans: Vec<Span>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct GetServicesRequest {}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetServicesResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) services: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetOperationsRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) span_kind: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Operation {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) span_kind: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetOperationsResponseV2 {
    /// Names, each once.
    #[prost(string, repeated, tag = "1")]
    pub(super) operation_names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct GetOperationsResponseV3 {
    #[prost(message, repeated, tag = "1")]
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct GetDependenciesRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) start_time: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub(super) end_time: Option<Time>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Dependencies {
    #[prost(message, repeated, tag = "1")]
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Dependency {
    #[prost(string, tag = "1")]
    pub(super) parent: String,
    #[prost(string, tag = "2")]
    pub(super) child: String,
    #[prost(uint64, tag = "3")]
    pub(super) call_count: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TraceSummaries {
    #[prost(message, repeated, tag = "1")]
    pub(super) summaries: Vec<TraceSummary>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TraceSummary {
    #[prost(string, tag = "1")]
    pub(super) trace_id: String,
    #[prost(string, tag = "2")]
    pub(super) root_service_name: String,
    #[prost(string, tag = "3")]
    pub(super) root_operation_name: String,
    #[prost(fixed64, tag = "4")]
    pub(super) min_start_time_unix_nano: u64,
    #[prost(fixed64, tag = "5")]
    pub(super) max_end_time_unix_nano: u64,
    #[prost(int32, tag = "6")]
    pub(super) span_count: i32,
    #[prost(int32, tag = "7")]
    pub(super) error_span_count: i32,
    #[prost(int32, tag = "8")]
    pub(super) orphan_span_count: i32,
    #[prost(message, repeated, tag = "9")]
    pub(super) services: Vec<ServiceSummary>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ServiceSummary {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) span_count: i32,
    #[prost(int32, tag = "3")]
    pub(super) error_span_count: i32,
}
