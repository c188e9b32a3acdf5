//! The metric messages of OTLP's JSON encoding.

use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar, number_data_point,
};

use super::json::Object;
use crate::IngestError;

type Taken<T> = Result<T, IngestError>;

pub(super) fn resource_metrics(r: &mut Object) -> Taken<ResourceMetrics> {
    Ok(ResourceMetrics {
        resource: r.resource()?,
        scope_metrics: r.list("scopeMetrics", |s| {
            Ok(ScopeMetrics {
                scope: s.scope()?,
                metrics: s.list("metrics", metric)?,
                schema_url: s.text("schemaUrl")?,
            })
        })?,
        schema_url: r.text("schemaUrl")?,
    })
}

fn metric(m: &mut Object) -> Taken<Metric> {
    let gauge = m.object("gauge", |g| Ok(Gauge { data_points: g.list("dataPoints", number_point)? }))?;
    let sum = m.object("sum", |s| {
        Ok(Sum {
            data_points: s.list("dataPoints", number_point)?,
            aggregation_temporality: s.i32("aggregationTemporality")?,
            is_monotonic: s.bool("isMonotonic")?,
        })
    })?;
    let histogram = m.object("histogram", |h| {
        Ok(Histogram {
            data_points: h.list("dataPoints", histogram_point)?,
            aggregation_temporality: h.i32("aggregationTemporality")?,
        })
    })?;
    let exponential = m.object("exponentialHistogram", |h| {
        Ok(ExponentialHistogram {
            data_points: h.list("dataPoints", exponential_point)?,
            aggregation_temporality: h.i32("aggregationTemporality")?,
        })
    })?;
    let summary = m.object("summary", |s| Ok(Summary { data_points: s.list("dataPoints", summary_point)? }))?;
    let data = gauge
        .map(Data::Gauge)
        .or(sum.map(Data::Sum))
        .or(histogram.map(Data::Histogram))
        .or(exponential.map(Data::ExponentialHistogram))
        .or(summary.map(Data::Summary));
    Ok(Metric {
        name: m.text("name")?,
        description: m.text("description")?,
        unit: m.text("unit")?,
        metadata: Vec::new(),
        data,
    })
}

fn number_point(p: &mut Object) -> Taken<NumberDataPoint> {
    let value = match p.f64("asDouble")? {
        Some(v) => Some(number_data_point::Value::AsDouble(v)),
        None => p.i64("asInt")?.map(number_data_point::Value::AsInt),
    };
    Ok(NumberDataPoint {
        attributes: p.attributes("attributes")?,
        start_time_unix_nano: p.u64("startTimeUnixNano")?,
        time_unix_nano: p.u64("timeUnixNano")?,
        exemplars: p.list("exemplars", exemplar)?,
        flags: p.u32("flags")?,
        value,
    })
}

fn exemplar(e: &mut Object) -> Taken<Exemplar> {
    let value = match e.f64("asDouble")? {
        Some(v) => Some(exemplar::Value::AsDouble(v)),
        None => e.i64("asInt")?.map(exemplar::Value::AsInt),
    };
    Ok(Exemplar {
        filtered_attributes: e.attributes("filteredAttributes")?,
        time_unix_nano: e.u64("timeUnixNano")?,
        span_id: e.id("spanId")?,
        trace_id: e.id("traceId")?,
        value,
    })
}

fn histogram_point(p: &mut Object) -> Taken<HistogramDataPoint> {
    Ok(HistogramDataPoint {
        attributes: p.attributes("attributes")?,
        start_time_unix_nano: p.u64("startTimeUnixNano")?,
        time_unix_nano: p.u64("timeUnixNano")?,
        count: p.u64("count")?,
        sum: p.f64("sum")?,
        bucket_counts: p.u64_list("bucketCounts")?,
        explicit_bounds: p.f64_list("explicitBounds")?,
        exemplars: p.list("exemplars", exemplar)?,
        flags: p.u32("flags")?,
        min: p.f64("min")?,
        max: p.f64("max")?,
    })
}

fn exponential_point(p: &mut Object) -> Taken<ExponentialHistogramDataPoint> {
    let buckets = |b: &mut Object| Ok(Buckets { offset: b.i32("offset")?, bucket_counts: b.u64_list("bucketCounts")? });
    Ok(ExponentialHistogramDataPoint {
        attributes: p.attributes("attributes")?,
        start_time_unix_nano: p.u64("startTimeUnixNano")?,
        time_unix_nano: p.u64("timeUnixNano")?,
        count: p.u64("count")?,
        sum: p.f64("sum")?,
        scale: p.i32("scale")?,
        zero_count: p.u64("zeroCount")?,
        positive: p.object("positive", buckets)?,
        negative: p.object("negative", buckets)?,
        flags: p.u32("flags")?,
        exemplars: p.list("exemplars", exemplar)?,
        min: p.f64("min")?,
        max: p.f64("max")?,
        zero_threshold: p.f64("zeroThreshold")?.unwrap_or(0.0),
    })
}

fn summary_point(p: &mut Object) -> Taken<SummaryDataPoint> {
    Ok(SummaryDataPoint {
        attributes: p.attributes("attributes")?,
        start_time_unix_nano: p.u64("startTimeUnixNano")?,
        time_unix_nano: p.u64("timeUnixNano")?,
        count: p.u64("count")?,
        sum: p.f64("sum")?.unwrap_or(0.0),
        quantile_values: p.list("quantileValues", |q| {
            Ok(ValueAtQuantile { quantile: q.f64("quantile")?.unwrap_or(0.0), value: q.f64("value")?.unwrap_or(0.0) })
        })?,
        flags: p.u32("flags")?,
    })
}
