//! Tests against the real binary, real peers and the tree itself. One binary, so that linking happens once.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod admin;
mod alerts;
mod backup;
mod bad_input;
mod configuration;
mod crash;
mod damage_at_rest;
mod demo;
mod disk_full;
mod doors;
mod elastic_search;
mod jaeger_tempo;
mod layers;
mod log_doors;
mod log_files;
mod log_rules;
mod log_search;
mod log_sockets;
mod log_store;
mod logcli;
mod loki;
mod lost_commits;
mod object_store;
mod otel;
mod page;
mod prometheus;
mod promql_fuzz;
mod query_memory;
mod query_tools;
mod start;
mod trace_correlate;
mod trace_damage;
mod trace_differences;
mod trace_metrics;
mod trace_senders;
mod trace_views;
mod tsdb_commands;
mod tsdb_doors;
