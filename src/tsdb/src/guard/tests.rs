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
fn one_job_alone_leaves_the_reserve() {
    let mut f = Fixture::new(&limits(1000, NONE, NONE, NONE));
    assert_eq!(f.offer("a", 900), (900, ""));
    assert_eq!(f.offer("a", 1), (0, "series_active_max"));
    // One that grows slowly gets more, but not everything.
    f.clock.advance(Duration::from_secs(3600));
    assert_eq!(f.offer("a", 51), (50, "series_active_max"));
    assert_eq!(f.offer("b", 10), (10, ""));
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
        assert!((8850..=9000).contains(&admitted), "{limit}: {admitted}");
        assert_eq!(why, limit);
        assert_eq!(f.offer("good", 200), (200, ""), "{limit}");
        assert_eq!(f.offer("new", 50), (50, ""), "{limit}");
        assert_eq!(f.offer("bomb", 100), (0, limit));
        let offenders = f.guard.offenders(TenantId(0));
        assert_eq!(offenders.len(), 1, "{offenders:?}");
        let offender = &offenders[0];
        assert_eq!((&*offender.job, offender.limit, &*offender.metric), ("bomb", limit, "m"));
        assert_eq!(offender.label.name, "path");
        assert!(offender.label.value > 10_000, "{offender:?}");
        assert_eq!(offender.refused, 20_100 - admitted);
        assert_eq!(f.guard.offenders(TenantId(1)), []);
    }
}

#[test]
fn who_comes_last_does_not_pay_for_others() {
    let mut f = Fixture::new(&limits(2000, NONE, NONE, NONE));
    for _ in 0..6 {
        assert_eq!(f.offer("bad", 300), (300, ""));
    }
    assert_eq!(f.offer("", 100), (100, ""));
    for job in ["x", "y", "z"] {
        assert_eq!(f.offer(job, 10), (10, ""), "{job}");
    }
    assert_eq!(f.offer("bad", 10), (0, "series_active_max"));
    assert_eq!(f.offer("", 500).1, "series_active_max");
    for job in ["u", "v", "w"] {
        assert!(f.offer(job, 5).0 >= 2, "{job}");
    }
    // Whoever is refused at the end: the largest is to blame, and its label is said.
    let mut i = 0;
    let labels = loop {
        i += 1;
        let labels = Labels::from_pairs([("__name__", "m"), ("job", &*format!("late-{i}"))]);
        if let Err(refusal) = f.guard.admit(labels.stable_hash(), TenantId(0), &labels, false) {
            let reason = f.guard.reason(refusal, &labels);
            assert!(reason.contains("limit series_active_max (2000): job \"bad\" has 1800 series"), "{reason}");
            assert!(reason.contains("its label \"path\" has about"), "{reason}");
            break labels;
        }
        assert!(i <= 200, "the limit holds");
    };
    assert!(i > 10, "{i}");
    assert!(f.guard.was_refused(labels.stable_hash()));
    let jobs: Vec<String> = f.guard.offenders(TenantId(0)).into_iter().map(|o| o.job).collect();
    assert_eq!(jobs, ["bad"]);
    assert!(f.guard.total() <= 2000);
}

#[test]
fn a_large_job_that_does_not_grow_is_no_offender() {
    let mut f = Fixture::new(&limits(20_000, NONE, NONE, NONE));
    assert_eq!(f.offer("large", 14_000), (14_000, ""));
    f.clock.advance(Duration::from_secs(3600));
    let (admitted, _) = f.offer("bomb", 10_000);
    assert!((4000..5500).contains(&admitted), "{admitted}");
    assert_eq!(f.offer("large", 100), (100, ""));
    assert_eq!(f.offer("bomb", 100), (0, "series_active_max"));
    let offenders = f.guard.offenders(TenantId(0));
    assert_eq!(offenders.iter().map(|o| &*o.job).collect::<Vec<_>>(), ["bomb"]);
}

#[test]
fn equal_jobs_share_all_of_it() {
    let mut f = Fixture::new(&limits(2000, NONE, NONE, NONE));
    let mut admitted = 0;
    for _ in 0..30 {
        admitted += (0..100).map(|i| f.offer(&format!("job-{i}"), 1).0).sum::<u64>();
    }
    assert!((1940..=2000).contains(&admitted), "{admitted}");
    let state = f.guard.state.lock();
    let series: Vec<u64> = state.jobs.iter().map(|j| j.series).collect();
    assert!(series.iter().all(|s| (18..=21).contains(s)), "{series:?}");
}

#[test]
fn offenders_are_exposed_and_each_is_logged() {
    let mut f = Fixture::new(&limits(NONE, 10, NONE, NONE));
    let exposed = |job: &str| {
        let families = prometheus::gather();
        let of = |name: &str| families.iter().find(|f| f.name() == name).map(|f| f.get_metric().to_vec());
        assert!(of("trefoil_tsdb_cardinality_offenders").is_some());
        let refused = of("trefoil_tsdb_cardinality_offender_series_refused").unwrap_or_default();
        let is_of = |m: &&prometheus::proto::Metric| m.get_label().iter().any(|l| l.value() == job);
        refused.iter().find(is_of).map(|m| m.get_gauge().get_value())
    };
    for (job, refused) in [("exposed-1", 5), ("exposed-2", 6), ("exposed-3", 7)] {
        assert_eq!(exposed(job), None);
        f.offer(job, 10 + refused);
        assert_eq!(exposed(job), Some(refused as f64));
        f.offer(job, 1);
        assert_eq!(exposed(job), Some(refused as f64 + 1.0));
    }
    assert!(f.guard.state.lock().jobs.iter().all(|j| j.trouble.as_ref().is_some_and(|t| t.logged)));
    // Many at once are logged as time goes by.
    for i in 0..20 {
        f.offer(&format!("other-{i}"), 11);
    }
    let logged =
        |f: &Fixture| f.guard.state.lock().jobs.iter().filter(|j| j.trouble.as_ref().is_some_and(|t| t.logged)).count();
    assert_eq!(logged(&f), LOGGED_PER_MINUTE as usize);
    f.clock.advance(Duration::from_secs(60));
    f.offer("other-19", 1);
    assert_eq!(logged(&f), LOGGED_PER_MINUTE as usize + 1);
    // An hour later nobody is an offender.
    f.clock.advance(Duration::from_secs(3700));
    assert_eq!((exposed("exposed-1"), f.guard.offenders(TenantId(0)).len()), (None, 0));
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
