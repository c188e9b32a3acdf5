//! The graph of services over a range of time, read back from the metrics store.

use std::collections::BTreeMap;
use std::sync::Arc;

use trefoil_model::labels::{BUCKET_LABEL, METRIC_NAME};
use trefoil_model::metric::is_stale_nan;
use trefoil_model::{
    FloatHistogram, Labels, MatchOp, Matcher, MetricReader, QueryBudget, SampleBuffer, SelectRequest, StoreError,
    TenantId, TimeRange,
};

/// How far before a range the last sample before it is looked for, in milliseconds: the longest flush interval.
const LOOKBACK_MS: i64 = 300_000;
const METRICS: &str = "traces_service_graph_request_(total|failed_total|(server|client)_seconds(_bucket|_sum|_count)?)";

/// How long requests of an edge took, as one side says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Latency {
    /// Requests that were measured.
    pub count: f64,
    /// Seconds of all of them.
    pub sum: f64,
    /// Requests that took at most so long, by seconds, ascending; cumulative.
    buckets: Vec<(f64, f64)>,
}

/// A client, a server, and the requests between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GraphEdge {
    /// Who asks.
    pub client: String,
    /// Who answers.
    pub server: String,
    /// "" between two services, else what the other side is: see [`crate::spans::VIRTUAL_NODE`] and its neighbours.
    pub connection_type: String,
    /// Requests.
    pub requests: f64,
    /// Those that failed.
    pub failed: f64,
    /// As the server says.
    pub server_latency: Latency,
    /// As the client says.
    pub client_latency: Latency,
}

impl Latency {
    /// The mean in seconds; `None` without requests.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    /// The quantile in seconds, from 0 to 1, interpolated within its bucket; `None` without requests.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.buckets.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = q.clamp(0.0, 1.0) * total;
        let at = self.buckets.partition_point(|(_, count)| *count < rank).min(self.buckets.len() - 1);
        let (below, before) = if at == 0 { (0.0, 0.0) } else { self.buckets[at - 1] };
        let (bound, count) = self.buckets[at];
        if !bound.is_finite() {
            return Some(below);
        }
        let within = count - before;
        Some(if within > 0.0 { below + (bound - below) * (rank - before) / within } else { bound })
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        let bounds: Vec<f64> = self.buckets.iter().chain(&other.buckets).map(|(bound, _)| *bound).collect();
        let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
        for bound in bounds {
            sums.insert(bound.to_bits(), up_to(&self.buckets, bound) + up_to(&other.buckets, bound));
        }
        self.buckets = sums.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect();
    }

    /// Populations by bound as cumulative counts.
    fn set_populations(&mut self, populations: &BTreeMap<u64, f64>) {
        let mut sum = 0.0;
        self.buckets = populations
            .iter()
            .map(|(bits, count)| {
                sum += count;
                (f64::from_bits(*bits), sum)
            })
            .collect();
    }
}

/// The cumulative count at the greatest bound that is not above another.
fn up_to(buckets: &[(f64, f64)], bound: f64) -> f64 {
    match buckets.partition_point(|(b, _)| *b <= bound) {
        0 => 0.0,
        at => buckets[at - 1].1,
    }
}

/// By how much a counter grew in `start_ms < t`; resets count from zero.
fn increase(samples: &SampleBuffer, start_ms: i64) -> f64 {
    let (mut sum, mut last) = (0.0, None);
    for (t_ms, value) in samples.times.iter().zip(&samples.values) {
        if is_stale_nan(*value) {
            last = None;
            continue;
        }
        if let Some(last) = last.filter(|_| *t_ms > start_ms) {
            sum += if *value < last { *value } else { value - last };
        }
        last = Some(*value);
    }
    sum
}

/// Populations of the positive buckets and the zero bucket by upper bound, which is greater than 0, in seconds.
fn populations(histogram: &FloatHistogram) -> BTreeMap<u64, f64> {
    let bound = |index: i32| (f64::from(index) / f64::from(histogram.schema).exp2()).exp2();
    let mut out: BTreeMap<u64, f64> = histogram.positive().map(|(i, count)| (bound(i).to_bits(), count)).collect();
    if histogram.zero_count > 0.0 {
        out.insert(histogram.zero_threshold.to_bits(), histogram.zero_count);
    }
    out
}

/// By how much a native histogram grew in `start_ms < t`: count, sum, populations by upper bound.
fn native_increase(samples: &SampleBuffer, start_ms: i64) -> (f64, f64, BTreeMap<u64, f64>) {
    let (mut count, mut sum, mut grown) = (0.0, 0.0, BTreeMap::new());
    let mut last: Option<Arc<FloatHistogram>> = None;
    for (index, histogram) in &samples.histograms {
        if histogram.is_stale() {
            last = None;
            continue;
        }
        if let Some(last) = last.as_ref().filter(|_| samples.times[*index as usize] > start_ms) {
            let is_reset = histogram.count < last.count;
            let (base_count, base_sum) = if is_reset { (0.0, 0.0) } else { (last.count, last.sum) };
            count += histogram.count - base_count;
            sum += histogram.sum - base_sum;
            let now = populations(histogram);
            let before = if is_reset { BTreeMap::new() } else { populations(last) };
            // The bounds of a coarser resolution are some of those of a finer one.
            let mut left = before.iter().peekable();
            for (bits, population) in now {
                let mut known = 0.0;
                while let Some((_, count)) = left.next_if(|(bound, _)| **bound <= bits) {
                    known += count;
                }
                *grown.entry(bits).or_default() += (population - known).max(0.0);
            }
        }
        last = Some(Arc::clone(histogram));
    }
    (count, sum, grown)
}

/// The edges with requests in `range.start_ms < t < range.end_ms`, by client, server and type. Requests belong to the time
/// at which they were counted, which is up to a flush interval after their spans came in.
pub fn read(
    reader: &dyn MetricReader,
    tenant: TenantId,
    range: TimeRange,
    budget: &dyn QueryBudget,
) -> Result<Vec<GraphEdge>, StoreError> {
    let matcher = Matcher::new(MatchOp::Regex, METRIC_NAME.to_owned(), METRICS.to_owned());
    let Ok(matcher) = matcher else { return Ok(Vec::new()) };
    let lookback_ms = LOOKBACK_MS.saturating_add(reader.coarsest_interval_ms(tenant, range).saturating_mul(2));
    let wide = TimeRange::new(range.start_ms.saturating_sub(lookback_ms), range.end_ms);
    let request = SelectRequest { tenant, matchers: vec![matcher], range: wide };
    let mut edges: BTreeMap<[String; 3], GraphEdge> = BTreeMap::new();
    let mut native: BTreeMap<([String; 3], bool), BTreeMap<u64, f64>> = BTreeMap::new();
    let mut samples = SampleBuffer::default();
    for series in reader.select(&request, budget)? {
        budget.check()?;
        samples.clear();
        series.source.read(wide, &mut samples)?;
        let labels = &series.labels;
        let key = ["client", "server", "connection_type"].map(|name| labels.get(name).unwrap_or("").to_owned());
        let edge = edges.entry(key.clone()).or_default();
        let grown = increase(&samples, range.start_ms);
        let name = labels.metric_name().trim_start_matches("traces_service_graph_request_");
        let latency = match name {
            "total" => {
                edge.requests += grown;
                continue;
            }
            "failed_total" => {
                edge.failed += grown;
                continue;
            }
            name if name.starts_with("server") => &mut edge.server_latency,
            _ => &mut edge.client_latency,
        };
        if name.ends_with("_sum") {
            latency.sum += grown;
        } else if name.ends_with("_count") {
            latency.count += grown;
        } else if name.ends_with("_bucket") {
            latency.buckets.extend(bound_of(labels).map(|bound| (bound, grown)));
        } else {
            let (count, sum, by_bound) = native_increase(&samples, range.start_ms);
            // Where both are kept the classic ones say it already.
            native.insert((key, name.starts_with("server")), by_bound);
            if count > 0.0 && latency.count == 0.0 {
                (latency.count, latency.sum) = (count, sum);
            }
        }
    }
    let mut out = Vec::new();
    for (key, mut edge) in edges {
        for (is_server, latency) in [(true, &mut edge.server_latency), (false, &mut edge.client_latency)] {
            latency.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            if let Some(by_bound) = native.get(&(key.clone(), is_server)).filter(|_| latency.buckets.is_empty()) {
                latency.set_populations(by_bound);
            }
        }
        [edge.client, edge.server, edge.connection_type] = key;
        if edge.requests > 0.0 {
            out.push(edge);
        }
    }
    Ok(out)
}

fn bound_of(labels: &Labels) -> Option<f64> {
    labels.get(BUCKET_LABEL)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(points: &[(i64, f64)]) -> SampleBuffer {
        let mut out = SampleBuffer::default();
        points.iter().for_each(|(t, v)| out.push_float(*t, 0, *v));
        out
    }

    #[test]
    fn a_counter_grows_over_resets_and_ends() {
        let stale = trefoil_model::metric::STALE_NAN;
        for (points, start, want) in [
            (vec![(0, 0.0), (10, 5.0), (20, 7.0)], -1, 7.0),
            (vec![(0, 0.0), (10, 5.0), (20, 7.0)], 10, 2.0),
            (vec![(0, 5.0), (10, 0.0), (20, 3.0)], -1, 3.0),
            (vec![(0, 5.0), (10, 2.0)], 0, 2.0),
            (vec![(0, 5.0), (10, stale), (20, 0.0), (30, 1.0)], 0, 1.0),
            (vec![], 0, 0.0),
        ] {
            assert_eq!(increase(&floats(&points), start), want, "{points:?} after {start}");
        }
    }

    #[test]
    fn quantiles_are_interpolated() {
        let mut latency = Latency { count: 4.0, sum: 1.0, buckets: vec![(0.1, 2.0), (0.2, 4.0), (f64::INFINITY, 4.0)] };
        assert_eq!((latency.quantile(0.5), latency.quantile(1.0), latency.mean()), (Some(0.1), Some(0.2), Some(0.25)));
        let other = Latency { count: 1.0, sum: 9.0, buckets: vec![(0.1, 0.0), (0.2, 0.0), (f64::INFINITY, 1.0)] };
        latency.add(&other);
        assert_eq!((latency.quantile(1.0), latency.count), (Some(0.2), 5.0));
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
