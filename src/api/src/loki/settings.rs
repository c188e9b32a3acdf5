//! What the server is and how it is set, in the forms that Grafana asks for: build, configuration, drilldown limits.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use trefoil_ingest::loki_push::SERVICE_NAME_LABELS;

use super::{LOKI_VERSION, json_value};
use crate::state::AppState;

/// Fields that tell the level of a line.
const LEVEL_FIELDS: [&str; 7] = ["level", "LEVEL", "Level", "severity", "SEVERITY", "lvl", "log_level"];
/// Series of a volume when no limit is given, as Loki has it.
const VOLUME_SERIES: usize = 1000;

/// `GET /loki/api/v1/status/buildinfo`
pub(super) async fn build_info(State(state): State<AppState>) -> Response {
    json_value(&json!({
        "version": LOKI_VERSION,
        "revision": state.build.revision,
        "branch": "",
        "buildUser": "",
        "buildDate": state.build.build_date,
        "goVersion": "",
    }))
}

/// `GET /config`: the configuration in force, secrets masked.
pub(super) async fn config(State(state): State<AppState>) -> Response {
    let mut response = state.config().config.to_yaml().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// `GET /loki/api/v1/drilldown-limits`: what Logs Drilldown asks before anything else.
pub(super) async fn drilldown_limits(State(state): State<AppState>) -> Response {
    let config = state.config();
    let kept = config.config.trefoil.retention.logs.get().map_or_else(
        || "0s".to_owned(),
        |keep| {
            let seconds = keep.as_ms() / 1000;
            if seconds % 3600 == 0 { format!("{}h", seconds / 3600) } else { format!("{seconds}s") }
        },
    );
    let limits = &state.limits;
    json_value(&json!({
        "limits": {
            "discover_log_levels": true,
            "discover_service_name": SERVICE_NAME_LABELS,
            "log_level_fields": LEVEL_FIELDS,
            "max_entries_limit_per_query": limits.log_entries_max,
            "max_line_size": format!("{}B", limits.log_line_bytes_max),
            "max_line_size_truncate": true,
            "max_query_bytes_read": format!("{}B", limits.query_scan_bytes_max),
            "max_query_length": "0s",
            "max_query_lookback": "0s",
            "max_query_range": "0s",
            "max_query_series": limits.query_series_max,
            "metric_aggregation_enabled": false,
            "otlp_config": Value::Null,
            "pattern_persistence_enabled": false,
            "query_timeout": format!("{}s", limits.query_timeout.as_secs()),
            "retention_period": kept,
            "retention_stream": Value::Null,
            "volume_enabled": true,
            "volume_max_series": VOLUME_SERIES,
        },
        "pattern_ingester_enabled": true,
        "version": LOKI_VERSION,
    }))
}
