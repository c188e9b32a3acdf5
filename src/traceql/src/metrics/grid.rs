//! The buckets of a metrics query: `(t - step, t]`, named by their end.

use trefoil_model::NanoRange;

use crate::Error;

/// Most steps of a range query.
pub const STEPS_MAX: usize = 11_001;

/// Buckets of one length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// End of the first bucket.
    first_ns: i64,
    step_ns: i64,
    pub(crate) steps: usize,
    /// First and last nanosecond of the one bucket of an instant query.
    instant: Option<(i64, i64)>,
}

impl Grid {
    pub(crate) fn range(start_ns: i64, end_ns: i64, step_ns: i64) -> Result<Self, Error> {
        let fault = |text: &str| Err(Error::Query(text.to_owned()));
        if step_ns <= 0 {
            return fault("the step must be greater than 0");
        }
        if end_ns < start_ns {
            return fault("the end lies before the start");
        }
        let step = i128::from(step_ns);
        let first = i128::from(start_ns).div_euclid(step) * step;
        let last = (i128::from(end_ns) + step - 1).div_euclid(step) * step;
        let steps = (last - first) / step + 1;
        if steps > STEPS_MAX as i128 {
            return fault(&format!("more than {STEPS_MAX} steps: take a greater step or a shorter range"));
        }
        let (Ok(first_ns), Ok(_), true) =
            (i64::try_from(first), i64::try_from(last), first - step > i128::from(i64::MIN))
        else {
            return fault("the range is too far from the year 1970");
        };
        Ok(Self { first_ns, step_ns, steps: usize::try_from(steps).unwrap_or(STEPS_MAX), instant: None })
    }

    pub(crate) fn instant(start_ns: i64, end_ns: i64) -> Result<Self, Error> {
        if end_ns < start_ns {
            return Err(Error::Query("the end lies before the start".to_owned()));
        }
        let step_ns = end_ns.saturating_sub(start_ns).max(1);
        Ok(Self { first_ns: end_ns, step_ns, steps: 1, instant: Some((start_ns, end_ns)) })
    }

    pub(crate) fn is_instant(&self) -> bool {
        self.instant.is_some()
    }

    /// Length of a bucket in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.step_ns as f64 / 1e9
    }

    pub(crate) fn times_ns(&self) -> Vec<i64> {
        (0..self.steps as i64).map(|i| self.first_ns + i * self.step_ns).collect()
    }

    /// Where spans must start.
    pub(crate) fn covers(&self) -> NanoRange {
        match self.instant {
            Some((start, end)) => NanoRange::new(start, end.saturating_add(1)),
            None => {
                let last = self.first_ns + (self.steps as i64 - 1) * self.step_ns;
                NanoRange::new(self.first_ns - self.step_ns + 1, last.saturating_add(1))
            }
        }
    }

    /// The bucket of a time, when there is one.
    pub(crate) fn bucket(&self, t_ns: i64) -> Option<usize> {
        if self.is_instant() {
            return self.covers().contains(t_ns).then_some(0);
        }
        // The constructor saw that this is a time; steps are above 0.
        let least = self.first_ns - self.step_ns + 1;
        if t_ns < least {
            return None;
        }
        let bucket = t_ns.wrapping_sub(least) as u64 / self.step_ns as u64;
        usize::try_from(bucket).ok().filter(|b| *b < self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_at_their_time() {
        let grid = Grid::range(25, 60, 20).unwrap();
        assert_eq!(grid.times_ns(), [20, 40, 60]);
        for (t, bucket) in [(0, None), (1, Some(0)), (20, Some(0)), (21, Some(1)), (60, Some(2)), (61, None)] {
            assert_eq!(grid.bucket(t), bucket, "{t}");
        }
        let instant = Grid::instant(5, 10).unwrap();
        let buckets = [4, 5, 10, 11].map(|t| instant.bucket(t));
        assert_eq!(buckets, [None, Some(0), Some(0), None]);
        for (start, end, step) in [(0, 1, 0), (2, 1, 1), (0, 20_000, 1), (i64::MIN, i64::MIN + 5, 10)] {
            assert!(Grid::range(start, end, step).is_err(), "{start} {end} {step}");
        }
        assert!(Grid::range(i64::MAX - 5, i64::MAX, 10).is_err());
    }
}
