//! Native histograms (exponential and custom buckets), as Prometheus defines them.

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the previous span; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known of a counter reset between the previous sample and this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A reset happened.
    CounterReset,
    /// No reset happened.
    NotCounterReset,
    /// A gauge histogram: resets have no meaning.
    Gauge,
}

/// The schema of histograms with custom bounds (NHCB).
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram with absolute populations.
///
/// Integer histograms are held as floats with `integer` set; whole numbers up to 2^53 are exact.
/// Bucket `i` of an exponential schema covers `(2^((i-1)*2^-schema), 2^(i*2^-schema)]`; of schema -53
/// `(custom_values[i-1], custom_values[i]]`, the last one up to +Inf.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FloatHistogram {
    /// Resolution: -4 to 8, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Population of the zero bucket.
    pub zero_count: f64,
    /// All observations, NaN and zero bucket included.
    pub count: f64,
    /// Sum of all observations; a stale NaN here makes the sample a stale marker.
    pub sum: f64,
    /// Spans of positive buckets.
    pub positive_spans: Vec<Span>,
    /// Spans of negative buckets.
    pub negative_spans: Vec<Span>,
    /// Populations of positive buckets, span after span.
    pub positive_buckets: Vec<f64>,
    /// Populations of negative buckets, span after span.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds for schema -53, ascending, without +Inf.
    pub custom_values: Vec<f64>,
    /// What is known of a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
    /// True when the sender's flavour was integer.
    pub integer: bool,
}

impl FloatHistogram {
    /// True for custom bounds (schema -53).
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// True when this sample is a stale marker.
    pub fn is_stale(&self) -> bool {
        crate::metric::is_stale_nan(self.sum)
    }

    /// Checks spans against buckets; the message names what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if !(-4..=8).contains(&self.schema) && !self.uses_custom_buckets() {
            return Err(format!("histogram schema {} is not between -4 and 8 and not -53", self.schema));
        }
        for (side, spans, buckets) in [
            ("positive", &self.positive_spans, &self.positive_buckets),
            ("negative", &self.negative_spans, &self.negative_buckets),
        ] {
            let want: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
            if want != buckets.len() as u64 {
                return Err(format!("{side} spans need {want} buckets, have {}", buckets.len()));
            }
            if spans.iter().skip(1).any(|s| s.offset < 0) {
                return Err(format!("{side} side has a span with a negative offset"));
            }
            if buckets.iter().any(|b| *b < 0.0) {
                return Err(format!("{side} side has a bucket with a negative population"));
            }
        }
        if self.uses_custom_buckets() {
            if self.custom_values.windows(2).any(|w| w[0] >= w[1]) {
                return Err("custom bounds do not ascend".to_owned());
            }
            if !self.negative_spans.is_empty() || self.zero_count != 0.0 {
                return Err("custom buckets have neither negative side nor zero bucket".to_owned());
            }
        }
        Ok(())
    }

    /// Iterates over `(bucket index, population)` of the positive side.
    pub fn positive(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets)
    }

    /// Iterates over `(bucket index, population)` of the negative side.
    pub fn negative(&self) -> impl Iterator<Item = (i32, f64)> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        (self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len()) * 8
            + (self.positive_spans.len() + self.negative_spans.len()) * 8
    }
}

fn indexed<'a>(spans: &'a [Span], buckets: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    spans
        .iter()
        .flat_map(move |s| {
            let first = next.wrapping_add(s.offset);
            next = first.wrapping_add(s.length as i32);
            (0..s.length as i32).map(move |k| first.wrapping_add(k))
        })
        .zip(buckets.iter().copied())
}
