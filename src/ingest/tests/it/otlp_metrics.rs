//! OTLP metrics over HTTP.

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use trefoil_ingest::{Answer, IngestOptions, Signal};
use trefoil_model::{MetricBatch, MetricKind};
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::Accountant;

use crate::support::{JSON, NOW_MS, NOW_NS, PROTOBUF, Setup, attribute, headers, samples, setup, setup_with};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

pub fn number(value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("http.method", "GET")],
        time_unix_nano: NOW_NS as u64,
        start_time_unix_nano: NOW_NS as u64 - 1_000_000_000,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

pub fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: unit.into(), description: "Help.".into(), data: Some(data), ..Metric::default() }
}

pub fn sum(temporality: i32, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic })
}

pub fn request(attributes: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: "lib".into(),
                    version: "1".into(),
                    attributes: vec![attribute("a.b", "c")],
                    ..InstrumentationScope::default()
                }),
                metrics,
                schema_url: "https://s".into(),
            }],
            ..ResourceMetrics::default()
        }],
    }
}

async fn post(setup: &Setup, request: &ExportMetricsServiceRequest) -> Answer {
    setup.ingest.otlp_http(Signal::Metrics, &headers(PROTOBUF), request.encode_to_vec().into()).await
}

/// Stores one metric without resource and answers its batch and how many points were rejected, with the reason.
async fn one(setup: &Setup, metric: Metric) -> (Option<MetricBatch>, i64, String) {
    setup.stores.metrics.lock().clear();
    let answer = post(setup, &request(vec![], vec![metric])).await;
    assert_eq!(answer.status, StatusCode::OK);
    let partial = ExportMetricsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap_or_default();
    (setup.stores.metrics.lock().pop(), partial.rejected_data_points, partial.error_message)
}

#[tokio::test]
async fn resource_job_instance_and_target_info() {
    let setup = setup();
    let attributes = vec![
        attribute("service.name", "cart"),
        attribute("service.namespace", "shop"),
        attribute("service.instance.id", "i-1"),
        attribute("host.name", "h1"),
    ];
    let metrics = vec![
        metric("queue.length", "{item}", Data::Gauge(Gauge { data_points: vec![number(3.0)] })),
        metric("http.requests", "1", sum(CUMULATIVE, true, vec![number(7.0)])),
        metric("open", "", sum(CUMULATIVE, false, vec![number(2.0)])),
    ];
    let answer = post(&setup, &request(attributes, metrics)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let batch = setup.stores.metric_batch();
    let base = r#"http_method="GET", instance="i-1", job="shop/cart""#;
    assert_eq!(
        samples(&batch),
        [
            format!("{{__name__=\"http_requests_total\", {base}}} 7@{NOW_MS}"),
            format!("{{__name__=\"open\", {base}}} 2@{NOW_MS}"),
            format!("{{__name__=\"queue_length\", {base}}} 3@{NOW_MS}"),
            format!(r#"{{__name__="target_info", host_name="h1", instance="i-1", job="shop/cart"}} 1@{NOW_MS}"#),
        ]
    );
    let starts: Vec<i64> = batch.floats.iter().map(|p| p.start_ms).collect();
    assert_eq!(starts, [0, NOW_MS - 1000, 0, 0]);
    let metadata: Vec<_> = batch.metadata.iter().map(|m| (m.name.as_str(), m.kind, m.help.as_str())).collect();
    assert_eq!(
        metadata,
        [
            ("queue_length", MetricKind::Gauge, "Help."),
            ("http_requests_total", MetricKind::Counter, "Help."),
            ("open", MetricKind::Gauge, "Help.")
        ]
    );
}

#[tokio::test]
async fn what_nobody_sent_is_not_counted_as_refused() {
    let setup = setup();
    *setup.stores.refuses_samples.lock() = true;
    let attributes = vec![attribute("service.name", "cart"), attribute("host.name", "h1")];
    let histogram = HistogramDataPoint {
        time_unix_nano: NOW_NS as u64,
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![1.0, 2.0],
        count: 6,
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![histogram], aggregation_temporality: CUMULATIVE };
    let metrics = vec![
        metric("queue.length", "{item}", Data::Gauge(Gauge { data_points: vec![number(3.0)] })),
        metric("took", "s", Data::Histogram(histogram)),
    ];
    let answer = post(&setup, &request(attributes, metrics)).await;
    let partial = ExportMetricsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 2, "{}", partial.error_message);
}

#[tokio::test]
async fn promoted_attributes_and_scope() {
    let options = IngestOptions {
        promote_resource_attributes: vec!["deployment.environment".into()],
        promote_scope_metadata: true,
        ..IngestOptions::default()
    };
    let setup = setup_with(Limits::default(), Accountant::unlimited(), options);
    let attributes = vec![attribute("deployment.environment", "prod")];
    let mut point = number(1.0);
    // Names that become equal are joined in order of the sent names.
    point.attributes = vec![attribute("a_b", "2"), attribute("a.b", "1"), attribute("job", "own")];
    post(&setup, &request(attributes, vec![metric("m", "", Data::Gauge(Gauge { data_points: vec![point] }))])).await;
    assert_eq!(
        samples(&setup.stores.metric_batch()),
        [format!(
            r#"{{__name__="m", a_b="1;2", deployment_environment="prod", job="own", otel_scope_a_b="c", otel_scope_name="lib", otel_scope_schema_url="https://s", otel_scope_version="1"}} 1@{NOW_MS}"#
        )]
    );
}

fn histogram_point() -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: NOW_NS as u64,
        count: 6,
        sum: Some(12.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1_000_000.0],
        ..HistogramDataPoint::default()
    }
}

fn histogram(temporality: i32, data_points: Vec<HistogramDataPoint>) -> Data {
    Data::Histogram(Histogram { data_points, aggregation_temporality: temporality })
}

#[tokio::test]
async fn histograms_become_classic_buckets() {
    let setup = setup();
    let mut point = histogram_point();
    point.exemplars.push(Exemplar {
        value: Some(exemplar::Value::AsDouble(0.7)),
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        time_unix_nano: NOW_NS as u64,
        filtered_attributes: vec![attribute("user.id", "7")],
    });
    let (batch, rejected, _) = one(&setup, metric("lat", "s", histogram(CUMULATIVE, vec![point]))).await;
    let batch = batch.unwrap();
    assert_eq!(rejected, 0);
    assert_eq!(
        samples(&batch),
        [
            format!("{{__name__=\"lat_seconds_bucket\", le=\"+Inf\"}} 6@{NOW_MS}"),
            format!("{{__name__=\"lat_seconds_bucket\", le=\"0.5\"}} 1@{NOW_MS}"),
            format!("{{__name__=\"lat_seconds_bucket\", le=\"1000000\"}} 3@{NOW_MS}"),
            format!("{{__name__=\"lat_seconds_count\"}} 6@{NOW_MS}"),
            format!("{{__name__=\"lat_seconds_sum\"}} 12.5@{NOW_MS}"),
        ]
    );
    let exemplar = &batch.exemplars[0];
    assert_eq!(batch.series[exemplar.series as usize].get("le"), Some("1000000"));
    assert_eq!(
        exemplar.labels.to_string(),
        r#"{span_id="0202020202020202", trace_id="01010101010101010101010101010101", user_id="7"}"#
    );
    assert_eq!((batch.metadata[0].name.as_str(), batch.metadata[0].unit.as_str()), ("lat_seconds", "seconds"));

    let wrong = [
        HistogramDataPoint { bucket_counts: vec![1, 2], ..histogram_point() },
        HistogramDataPoint { explicit_bounds: vec![2.0, 1.0], ..histogram_point() },
        HistogramDataPoint { explicit_bounds: vec![f64::NAN, 1.0], ..histogram_point() },
    ];
    let (batch, rejected, message) = one(&setup, metric("lat", "s", histogram(CUMULATIVE, wrong.to_vec()))).await;
    assert!(batch.is_none());
    assert_eq!(rejected, 3, "{message}");
    assert!(
        message.contains("data point of metric \"lat_seconds\": histogram has 2 buckets for 2 bounds"),
        "{message}"
    );
}

#[tokio::test]
async fn exponential_histograms_become_native() {
    let setup = setup();
    let point = ExponentialHistogramDataPoint {
        time_unix_nano: NOW_NS as u64,
        count: 11,
        sum: Some(4.0),
        scale: 9,
        zero_count: 1,
        zero_threshold: 0.25,
        positive: Some(Buckets { offset: 1, bucket_counts: vec![1, 2, 3] }),
        negative: Some(Buckets { offset: 0, bucket_counts: vec![4] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = |points: Vec<_>| {
        Data::ExponentialHistogram(ExponentialHistogram { data_points: points, aggregation_temporality: CUMULATIVE })
    };
    let low = ExponentialHistogramDataPoint { scale: -5, ..point.clone() };
    let (batch, rejected, message) = one(&setup, metric("lat", "ms", data(vec![point, low]))).await;
    assert_eq!(rejected, 1);
    assert!(message.contains("scale -5"), "{message}");
    let batch = batch.unwrap();
    assert_eq!(batch.series[0].metric_name(), "lat_milliseconds");
    let h = &batch.histograms[0].value;
    assert_eq!((h.schema, h.zero_threshold, h.zero_count, h.count, h.sum), (8, 0.25, 1.0, 11.0, 4.0));
    assert_eq!(h.positive().collect::<Vec<_>>(), [(1, 1.0), (2, 5.0)]);
    assert_eq!(h.negative().collect::<Vec<_>>(), [(1, 4.0)]);
}

#[tokio::test]
async fn summaries_and_stale_points() {
    let setup = setup();
    let point = SummaryDataPoint {
        time_unix_nano: NOW_NS as u64,
        count: 2,
        sum: 3.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 1.5 }],
        ..SummaryDataPoint::default()
    };
    let (batch, _, _) = one(&setup, metric("rpc", "", Data::Summary(Summary { data_points: vec![point] }))).await;
    assert_eq!(
        samples(&batch.unwrap()),
        [
            format!("{{__name__=\"rpc\", quantile=\"0.99\"}} 1.5@{NOW_MS}"),
            format!("{{__name__=\"rpc_count\"}} 2@{NOW_MS}"),
            format!("{{__name__=\"rpc_sum\"}} 3@{NOW_MS}"),
        ]
    );
    let stale = NumberDataPoint { flags: 1, value: None, attributes: vec![], ..number(0.0) };
    let (batch, _, _) = one(&setup, metric("g", "", Data::Gauge(Gauge { data_points: vec![stale] }))).await;
    assert_eq!(samples(&batch.unwrap()), [format!("{{__name__=\"g\"}} stale@{NOW_MS}")]);
    let stale = HistogramDataPoint { flags: 1, time_unix_nano: NOW_NS as u64, ..HistogramDataPoint::default() };
    let (batch, _, _) = one(&setup, metric("h", "", histogram(CUMULATIVE, vec![stale]))).await;
    assert!(samples(&batch.unwrap()).iter().all(|s| s.contains("stale")));
}

#[tokio::test]
async fn points_that_cannot_be_taken_are_rejected_alone() {
    let setup = setup();
    let long = NumberDataPoint { attributes: vec![attribute("a", &"x".repeat(9000))], ..number(1.0) };
    let future = NumberDataPoint { time_unix_nano: NOW_NS as u64 * 2, ..number(1.0) };
    let no_value = NumberDataPoint { value: None, ..number(1.0) };
    let points = vec![long, future, no_value, number(5.0)];
    let (batch, rejected, message) = one(&setup, metric("g", "", Data::Gauge(Gauge { data_points: points }))).await;
    assert_eq!((rejected, batch.unwrap().floats.len()), (3, 1));
    for want in ["value of label \"a\" has 9000 bytes", "too far in the future", "no value"] {
        assert!(message.contains(want), "{message}");
    }
    let (batch, rejected, message) = one(&setup, metric("s", "", sum(0, true, vec![number(1.0)]))).await;
    assert!(batch.is_none() && rejected == 1 && message.contains("temporality is not set"), "{message}");
    let (batch, rejected, _) =
        one(&setup, metric("...", "", Data::Gauge(Gauge { data_points: vec![number(1.0)] }))).await;
    assert!(batch.is_none() && rejected == 1);
}

fn at(seconds: i64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: (NOW_NS + seconds * 1_000_000_000) as u64,
        start_time_unix_nano: (NOW_NS + (seconds - 10) * 1_000_000_000) as u64,
        attributes: vec![],
        ..number(value)
    }
}

#[tokio::test]
async fn delta_sums_are_accumulated() {
    let setup = setup();
    let delta = |points| metric("c", "", sum(DELTA, true, points));
    let (batch, _, _) = one(&setup, delta(vec![at(10, 1.0), at(20, 2.0)])).await;
    let batch = batch.unwrap();
    let got: Vec<_> = batch.floats.iter().map(|p| (p.t_ms - NOW_MS, p.start_ms - NOW_MS, p.value)).collect();
    assert_eq!(got, [(10_000, 0, 1.0), (20_000, 0, 3.0)]);
    let (batch, rejected, message) = one(&setup, delta(vec![at(20, 5.0), at(30, 4.0)])).await;
    assert_eq!((batch.unwrap().floats[0].value, rejected), (7.0, 1));
    assert!(message.contains("out of order"), "{message}");
    // A write that fails leaves the sums as they were: the sender sends the same point again.
    *setup.stores.unavailable.lock() = true;
    let again = request(vec![], vec![delta(vec![at(40, 3.0)])]);
    assert_eq!(post(&setup, &again).await.status, StatusCode::SERVICE_UNAVAILABLE);
    *setup.stores.unavailable.lock() = false;
    let (batch, _, _) = one(&setup, delta(vec![at(40, 3.0)])).await;
    assert_eq!(batch.unwrap().floats[0].value, 10.0);
    // An ended series begins anew.
    let stale = NumberDataPoint { flags: 1, value: None, ..at(50, 0.0) };
    let (batch, _, _) = one(&setup, delta(vec![stale, at(60, 2.0)])).await;
    let batch = batch.unwrap();
    assert_eq!((batch.floats[1].value, batch.floats[1].start_ms - NOW_MS), (2.0, 50_000));
}

#[tokio::test]
async fn delta_histograms_are_accumulated() {
    let setup = setup();
    let point = |seconds: i64, bounds: Vec<f64>| HistogramDataPoint {
        time_unix_nano: (NOW_NS + seconds * 1_000_000_000) as u64,
        explicit_bounds: bounds,
        ..histogram_point()
    };
    let points = vec![point(10, vec![0.5, 1.0]), point(20, vec![0.5, 1.0]), point(30, vec![0.5, 2.0])];
    let (batch, _, _) = one(&setup, metric("h", "", histogram(DELTA, points))).await;
    let batch = batch.unwrap();
    let of = |name: &str| -> Vec<f64> {
        batch.floats.iter().filter(|p| batch.series[p.series as usize].metric_name() == name).map(|p| p.value).collect()
    };
    // Other bounds: the series begins anew.
    assert_eq!(of("h_count"), [6.0, 12.0, 6.0]);
    assert_eq!(of("h_sum"), [12.5, 25.0, 12.5]);
    assert_eq!(of("h_bucket"), [1.0, 3.0, 6.0, 2.0, 6.0, 12.0, 1.0, 3.0, 6.0]);

    let native = |seconds: i64, scale: i32| ExponentialHistogramDataPoint {
        time_unix_nano: (NOW_NS + seconds * 1_000_000_000) as u64,
        count: 3,
        scale,
        positive: Some(Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![native(10, 1), native(20, 0)],
        aggregation_temporality: DELTA,
    });
    let (batch, _, _) = one(&setup, metric("e", "", data)).await;
    let last = &batch.unwrap().histograms[1].value;
    assert_eq!((last.schema, last.count), (0, 6.0));
    assert_eq!(last.positive().collect::<Vec<_>>(), [(1, 4.0), (2, 2.0)]);
}

#[tokio::test]
async fn json_of_every_type() {
    let setup = setup();
    let body = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[
          {{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":"{NOW_NS}","asInt":"-3","attributes":[
              {{"key":"n","value":{{"intValue":"7"}}}}]}}]}}}},
          {{"name":"s","unit":"By","sum":{{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[
              {{"timeUnixNano":{NOW_NS},"asDouble":"Infinity"}}]}}}},
          {{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NOW_NS}",
              "count":"3","sum":1,"bucketCounts":["1","2"],"explicitBounds":[1]}}]}}}},
          {{"name":"e","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NOW_NS}",
              "count":2,"scale":-1,"positive":{{"offset":-2,"bucketCounts":["2"]}}}}]}}}},
          {{"name":"q","summary":{{"dataPoints":[{{"timeUnixNano":"{NOW_NS}","count":"1","sum":2,
              "quantileValues":[{{"quantile":1,"value":5}}]}}]}}}},
          {{"name":"nothing","future":{{}}}}]}}]}}]}}"#
    );
    let answer = setup.ingest.otlp_http(Signal::Metrics, &headers(JSON), Bytes::from(body)).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"{}"[..]));
    let batch = setup.stores.metric_batch();
    assert_eq!(
        samples(&batch),
        [
            format!("{{__name__=\"g\", n=\"7\"}} -3@{NOW_MS}"),
            format!("{{__name__=\"h_bucket\", le=\"+Inf\"}} 3@{NOW_MS}"),
            format!("{{__name__=\"h_bucket\", le=\"1\"}} 1@{NOW_MS}"),
            format!("{{__name__=\"h_count\"}} 3@{NOW_MS}"),
            format!("{{__name__=\"h_sum\"}} 1@{NOW_MS}"),
            format!("{{__name__=\"q\", quantile=\"1\"}} 5@{NOW_MS}"),
            format!("{{__name__=\"q_count\"}} 1@{NOW_MS}"),
            format!("{{__name__=\"q_sum\"}} 2@{NOW_MS}"),
            format!("{{__name__=\"s_bytes_total\"}} inf@{NOW_MS}"),
        ]
    );
    assert_eq!(batch.histograms[0].value.positive().collect::<Vec<_>>(), [(-1, 2.0)]);
}
