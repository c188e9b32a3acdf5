//! Ranges of time. Samples carry Unix milliseconds, events Unix nanoseconds.

/// Milliseconds of a UTC day, the length of a partition.
pub const DAY_MS: i64 = 86_400_000;
/// Nanoseconds of a UTC day, the length of a partition.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// A half-open range of Unix milliseconds: `start_ms <= t < end_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond inside.
    pub start_ms: i64,
    /// First millisecond after.
    pub end_ms: i64,
}

impl TimeRange {
    /// All representable time.
    pub const ALL: Self = Self { start_ms: i64::MIN, end_ms: i64::MAX };

    /// Makes the range `start_ms <= t < end_ms`.
    pub fn new(start_ms: i64, end_ms: i64) -> Self {
        Self { start_ms, end_ms }
    }

    /// True when `t_ms` lies inside.
    pub fn contains(&self, t_ms: i64) -> bool {
        self.start_ms <= t_ms && t_ms < self.end_ms
    }

    /// True when the closed interval `min_ms..=max_ms` has a point in this range.
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        self.start_ms <= max_ms && min_ms < self.end_ms
    }
}

/// A half-open range of Unix nanoseconds: `start_ns <= t < end_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NanoRange {
    /// First nanosecond inside.
    pub start_ns: i64,
    /// First nanosecond after.
    pub end_ns: i64,
}

impl NanoRange {
    /// All representable time.
    pub const ALL: Self = Self { start_ns: i64::MIN, end_ns: i64::MAX };

    /// Makes the range `start_ns <= t < end_ns`.
    pub fn new(start_ns: i64, end_ns: i64) -> Self {
        Self { start_ns, end_ns }
    }

    /// True when `t_ns` lies inside.
    pub fn contains(&self, t_ns: i64) -> bool {
        self.start_ns <= t_ns && t_ns < self.end_ns
    }

    /// True when the closed interval `min_ns..=max_ns` has a point in this range.
    pub fn overlaps(&self, min_ns: i64, max_ns: i64) -> bool {
        self.start_ns <= max_ns && min_ns < self.end_ns
    }
}

/// The UTC day (days since 1970-01-01, may be negative) of a Unix millisecond.
pub fn day_of_ms(t_ms: i64) -> i64 {
    t_ms.div_euclid(DAY_MS)
}

/// The UTC day (days since 1970-01-01, may be negative) of a Unix nanosecond.
pub fn day_of_ns(t_ns: i64) -> i64 {
    t_ns.div_euclid(DAY_NS)
}
