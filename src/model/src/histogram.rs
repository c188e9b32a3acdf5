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

    /// Checks that the fields fit together, without comparing counts; the message names what is wrong.
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
            let free = usize::from(!self.uses_custom_buckets());
            if spans.iter().skip(free).any(|s| s.offset < 0) {
                return Err(format!("{side} side has a span with a negative offset"));
            }
            if buckets.iter().any(|b| *b < 0.0) {
                return Err(format!("{side} side has a bucket with a negative population"));
            }
        }
        if self.count < 0.0 || self.zero_count < 0.0 {
            return Err(format!("count {} or zero count {} is negative", self.count, self.zero_count));
        }
        if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err(format!("zero threshold {} is not a width", self.zero_threshold));
        }
        if self.uses_custom_buckets() {
            self.validate_custom()?;
        } else if !self.custom_values.is_empty() {
            return Err("exponential buckets have no custom bounds".to_owned());
        }
        Ok(())
    }

    /// Checks that the count of an integer histogram is what its buckets hold, as Prometheus does before it takes one from
    /// a sender. NaN observations are in the count alone, so with a sum of NaN it may be larger. Counts of float histograms
    /// are rounded and not compared.
    pub fn validate_count(&self) -> Result<(), String> {
        if !self.integer {
            return Ok(());
        }
        let in_buckets = self.positive_buckets.iter().chain(&self.negative_buckets).sum::<f64>() + self.zero_count;
        let is_right = if self.sum.is_nan() { in_buckets <= self.count } else { in_buckets == self.count };
        match is_right {
            true => Ok(()),
            false => Err(format!("{in_buckets} observations are in buckets, but the count is {}", self.count)),
        }
    }

    fn validate_custom(&self) -> Result<(), String> {
        let bounds = &self.custom_values;
        if bounds.iter().any(|bound| bound.is_nan()) || bounds.last() == Some(&f64::INFINITY) {
            return Err("custom bounds are finite numbers".to_owned());
        }
        if bounds.windows(2).any(|w| w[0] >= w[1]) || bounds.first() == Some(&f64::NEG_INFINITY) {
            return Err("custom bounds do not ascend".to_owned());
        }
        let length: i64 = self.positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        if length > bounds.len() as i64 + 1 {
            return Err(format!("{} custom bounds are too few for spans of length {length}", bounds.len()));
        }
        let has_negative = !self.negative_spans.is_empty() || !self.negative_buckets.is_empty();
        if has_negative || self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            return Err("custom buckets have neither negative side nor zero bucket".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut FloatHistogram), wanted: &str) {
        let mut h = FloatHistogram {
            zero_threshold: 1e-128,
            count: 3.0,
            sum: 4.0,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: -3, length: 2 }],
            positive_buckets: vec![1.0, 1.0],
            integer: true,
            ..FloatHistogram::default()
        };
        change(&mut h);
        let found = h.validate().and_then(|()| h.validate_count());
        assert_eq!(found.err().unwrap_or_default(), wanted, "{h:?}");
    }

    fn custom(h: &mut FloatHistogram, bounds: &[f64]) {
        (h.schema, h.zero_threshold, h.zero_count, h.count) = (CUSTOM_BUCKETS_SCHEMA, 0.0, 0.0, 2.0);
        h.custom_values = bounds.to_vec();
        h.positive_spans[0].offset = 0;
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        check(|_| {}, "");
        check(|h| h.count = 4.0, "3 observations are in buckets, but the count is 4");
        check(|h| (h.count, h.sum) = (4.0, f64::NAN), "");
        check(|h| (h.count, h.sum) = (0.0, f64::NAN), "3 observations are in buckets, but the count is 0");
        check(|h| (h.count, h.integer) = (4.0, false), "");
        check(|h| (h.count, h.integer) = (-1.0, false), "count -1 or zero count 1 is negative");
        check(|h| h.zero_threshold = -1.0, "zero threshold -1 is not a width");
        check(|h| h.zero_threshold = f64::NAN, "zero threshold NaN is not a width");
        check(|h| h.custom_values = vec![1.0], "exponential buckets have no custom bounds");
        check(|h| h.positive_buckets[1] = -1.0, "positive side has a bucket with a negative population");
        check(|h| custom(h, &[1.0]), "");
        check(|h| custom(h, &[]), "0 custom bounds are too few for spans of length 2");
        check(|h| custom(h, &[2.0, 1.0]), "custom bounds do not ascend");
        check(|h| custom(h, &[1.0, f64::INFINITY]), "custom bounds are finite numbers");
        check(|h| custom(h, &[f64::NAN]), "custom bounds are finite numbers");
        let with_zero = |h: &mut FloatHistogram| {
            custom(h, &[1.0]);
            h.zero_threshold = 0.5;
        };
        check(with_zero, "custom buckets have neither negative side nor zero bucket");
    }
}
