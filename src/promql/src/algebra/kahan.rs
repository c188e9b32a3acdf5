//! Compensated summation (Kahan with Neumaier's improvement).

/// Adds `increment` to `sum` with the compensation `c`; returns the new pair. An infinite sum clears `c`.
#[inline]
pub fn add(increment: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + increment;
    if t.is_infinite() {
        (t, 0.0)
    } else if sum.abs() >= increment.abs() {
        (t, c + ((sum - t) + increment))
    } else {
        (t, c + ((increment - t) + sum))
    }
}

/// A running compensated sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// The plain sum.
    pub sum: f64,
    /// What the plain sum lost.
    pub c: f64,
}

impl Sum {
    /// A sum that starts at `v`.
    pub fn new(v: f64) -> Self {
        Self { sum: v, c: 0.0 }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, v: f64) {
        (self.sum, self.c) = add(v, self.sum, self.c);
    }

    /// The compensated value.
    pub fn value(self) -> f64 {
        self.sum + self.c
    }
}

/// A running compensated mean that goes over to incremental means before the sum overflows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    total: Sum,
    mean: f64,
    count: f64,
    incremental: bool,
}

impl Mean {
    /// A mean of one value.
    pub fn new(v: f64) -> Self {
        Self { total: Sum::new(v), mean: v, count: 1.0, incremental: false }
    }

    /// Adds a value.
    pub fn add(&mut self, v: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, c) = add(v, self.total.sum, self.total.c);
            if !sum.is_infinite() {
                self.total = Sum { sum, c };
                return;
            }
            self.incremental = true;
            self.mean = self.total.sum / (self.count - 1.0);
            self.total.c /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.mean, self.total.c) = add(v / self.count, q * self.mean, q * self.total.c);
    }

    /// The mean.
    pub fn value(self) -> f64 {
        if self.incremental {
            self.mean + self.total.c
        } else {
            self.total.sum / self.count + self.total.c / self.count
        }
    }
}
