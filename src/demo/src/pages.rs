//! The OpenMetrics pages of the shop's parts, with exemplars.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Bucket bounds of the request histogram in seconds.
const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[derive(Debug, Clone)]
struct Exemplar {
    trace: String,
    span: String,
    value: f64,
    at_s: f64,
}

#[derive(Debug, Clone, Default)]
struct Histogram {
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
    exemplars: [Option<Exemplar>; BOUNDS.len() + 1],
}

/// One measured call.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Route or queue.
    pub route: &'a str,
    /// Status code.
    pub code: u16,
    /// Duration.
    pub seconds: f64,
    /// Trace id, hexadecimal.
    pub trace: &'a str,
    /// Span id, hexadecimal.
    pub span: &'a str,
    /// Unix seconds.
    pub at_s: f64,
}

/// The state behind one page.
#[derive(Debug, Clone, Default)]
pub struct Page {
    requests: BTreeMap<(String, u16), u64>,
    durations: BTreeMap<String, Histogram>,
    counters: BTreeMap<&'static str, (&'static str, f64)>,
    gauges: BTreeMap<&'static str, (&'static str, f64)>,
}

impl Page {
    /// Counts a call.
    pub fn observe(&mut self, call: Call<'_>) {
        *self.requests.entry((call.route.to_owned(), call.code)).or_default() += 1;
        let h = self.durations.entry(call.route.to_owned()).or_default();
        let bucket = BOUNDS.iter().position(|b| call.seconds <= *b).unwrap_or(BOUNDS.len());
        h.buckets[bucket] += 1;
        h.sum += call.seconds;
        h.exemplars[bucket] = Some(Exemplar {
            trace: call.trace.to_owned(),
            span: call.span.to_owned(),
            value: call.seconds,
            at_s: call.at_s,
        });
    }

    /// Adds to a counter; `name` without `_total`.
    pub fn add(&mut self, name: &'static str, help: &'static str, n: f64) {
        self.counters.entry(name).or_insert((help, 0.0)).1 += n;
    }

    /// Sets a gauge.
    pub fn set(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.gauges.insert(name, (help, value));
    }

    /// The page as text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a string does not fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if !self.requests.is_empty() {
            writeln!(out, "# TYPE shop_requests counter\n# HELP shop_requests Requests by route and status code.")?;
            for ((route, code), n) in &self.requests {
                writeln!(out, "shop_requests_total{{route=\"{route}\",code=\"{code}\"}} {n}")?;
            }
            writeln!(
                out,
                "# TYPE shop_request_duration_seconds histogram\n# UNIT shop_request_duration_seconds seconds\n# HELP shop_request_duration_seconds Duration of requests by route."
            )?;
            for (route, h) in &self.durations {
                let mut total = 0;
                for (i, n) in h.buckets.iter().enumerate() {
                    total += n;
                    let le = BOUNDS.get(i).map_or("+Inf".to_owned(), |b| format!("{b:?}"));
                    write!(out, "shop_request_duration_seconds_bucket{{route=\"{route}\",le=\"{le}\"}} {total}")?;
                    if let Some(e) = &h.exemplars[i] {
                        write!(
                            out,
                            " # {{trace_id=\"{}\",span_id=\"{}\"}} {} {:.3}",
                            e.trace, e.span, e.value, e.at_s
                        )?;
                    }
                    out.push('\n');
                }
                writeln!(out, "shop_request_duration_seconds_sum{{route=\"{route}\"}} {}", h.sum)?;
                writeln!(out, "shop_request_duration_seconds_count{{route=\"{route}\"}} {total}")?;
            }
        }
        for (name, (help, value)) in &self.counters {
            writeln!(out, "# TYPE {name} counter\n# HELP {name} {help}\n{name}_total {value}")?;
        }
        for (name, (help, value)) in &self.gauges {
            writeln!(out, "# TYPE {name} gauge\n# HELP {name} {help}\n{name} {value}")?;
        }
        writeln!(out, "# EOF")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_cumulative_buckets_and_an_exemplar() {
        let mut page = Page::default();
        let call = Call { route: "/a", code: 200, seconds: 0.02, trace: "t", span: "s", at_s: 1.5 };
        page.observe(call);
        page.observe(Call { seconds: 9.0, ..call });
        page.add("shop_cache_hits", "Hits.", 2.0);
        let text = page.render();
        assert!(text.contains("shop_requests_total{route=\"/a\",code=\"200\"} 2\n"), "{text}");
        assert!(text.contains("le=\"0.025\"} 1 # {trace_id=\"t\",span_id=\"s\"} 0.02 1.500\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 2 # "), "{text}");
        assert!(text.contains("shop_cache_hits_total 2\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
