//! Alertmanager inside: alerts of the rules are grouped and told to receivers.
//!
//! Reading order: [`fingerprint`], [`group`] (what is told when), [`webhook`] (the JSON that Alertmanager's webhook
//! receiver sends), [`dispatcher`] (route, groups and deliveries), [`remote`] (alerts handed on to other Alertmanagers,
//! as `alerting.alertmanagers` of the configuration says).
//!
//! Today: one route, webhook receivers. Routing trees, inhibition, silences, time intervals, templates and the other
//! receivers come later and take their place between [`dispatcher`] and [`webhook`].
//!
//! Invariants: it gets alerts through [`trefoil_model::AlertReceiver`] and knows neither rules nor stores.

pub mod dispatcher;
pub mod fingerprint;
pub mod group;
mod metrics;
pub mod remote;
pub mod webhook;

pub use dispatcher::{AlertmanagerOptions, Dispatcher, ReceiverError};
pub use remote::{FanOut, RemoteAlertmanagers};
