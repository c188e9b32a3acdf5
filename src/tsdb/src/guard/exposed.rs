//! The offenders as metrics, right at every scrape: they are counted when somebody asks.

use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, IntGaugeVec, Opts};
use trefoil_runtime::SharedClock;

use super::State;

/// Offenders in the metrics.
const OFFENDER_METRICS: usize = 10;
/// Bytes of a job or label name in metrics.
const METRIC_TEXT_MAX: usize = 128;

/// Open guards with their clocks.
type Guards = Vec<(Weak<Mutex<State>>, SharedClock)>;

/// The guards of open stores.
static GUARDS: LazyLock<Mutex<Guards>> = LazyLock::new(|| {
    // Only a second registration under the name fails, and this is the only one.
    prometheus::register(Box::new(Offenders)).expect("unique metric names");
    Mutex::default()
});

/// Keeps a guard's offenders in the metrics.
pub(super) struct Exposed(Weak<Mutex<State>>);

impl Exposed {
    pub(super) fn new(state: &Arc<Mutex<State>>, clock: &SharedClock) -> Self {
        let state = Arc::downgrade(state);
        GUARDS.lock().push((Weak::clone(&state), Arc::clone(clock)));
        Self(state)
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        GUARDS.lock().retain(|(guard, _)| !guard.ptr_eq(&self.0));
    }
}

struct Offenders;

fn count() -> IntGauge {
    let help = "Jobs because of which new series are or were lately refused";
    IntGauge::new("trefoil_tsdb_cardinality_offenders", help).expect("the name is valid")
}

fn refused() -> IntGaugeVec {
    let help = "New series refused lately because of the ten worst jobs, with the label that explodes";
    let opts = Opts::new("trefoil_tsdb_cardinality_offender_series_refused", help);
    IntGaugeVec::new(opts, &["job", "label", "limit"]).expect("the names are valid")
}

impl Collector for Offenders {
    fn desc(&self) -> Vec<&Desc> {
        static DESC: LazyLock<Vec<Desc>> =
            LazyLock::new(|| [count().desc(), refused().desc()].into_iter().flatten().cloned().collect());
        DESC.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (count, refused) = (count(), refused());
        let guards: Vec<_> =
            GUARDS.lock().iter().filter_map(|(g, clock)| Some((g.upgrade()?, Arc::clone(clock)))).collect();
        for (state, clock) in guards {
            let offenders = state.lock().offenders(clock.now_ms(), |_| true);
            count.add(i64::try_from(offenders.len()).unwrap_or(i64::MAX));
            for o in offenders.iter().take(OFFENDER_METRICS) {
                refused
                    .with_label_values(&[cut(&o.job), cut(&o.label.name), o.limit])
                    .add(i64::try_from(o.refused).unwrap_or(i64::MAX));
            }
        }
        let mut families = count.collect();
        families.extend(refused.collect());
        families
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(METRIC_TEXT_MAX)]
}
