//! Integration tests of the HTTP edge.

mod admin;
mod auth;
mod elasticsearch_search;
mod gate;
mod grpc_calls;
mod jaeger;
mod jaeger_query;
mod jaeger_spans;
mod listeners;
mod logs;
mod loki;
mod loki_sources;
mod memory_events;
mod page;
mod prometheus;
mod queries;
mod support;
mod tempo;
mod tempo_query;
mod tempo_streaming;
mod zipkin;
mod zipkin_query;
