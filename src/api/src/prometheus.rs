//! Prometheus' HTTP API, as of version 3.14 (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
//!
//! Map: [`answer`] (the envelope, and JSON of labels and samples), [`query`], [`syntax`] (format and parse), [`labels`]
//! (series, names, values, metadata, exemplars), [`targets`], [`rules`], [`status`], [`cardinality`], [`admin`],
//! [`federate`], [`health`] (what is outside `/api/v1`), [`evaluate`] (PromQL for rules), [`remote_read`], [`search`],
//! [`live`] (notifications, queries that run), [`explain`], [`inspect`] (scrape pools, parts, own metrics), [`openapi`].

mod admin;
pub mod answer;
mod cardinality;
pub mod evaluate;
mod explain;
mod federate;
mod health;
mod inspect;
mod labels;
mod live;
mod openapi;
mod query;
mod remote_read;
pub(crate) mod rules;
mod search;
mod status;
mod syntax;
mod targets;

pub(crate) use self::query::{client_of, read_query};
use crate::routes::{Access, Route};

pub use remote_read::check_request as check_read_request;

/// Routes of listeners that serve no page and no API.
pub(crate) fn health_routes() -> Vec<Route> {
    vec![
        Route::get("/-/healthy", Access::Public, health::healthy),
        Route::get("/-/ready", Access::Public, health::ready),
    ]
}

/// All routes of this dialect.
pub(crate) fn routes() -> Vec<Route> {
    use Access::{Admin, Read};
    let mut routes = health_routes();
    let strict = [
        Route::get_post("/api/v1/query", Read, query::instant),
        Route::get_post("/api/v1/query_range", Read, query::range),
        Route::get_post("/api/v1/query_exemplars", Read, labels::exemplars),
        Route::get_post("/api/v1/format_query", Read, syntax::format),
        Route::get_post("/api/v1/parse_query", Read, syntax::parse),
        Route::get_post("/api/v1/series", Read, labels::series),
        Route::get_post("/api/v1/labels", Read, labels::names),
        Route::get("/api/v1/label/{name}/values", Read, labels::values),
        Route::get("/api/v1/metadata", Read, labels::metadata),
        Route::get("/api/v1/targets", Read, targets::targets),
        Route::get("/api/v1/targets/metadata", Read, targets::metadata),
        Route::get("/api/v1/targets/relabel_steps", Read, inspect::relabel_steps),
        Route::get("/api/v1/scrape_pools", Read, targets::pools),
        Route::get("/api/v1/scrape_pools/config", Read, inspect::pool_config),
        Route::get_post("/api/v1/search/metric_names", Read, search::metric_names),
        Route::get_post("/api/v1/search/label_names", Read, search::label_names),
        Route::get_post("/api/v1/search/label_values", Read, search::label_values),
        Route::get_post("/api/v1/explain", Read, explain::explain),
        Route::post("/api/v1/read", Read, remote_read::read),
        Route::get("/api/v1/rules", Read, rules::rules),
        Route::get("/api/v1/alerts", Read, rules::alerts),
        Route::get("/api/v1/alertmanagers", Read, rules::alertmanagers),
        Route::get("/api/v1/status/config", Read, status::config),
        Route::get("/api/v1/status/flags", Read, status::flags),
        Route::get("/api/v1/status/runtimeinfo", Read, status::runtime),
        Route::get("/api/v1/status/buildinfo", Read, status::build),
        Route::get("/api/v1/status/tsdb", Read, cardinality::tsdb),
        Route::get("/api/v1/status/tsdb/blocks", Read, inspect::blocks),
        Route::get("/api/v1/status/self_metrics", Read, inspect::self_metrics),
        Route::get("/api/v1/status/active_queries", Read, live::active),
        Route::post_put("/api/v1/status/active_queries/{id}/cancel", Admin, live::cancel),
        Route::get("/api/v1/status/top_queries", Read, live::top),
        Route::get("/api/v1/status/cardinality", Read, cardinality::cardinality),
        Route::get("/api/v1/status/walreplay", Read, status::replay),
        Route::get("/api/v1/status/limits", Read, status::limits),
        Route::get("/api/v1/features", Read, status::features),
        Route::get("/api/v1/openapi.yaml", Read, openapi::serve),
        Route::get("/api/v1/notifications", Read, live::notifications),
        Route::get("/api/v1/notifications/live", Read, live::notifications_live),
        Route::post_put("/api/v1/admin/tsdb/delete_series", Admin, admin::delete_series),
        Route::post_put("/api/v1/admin/tsdb/clean_tombstones", Admin, admin::clean_tombstones),
        Route::post_put("/api/v1/admin/tsdb/snapshot", Admin, admin::snapshot),
        Route::get("/federate", Read, federate::federate),
        Route::get("/metrics", Read, health::metrics),
        Route::get("/version", Read, health::version),
        Route::post_put("/-/reload", Admin, health::reload),
        Route::post_put("/-/quit", Admin, health::quit),
    ];
    routes.extend(strict.into_iter().map(Route::strict));
    routes
}
