//! Prometheus' HTTP API, as of version 3.14 (<https://prometheus.io/docs/prometheus/latest/querying/api/>).
//!
//! Map: [`answer`] (the envelope, and JSON of labels and samples), [`query`], [`syntax`] (format and parse), [`labels`]
//! (series, names, values, metadata, exemplars), [`targets`], [`rules`], [`status`], [`cardinality`], [`admin`],
//! [`federate`], [`health`] (what is outside `/api/v1`), [`evaluate`] (PromQL for rules).

mod admin;
pub mod answer;
mod cardinality;
pub mod evaluate;
mod federate;
mod health;
mod labels;
mod query;
mod rules;
mod status;
mod syntax;
mod targets;

use crate::routes::{Access, Route};

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
    routes.extend([
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
        Route::get("/api/v1/scrape_pools", Read, targets::pools),
        Route::get("/api/v1/rules", Read, rules::rules),
        Route::get("/api/v1/alerts", Read, rules::alerts),
        Route::get("/api/v1/alertmanagers", Read, rules::alertmanagers),
        Route::get("/api/v1/status/config", Read, status::config),
        Route::get("/api/v1/status/flags", Read, status::flags),
        Route::get("/api/v1/status/runtimeinfo", Read, status::runtime),
        Route::get("/api/v1/status/buildinfo", Read, status::build),
        Route::get("/api/v1/status/tsdb", Read, cardinality::tsdb),
        Route::get("/api/v1/status/cardinality", Read, cardinality::cardinality),
        Route::get("/api/v1/status/walreplay", Read, status::replay),
        Route::get("/api/v1/status/limits", Read, status::limits),
        Route::get("/api/v1/features", Read, status::features),
        Route::get("/api/v1/notifications", Read, status::notifications),
        Route::post_put("/api/v1/admin/tsdb/delete_series", Admin, admin::delete_series),
        Route::post_put("/api/v1/admin/tsdb/clean_tombstones", Admin, admin::clean_tombstones),
        Route::post_put("/api/v1/admin/tsdb/snapshot", Admin, admin::snapshot),
        Route::get("/federate", Read, federate::federate),
        Route::get("/metrics", Read, health::metrics),
        Route::get("/version", Read, health::version),
        Route::post_put("/-/reload", Admin, health::reload),
        Route::post_put("/-/quit", Admin, health::quit),
    ]);
    routes
}
