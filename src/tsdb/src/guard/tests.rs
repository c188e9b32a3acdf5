use std::sync::Arc;

use trefoil_runtime::SimClock;

use super::*;

fn limits(active: u64, per_job: u64, new: u64, new_per_job: u64) -> Limits {
    Limits {
        series_active_max: active,
        series_active_per_job_max: per_job,
        series_new_per_minute_max: new,
        series_new_per_job_per_minute_max: new_per_job,
        ..Limits::default()
    }
}

struct Fixture {
    guard: Guard,
    clock: Arc<SimClock>,
    next: u64,
}

impl Fixture {
    fn new(limits: &Limits) -> Self {
        let clock = SimClock::new(1_000_000_000_000);
        let guard = Guard::new(limits, &Accountant::unlimited(), Arc::clone(&clock) as SharedClock);
        Self { guard, clock, next: 0 }
    }

    /// Offers `n` new series of a job; returns how many were let in and why the last one was not.
    fn offer(&mut self, job: &str, n: u64) -> (u64, &'static str) {
        let (mut admitted, mut why) = (0, "");
        for _ in 0..n {
            self.next += 1;
            let path = self.next.to_string();
            let labels = Labels::from_pairs([("__name__", "m"), ("job", job), ("path", &path)]);
            match self.guard.admit(labels.stable_hash(), TenantId(0), &labels, false) {
                Ok(_) => admitted += 1,
                Err(refusal) => why = refusal.limit,
            }
        }
        (admitted, why)
    }
}

const NONE: u64 = u64::MAX;

#[test]
fn limits_of_a_job() {
    let mut f = Fixture::new(&limits(NONE, 5, NONE, NONE));
    assert_eq!(f.offer("a", 5), (5, ""));
    assert_eq!(f.offer("a", 1), (0, "series_active_per_job_max"));
    assert_eq!(f.offer("b", 5), (5, ""));
    f.guard.forget([0, 0].into_iter());
    assert_eq!(f.offer("a", 3), (2, "series_active_per_job_max"));
    assert_eq!(f.guard.total(), 10);

    let mut f = Fixture::new(&limits(NONE, NONE, NONE, 6));
    assert_eq!(f.offer("a", 61), (60, "series_new_per_job_per_minute_max"));
    assert_eq!(f.offer("b", 60), (60, ""));
    f.clock.advance(Duration::from_secs(30));
    assert_eq!(f.offer("a", 10), (3, "series_new_per_job_per_minute_max"));
}

#[test]
fn one_job_alone_has_everything() {
    let mut f = Fixture::new(&limits(100, NONE, NONE, NONE));
    assert_eq!(f.offer("a", 99), (99, ""));
    assert_eq!(f.offer("a", 1), (1, ""));
    assert_eq!(f.offer("a", 1), (0, "series_active_max"));
}

#[test]
fn the_reserve_is_for_the_others() {
    for (limits, limit) in [
        (limits(10_000, NONE, NONE, NONE), "series_active_max"),
        (limits(NONE, NONE, 1000, NONE), "series_new_per_minute_max"),
    ] {
        let mut f = Fixture::new(&limits);
        assert_eq!(f.offer("good", 100), (100, ""));
        let (admitted, why) = f.offer("bomb", 20_000);
        assert!((9300..=9500).contains(&admitted), "{limit}: {admitted}");
        assert_eq!(why, limit);
        assert_eq!(f.offer("good", 200), (200, ""), "{limit}");
        assert_eq!(f.offer("new", 50), (50, ""), "{limit}");
        assert_eq!(f.offer("bomb", 100), (0, limit));
        // What it offers when it was quiet for long is its part of the reserve.
        let offender = &f.guard.offenders(TenantId(0))[0];
        assert_eq!((&*offender.job, offender.limit, &*offender.metric), ("bomb", limit, "m"));
        assert_eq!(offender.label.name, "path");
        assert!(offender.label.value > 10_000, "{offender:?}");
        assert_eq!(offender.refused, 20_100 - admitted);
        assert_eq!(f.guard.offenders(TenantId(1)), []);
    }
}

#[test]
fn known_series_and_replays_are_never_refused() {
    let f = Fixture::new(&limits(1, 1, 1, 1));
    for i in 0..100 {
        let path = i.to_string();
        let labels = Labels::from_pairs([("job", "a"), ("path", &path)]);
        f.guard.admit(i, TenantId(0), &labels, true).unwrap();
        f.guard.count(TenantId(0), &labels);
    }
    assert_eq!(f.guard.total(), 200);
}

#[test]
fn a_refused_series_counts_once_and_is_remembered() {
    let mut f = Fixture::new(&limits(NONE, 1, NONE, NONE));
    f.offer("a", 1);
    let labels = Labels::from_pairs([("__name__", "m"), ("job", "a"), ("path", "new")]);
    for _ in 0..3 {
        let refusal = f.guard.admit(7, TenantId(0), &labels, false).unwrap_err();
        let reason = f.guard.reason(refusal, &labels);
        assert!(reason.contains("limit series_active_per_job_max (1): job \"a\" has 1 series"), "{reason}");
    }
    assert!(f.guard.was_refused(7));
    assert_eq!(f.guard.offenders(TenantId(0))[0].refused, 1);
}

#[test]
fn many_jobs_share_a_place() {
    let mut f = Fixture::new(&limits(NONE, 10, NONE, NONE));
    for i in 0..JOBS_MAX + 100 {
        f.offer(&format!("job-{i}"), 1);
    }
    let state = f.guard.state.lock();
    assert!(state.jobs.len() <= JOBS_MAX + 1, "{}", state.jobs.len());
    drop(state);
    assert_eq!(f.offer("another", 1), (0, "series_active_per_job_max"));
    // Places of jobs that are gone are given to others once they have not grown for long.
    f.guard.forget(0..JOBS_MAX as u32);
    f.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(f.offer("another", 1), (1, ""));
}
