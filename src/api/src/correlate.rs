//! `/api/v1/correlate`: from what is seen of a service in one signal to the others. Described for people in
//! `config/TRACES.md`.
//!
//! Map: [`reach`] (what is asked of the stores), then the endpoints: [`metric`] (to exemplars, traces and logs), [`trace`]
//! (to its log lines and the metrics of its instances), [`log`] (to its trace), [`service`] (to everything).
//!
//! Names need no configuration: [`trefoil_insight::entity`] knows those of OpenTelemetry, Prometheus and Kubernetes. Every
//! answer holds the queries that it answers, so that a page can go on with them. Envelope, errors and times are as in
//! [`crate::traces`].

mod log;
mod metric;
mod reach;
mod service;
mod trace;

use serde_json::{Value, json};
use trefoil_insight::entity::Entity;

use crate::routes::{Access, Route};

/// The routes.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get_post("/api/v1/correlate/metric", Access::Read, metric::metric),
        Route::get("/api/v1/correlate/trace/{id}", Access::Read, trace::trace),
        Route::get_post("/api/v1/correlate/log", Access::Read, log::log),
        Route::get_post("/api/v1/correlate/service/{name}", Access::Read, service::service),
    ]
}

/// An entity as a page reads it: only what is known.
fn entity_json(entity: &Entity) -> Value {
    let parts = [
        ("service", &entity.service),
        ("namespace", &entity.namespace),
        ("instance", &entity.instance),
        ("host", &entity.host),
        ("k8sNamespace", &entity.k8s_namespace),
        ("pod", &entity.pod),
        ("node", &entity.node),
    ];
    let known = parts.iter().filter_map(|(name, part)| part.as_ref().map(|part| ((*name).to_owned(), json!(part))));
    Value::Object(known.collect())
}
