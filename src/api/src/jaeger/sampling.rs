//! Remote sampling: clients ask which of their traces they should send
//! (<https://www.jaegertracing.io/docs/latest/sampling/>), over HTTP and as `jaeger.api_v2.SamplingManager`.
//!
//! Strategies come from a file in Jaeger's form. What a client does not know (sampling by operation), it leaves out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use prost::Message;
use serde::Deserialize;
use serde_json::{Value, json};
use trefoil_config::trefoil::RemoteSamplingConfig;

use super::json_response;
use crate::error::ApiError;
use crate::grpc::{self, QUESTION_BYTES_MAX};
use crate::params::Params;
use crate::routes::{Access, Route};
use crate::state::AppState;

/// The routes of the main listener.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/sampling", Access::Write, strategy),
        Route::get("/jaeger/sampling", Access::Write, strategy),
        Route::get("/jaeger/api/sampling", Access::Write, strategy),
    ]
}

/// The routes of the listener for Jaeger's clients: those of an agent and of a collector.
pub(crate) fn own_routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Write, strategy),
        Route::get("/sampling", Access::Write, strategy),
        Route::get("/api/sampling", Access::Write, strategy),
    ]
}

/// The route over gRPC.
pub(crate) fn grpc_routes() -> Vec<Route> {
    vec![Route::post("/jaeger.api_v2.SamplingManager/GetSamplingStrategy", Access::Write, strategy_message)]
}

/// What services are told; services that are not named get the default.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingStrategies {
    default: Arc<SamplingStrategy>,
    services: BTreeMap<String, Arc<SamplingStrategy>>,
}

impl Default for SamplingStrategies {
    fn default() -> Self {
        let config = RemoteSamplingConfig::default();
        Self { default: Arc::new(probability(config.default_probability)), services: BTreeMap::new() }
    }
}

impl SamplingStrategies {
    /// Reads what is configured.
    ///
    /// Errors when the file cannot be read or is no file of strategies; the text names it and the place.
    pub fn from_config(config: &RemoteSamplingConfig) -> std::io::Result<Self> {
        let Some(text) = config.read_strategies()? else {
            let default = Arc::new(probability(config.default_probability));
            return Ok(Self { default, services: BTreeMap::new() });
        };
        Self::parse(&text, config.default_probability).map_err(|message| {
            let path = config.strategies_file.as_deref().unwrap_or_else(|| std::path::Path::new(""));
            let message = format!("sampling strategies {}: {message}", path.display());
            std::io::Error::new(std::io::ErrorKind::InvalidData, message)
        })
    }

    /// Reads Jaeger's JSON. Strategies of operations hold for all services that have none of the same name.
    fn parse(text: &str, default_probability: f64) -> Result<Self, String> {
        let file: Option<File> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let file = file.unwrap_or_default();
        let default = match &file.default_strategy {
            None => probability(default_probability),
            Some(own) => service(own, default_probability).map_err(|e| format!("default_strategy: {e}"))?,
        };
        let mut services = BTreeMap::new();
        for own in &file.service_strategies {
            let mut strategy = service(own, default_probability).map_err(|e| format!("{:?}: {e}", own.service))?;
            if let Some(common) = &default.operation_sampling {
                strategy.operation_sampling = Some(match strategy.operation_sampling.take() {
                    Some(operations) => merged(operations, common),
                    None => {
                        let mut operations = common.clone();
                        if let Some(own) = &strategy.probabilistic_sampling {
                            operations.default_sampling_probability = own.sampling_rate;
                        }
                        operations
                    }
                });
            }
            services.insert(own.service.clone(), Arc::new(strategy));
        }
        Ok(Self { default: Arc::new(default), services })
    }

    fn of(&self, service: &str) -> &SamplingStrategy {
        self.services.get(service).unwrap_or(&self.default)
    }
}

/// The operations of a service, then the common ones that it does not name.
fn merged(mut own: PerOperation, common: &PerOperation) -> PerOperation {
    for operation in &common.per_operation_strategies {
        if own.per_operation_strategies.iter().all(|o| o.operation != operation.operation) {
            own.per_operation_strategies.push(operation.clone());
        }
    }
    own
}

/// A file of strategies.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    default_strategy: Option<ServiceStrategy>,
    service_strategies: Vec<ServiceStrategy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceStrategy {
    service: String,
    #[serde(rename = "type")]
    kind: String,
    param: f64,
    operation_strategies: Vec<OperationStrategy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OperationStrategy {
    operation: String,
    #[serde(rename = "type")]
    kind: String,
    param: f64,
}

fn probability(rate: f64) -> SamplingStrategy {
    SamplingStrategy {
        strategy_type: StrategyType::Probabilistic as i32,
        probabilistic_sampling: Some(Probabilistic { sampling_rate: rate }),
        rate_limiting_sampling: None,
        operation_sampling: None,
    }
}

fn base(kind: &str, param: f64, default_probability: f64) -> Result<SamplingStrategy, String> {
    match kind {
        "" => Ok(probability(default_probability)),
        "probabilistic" if (0.0..=1.0).contains(&param) => Ok(probability(param)),
        "probabilistic" => Err(format!("param {param} of a probabilistic strategy must be from 0 to 1")),
        "ratelimiting" if (0.0..=f64::from(i32::MAX)).contains(&param) => Ok(SamplingStrategy {
            strategy_type: StrategyType::RateLimiting as i32,
            probabilistic_sampling: None,
            rate_limiting_sampling: Some(RateLimiting { max_traces_per_second: param as i32 }),
            operation_sampling: None,
        }),
        "ratelimiting" => Err(format!("param {param} of a ratelimiting strategy must not be negative")),
        other => Err(format!("type {other:?} is neither probabilistic nor ratelimiting")),
    }
}

fn service(own: &ServiceStrategy, default_probability: f64) -> Result<SamplingStrategy, String> {
    let mut out = base(&own.kind, own.param, default_probability)?;
    if own.operation_strategies.is_empty() {
        return Ok(out);
    }
    let default = out.probabilistic_sampling.as_ref().map_or(default_probability, |p| p.sampling_rate);
    let mut per_operation_strategies = Vec::with_capacity(own.operation_strategies.len());
    for operation in &own.operation_strategies {
        let strategy = base(&operation.kind, operation.param, default_probability)
            .map_err(|e| format!("operation {:?}: {e}", operation.operation))?;
        // Operations know no other strategy; the service's holds.
        if strategy.probabilistic_sampling.is_some() {
            per_operation_strategies.push(OperationSampling {
                operation: operation.operation.clone(),
                probabilistic_sampling: strategy.probabilistic_sampling,
            });
        }
    }
    out.operation_sampling = Some(PerOperation {
        default_sampling_probability: default,
        default_lower_bound_traces_per_second: 0.0,
        per_operation_strategies,
        default_upper_bound_traces_per_second: 0.0,
    });
    Ok(out)
}

/// Kinds of strategies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum StrategyType {
    Probabilistic = 0,
    RateLimiting = 1,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Parameters {
    #[prost(string, tag = "1")]
    service_name: String,
}

/// `jaeger.api_v2.SamplingStrategyResponse`
#[derive(Clone, PartialEq, Message)]
struct SamplingStrategy {
    #[prost(enumeration = "StrategyType", tag = "1")]
    strategy_type: i32,
    #[prost(message, optional, tag = "2")]
    probabilistic_sampling: Option<Probabilistic>,
    #[prost(message, optional, tag = "3")]
    rate_limiting_sampling: Option<RateLimiting>,
    #[prost(message, optional, tag = "4")]
    operation_sampling: Option<PerOperation>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Probabilistic {
    #[prost(double, tag = "1")]
    sampling_rate: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct RateLimiting {
    #[prost(int32, tag = "1")]
    max_traces_per_second: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PerOperation {
    #[prost(double, tag = "1")]
    default_sampling_probability: f64,
    #[prost(double, tag = "2")]
    default_lower_bound_traces_per_second: f64,
    #[prost(message, repeated, tag = "3")]
    per_operation_strategies: Vec<OperationSampling>,
    #[prost(double, tag = "4")]
    default_upper_bound_traces_per_second: f64,
}

#[derive(Clone, PartialEq, Message)]
struct OperationSampling {
    #[prost(string, tag = "1")]
    operation: String,
    #[prost(message, optional, tag = "2")]
    probabilistic_sampling: Option<Probabilistic>,
}

impl SamplingStrategy {
    /// Protobuf's JSON with defaults, without nulls: older clients look at the type.
    fn json(&self) -> Value {
        let rate = |p: &Probabilistic| json!({ "samplingRate": p.sampling_rate });
        let mut out = json!({
            "strategyType": match self.strategy_type() {
                StrategyType::Probabilistic => "PROBABILISTIC",
                StrategyType::RateLimiting => "RATE_LIMITING",
            },
        });
        if let Some(p) = &self.probabilistic_sampling {
            out["probabilisticSampling"] = rate(p);
        }
        if let Some(r) = &self.rate_limiting_sampling {
            out["rateLimitingSampling"] = json!({ "maxTracesPerSecond": r.max_traces_per_second });
        }
        if let Some(o) = &self.operation_sampling {
            let one = |s: &OperationSampling| {
                json!({
                    "operation": s.operation,
                    "probabilisticSampling": s.probabilistic_sampling.as_ref().map(rate),
                })
            };
            out["operationSampling"] = json!({
                "defaultSamplingProbability": o.default_sampling_probability,
                "defaultLowerBoundTracesPerSecond": o.default_lower_bound_traces_per_second,
                "perOperationStrategies": o.per_operation_strategies.iter().map(one).collect::<Vec<_>>(),
                "defaultUpperBoundTracesPerSecond": o.default_upper_bound_traces_per_second,
            });
        }
        out
    }
}

async fn strategy(State(state): State<AppState>, request: Request) -> Response {
    let params = match Params::from_query(request.uri().query().unwrap_or("")) {
        Ok(params) => params,
        Err(error) => return error.into_text(),
    };
    let mut services = params.all("service");
    let (Some(service), None) = (services.next(), services.next()) else {
        return ApiError::bad_data("'service' parameter must be provided once").into_text();
    };
    json_response(StatusCode::OK, state.sampling().of(service).json().to_string().into_bytes())
}

async fn strategy_message(State(state): State<AppState>, request: Request) -> Response {
    grpc::unary(request, QUESTION_BYTES_MAX, |asked: Parameters| {
        let strategy = state.sampling().of(&asked.service_name).clone();
        std::future::ready(Ok(strategy))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Jaeger's documentation.
    const EXAMPLE: &str = r#"{
        "service_strategies": [
            {"service": "foo", "type": "probabilistic", "param": 0.8, "operation_strategies": [
                {"operation": "op1", "type": "probabilistic", "param": 0.2},
                {"operation": "/health", "type": "probabilistic", "param": 0.4},
                {"operation": "op3", "type": "ratelimiting", "param": 4}
            ]},
            {"service": "bar", "type": "ratelimiting", "param": 5},
            {"service": "baz"}
        ],
        "default_strategy": {"type": "probabilistic", "param": 0.5, "operation_strategies": [
            {"operation": "/health", "type": "probabilistic", "param": 0.0},
            {"operation": "/metrics", "type": "probabilistic", "param": 0.0}
        ]}
    }"#;

    fn told(strategies: &SamplingStrategies, service: &str) -> Value {
        strategies.of(service).json()
    }

    fn operations(default: f64, each: &[(&str, f64)]) -> Value {
        let each: Vec<Value> = each
            .iter()
            .map(|(o, rate)| json!({ "operation": o, "probabilisticSampling": { "samplingRate": rate } }))
            .collect();
        json!({
            "defaultSamplingProbability": default,
            "defaultLowerBoundTracesPerSecond": 0.0,
            "perOperationStrategies": each,
            "defaultUpperBoundTracesPerSecond": 0.0,
        })
    }

    #[test]
    fn services_and_the_default() {
        let strategies = SamplingStrategies::parse(EXAMPLE, 0.001).unwrap();
        let common = [("/health", 0.0), ("/metrics", 0.0)];
        let probabilistic = |rate: f64, operations: Value| {
            json!({
                "strategyType": "PROBABILISTIC",
                "probabilisticSampling": { "samplingRate": rate },
                "operationSampling": operations,
            })
        };
        let foo = operations(0.8, &[("op1", 0.2), ("/health", 0.4), ("/metrics", 0.0)]);
        assert_eq!(told(&strategies, "foo"), probabilistic(0.8, foo));
        let bar = json!({
            "strategyType": "RATE_LIMITING",
            "rateLimitingSampling": { "maxTracesPerSecond": 5 },
            "operationSampling": operations(0.5, &common),
        });
        assert_eq!(told(&strategies, "bar"), bar);
        assert_eq!(told(&strategies, "baz"), probabilistic(0.001, operations(0.001, &common)));
        assert_eq!(told(&strategies, "other"), probabilistic(0.5, operations(0.5, &common)));
    }

    #[test]
    fn files_with_little_and_with_faults() {
        let default = json!({ "strategyType": "PROBABILISTIC", "probabilisticSampling": { "samplingRate": 0.001 } });
        assert_eq!(told(&SamplingStrategies::default(), "any"), default);
        for text in ["{}", "null"] {
            assert_eq!(told(&SamplingStrategies::parse(text, 0.001).unwrap(), "any"), default, "{text}");
        }
        for (text, want) in [
            ("[", "EOF while parsing"),
            (r#"{"default_strategy": {"type": "adaptive"}}"#, "default_strategy: type \"adaptive\" is neither"),
            (r#"{"service_strategies": [{"service": "a", "type": "probabilistic", "param": 2}]}"#, "\"a\": param 2 of"),
            (
                r#"{"default_strategy": {"operation_strategies": [{"operation": "o", "type": "x"}]}}"#,
                "default_strategy: operation \"o\": type \"x\" is neither",
            ),
        ] {
            let error = SamplingStrategies::parse(text, 0.001).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
