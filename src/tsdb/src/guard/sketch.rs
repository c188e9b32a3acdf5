//! What new series of a job are made of: about how many values each label has, and which metric has most.

use std::hash::Hasher;

use rustc_hash::FxHasher;
use trefoil_model::{Counted, Labels, labels::METRIC_NAME};

/// Label names that are looked at.
const NAMES_MAX: usize = 64;
/// Metric names that are counted at once.
const METRICS_MAX: usize = 16;
/// Counters of a HyperLogLog; the error is about 6 %.
const REGISTERS: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Sketch {
    labels: Vec<(Box<str>, Distinct)>,
    /// Misra-Gries: whoever has more than one part in `METRICS_MAX + 1` of the series is in it.
    metrics: Vec<(Box<str>, u64)>,
}

impl Sketch {
    pub(super) fn add(&mut self, labels: &Labels) {
        for (name, value) in labels {
            let at = match self.labels.iter().position(|(n, _)| &**n == name) {
                Some(at) => at,
                None if self.labels.len() < NAMES_MAX => {
                    self.labels.push((Box::from(name), Distinct::default()));
                    self.labels.len() - 1
                }
                None => continue,
            };
            self.labels[at].1.add(value);
        }
    }

    /// Takes in the label values of another one.
    pub(super) fn merge(&mut self, other: Self) {
        for (name, values) in other.labels {
            let known = self.labels.iter_mut().find(|(n, _)| *n == name);
            if let Some((_, known)) = known {
                known.0.iter_mut().zip(values.0.iter()).for_each(|(a, b)| *a = (*a).max(*b));
            } else if self.labels.len() < NAMES_MAX {
                self.labels.push((name, values));
            }
        }
    }

    pub(super) fn add_metric(&mut self, name: &str) {
        if let Some((_, count)) = self.metrics.iter_mut().find(|(n, _)| &**n == name) {
            *count += 1;
        } else if self.metrics.len() < METRICS_MAX {
            self.metrics.push((Box::from(name), 1));
        } else {
            self.metrics.iter_mut().for_each(|(_, count)| *count -= 1);
            self.metrics.retain(|(_, count)| *count > 0);
        }
    }

    /// The label with most values, if any has several. The metric name counts only when no other label has more.
    pub(super) fn exploding(&self) -> Option<Counted> {
        let counted = self.labels.iter().map(|(name, values)| (&**name, values.estimate()));
        let most = counted.filter(|(_, n)| *n > 1).max_by_key(|(name, n)| (*n, *name != METRIC_NAME));
        most.map(|(name, value)| Counted { name: name.to_owned(), value })
    }

    /// The metric with most of the refused series.
    pub(super) fn metric(&self) -> String {
        self.metrics.iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_string()).unwrap_or_default()
    }
}

/// A HyperLogLog.
struct Distinct(Box<[u8; REGISTERS]>);

impl Default for Distinct {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl Distinct {
    fn add(&mut self, value: &str) {
        let mut hasher = FxHasher::default();
        hasher.write(value.as_bytes());
        let hash = mix(hasher.finish());
        let register = &mut self.0[hash as usize % REGISTERS];
        *register = (*register).max((hash >> 8).trailing_zeros().min(56) as u8 + 1);
    }

    fn estimate(&self) -> u64 {
        let m = REGISTERS as f64;
        let sum: f64 = self.0.iter().map(|r| 0.5f64.powi(i32::from(*r))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let empty = self.0.iter().filter(|r| **r == 0).count();
        let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}

/// Spreads a hash over all bits (the finalizer of MurmurHash3).
fn mix(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ h >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_near() {
        for n in [0u64, 1, 10, 100, 1000, 50_000] {
            let mut distinct = Distinct::default();
            for i in 0..n {
                for _ in 0..2 {
                    distinct.add(&format!("value-{i}"));
                }
            }
            let got = distinct.estimate();
            assert!(got.abs_diff(n) <= n / 5 + 1, "{n}: {got}");
        }
    }

    #[test]
    fn the_most_frequent_metric_is_found() {
        let mut sketch = Sketch::default();
        for i in 0..1000 {
            sketch.add_metric(if i % 3 == 0 { "often" } else { "x" });
            sketch.add_metric(&format!("rare_{i}"));
        }
        assert_eq!(sketch.metric(), "x");
    }
}
