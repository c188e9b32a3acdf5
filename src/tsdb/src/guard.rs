//! The cardinality guard: who may have new series.
//!
//! Series are counted by the value of their label `job`, a tenant apart. When a limit is reached, new series of the job
//! that reached it are refused; what exists goes on.
//!
//! Of the limits over all jobs the last tenth is shared: the less is left, the smaller a job must be to get a new series
//! (see [`may_take`]). What counts of a job is what it grew lately, those refused included; in the last twentieth of
//! `series_active_max` all its series count. So one that explodes is stopped at nine tenths, one that grows slowly at
//! nineteen twentieths, and there is room for a job that comes later; series without `job` are one job.
//!
//! Whose fault a refusal is: that of a job that grew by more than the reserve lately, the job's own first; else the job's
//! own, if it has more series than the average job; else the largest job's. That one is listed as the offender.
//!
//! Series that the parts know are not new: they are counted, never refused. Neither are those of a replay.

mod exposed;
mod sketch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Counted, Labels, Offender, TenantId};
use trefoil_runtime::{Accountant, Limits, Pool, SharedClock, limits};

use self::exposed::Exposed;
use self::sketch::Sketch;
use crate::metrics;

/// The label by which series are counted.
const JOB: &str = "job";
/// Bytes of the memtable pool for each series that [`Limits::series_active_max`] allows by itself: 3,000,000 series
/// at a budget of 8 GiB.
const POOL_BYTES_PER_SERIES: u64 = 1145;
/// New series that a minute did not use are saved for so many minutes, so that a start is not refused.
const SAVED_MINUTES: u64 = 10;
/// Of limits over all jobs the last part, one in so many, is shared by what jobs grew lately.
const GROWTH_RESERVE: u64 = 10;
/// Of the limit on active series the last part, one in so many, is shared by what jobs have.
const SIZE_RESERVE: u64 = 20;
/// Jobs counted apart; further ones share one count.
const JOBS_MAX: usize = 10_000;
/// Stands for the jobs beyond [`JOBS_MAX`].
const OTHER_JOBS: &str = "(other jobs)";
/// A job that grew by this many series lately gets a sketch of its labels.
const SKETCH_GROWTH: u64 = 100;
/// Refused series that are remembered, so that the parts are not asked again and each counts once.
const REFUSED_MAX: usize = 1 << 18;
/// How long somebody stays in the list of offenders after the last refusal.
const OFFENDER_MS: i64 = 3_600_000;
/// Offenders that are logged in a minute; further ones are when their next series is refused.
const LOGGED_PER_MINUTE: u32 = 10;
/// Jobs with this part of the allowed series, one in so many, keep their sketch.
const KEEP_SKETCH: u64 = 100;
const MINUTE_MS: u64 = 60_000;

/// The limits in force.
#[derive(Debug, Clone, Copy)]
struct GuardLimits {
    active: u64,
    active_per_job: u64,
    new: u64,
    new_per_job: u64,
}

/// See the module.
pub(crate) struct Guard {
    limits: GuardLimits,
    clock: SharedClock,
    state: Arc<Mutex<State>>,
    /// Active series of all jobs, to be read without the lock.
    active: AtomicU64,
    _exposed: Exposed,
}

/// A series was not let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    limit: limits::LimitName,
    limit_value: u64,
    job: u32,
    /// The job at fault.
    culprit: u32,
}

impl Refusal {
    /// What all refusals with the same reason share: the limit and the job at fault.
    pub(crate) fn cause(&self) -> (&'static str, u32) {
        (self.limit, self.culprit)
    }
}

#[derive(Default)]
struct State {
    by_name: FxHashMap<TenantId, FxHashMap<Box<str>, u32>>,
    jobs: Vec<Job>,
    /// Places of `jobs` that nobody uses.
    free: Vec<u32>,
    /// Series of all jobs.
    total: u64,
    /// Jobs with series.
    inhabited: u64,
    /// New series let in lately.
    taken: u64,
    /// Jobs that got new series lately.
    taking: u64,
    /// The job with most series.
    largest: u32,
    /// The job that got most new series lately.
    fastest: u32,
    /// Series from which on a job keeps its sketch.
    large: u64,
    allowance: Allowance,
    refused: FxHashSet<u64>,
    minute: u64,
    /// Offenders logged in this minute.
    logged: u32,
}

#[derive(Default)]
struct Job {
    tenant: TenantId,
    name: Box<str>,
    series: u64,
    /// New series lately, those refused included; a quarter is forgotten each minute.
    grown: u64,
    /// New series let in lately, forgotten likewise.
    taken: u64,
    allowance: Allowance,
    sketch: Option<Box<Sketch>>,
    /// Series that came by a replay and are in no sketch yet.
    unsketched: u64,
    trouble: Option<Box<Trouble>>,
}

/// Refusals for which a job is to blame.
struct Trouble {
    limit: limits::LimitName,
    limit_value: u64,
    refused: u64,
    since_ms: i64,
    last_ms: i64,
    logged: bool,
}

/// New series that are still allowed.
#[derive(Debug, Default, Clone, Copy)]
struct Allowance {
    left: f64,
    at: Option<Duration>,
}

impl Allowance {
    /// What `per_minute` leaves now.
    fn refill(&mut self, per_minute: u64, now: Duration) {
        let most = per_minute as f64 * SAVED_MINUTES as f64;
        self.left = match self.at {
            None => most,
            Some(at) => (self.left + now.saturating_sub(at).as_secs_f64() / 60.0 * per_minute as f64).min(most),
        };
        self.at = Some(now);
    }
}

impl Guard {
    pub(crate) fn new(limits: &Limits, accountant: &Accountant, clock: SharedClock) -> Self {
        let active = match limits.series_active_max {
            0 => accountant.limit(Pool::Memtable) / POOL_BYTES_PER_SERIES,
            max => max,
        };
        let limits = GuardLimits {
            active,
            active_per_job: limits.series_active_per_job_max,
            new: limits.series_new_per_minute_max,
            new_per_job: limits.series_new_per_job_per_minute_max,
        };
        let state = State { large: (limits.active / KEEP_SKETCH).max(SKETCH_GROWTH), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        Self { limits, _exposed: Exposed::new(&state, &clock), clock, state, active: AtomicU64::new(0) }
    }

    /// True when the series with this hash was refused before, so that no part knows it.
    pub(crate) fn was_refused(&self, hash: u64) -> bool {
        let state = self.state.lock();
        !state.refused.is_empty() && state.refused.contains(&hash)
    }

    /// Counts a series that is made now, or refuses it. `known`: it has samples in parts. Returns the number under
    /// which [`Guard::forget`] takes it back.
    pub(crate) fn admit(&self, hash: u64, tenant: TenantId, labels: &Labels, known: bool) -> Result<u32, Refusal> {
        let (now, now_ms) = (self.clock.monotonic(), self.clock.now_ms());
        let mut state = self.state.lock();
        state.pass_minutes(now, now_ms);
        let at = state.job(tenant, labels.get(JOB).unwrap_or(""));
        if !known {
            state.grow(at, labels);
            if let Some(refusal) = state.hit(at, &self.limits, now) {
                state.refuse(refusal, hash, labels, now_ms);
                return Err(refusal);
            }
            state.take(at);
        }
        state.count(at);
        self.active.store(state.total, Ordering::Relaxed);
        Ok(at)
    }

    /// Counts a series that a replay brings.
    pub(crate) fn count(&self, tenant: TenantId, labels: &Labels) -> u32 {
        let mut state = self.state.lock();
        let at = state.job(tenant, labels.get(JOB).unwrap_or(""));
        state.count(at);
        state.jobs[at as usize].unsketched += 1;
        self.active.store(state.total, Ordering::Relaxed);
        at
    }

    /// Active series of all jobs: those with a sample since the last flush but one.
    pub(crate) fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Looks at all series of the job at fault when some of them came without a look at their labels, as those of a replay
    /// do. `all` calls with the job and the labels of every series.
    pub(crate) fn survey(&self, refusal: &Refusal, all: impl FnOnce(&mut dyn FnMut(u32, &Labels))) {
        let job = refusal.culprit;
        let is_wanted = |state: &mut State| std::mem::take(&mut state.jobs[job as usize].unsketched) > 0;
        if !is_wanted(&mut self.state.lock()) {
            return;
        }
        let mut found = Sketch::default();
        all(&mut |of, labels| {
            if of == job {
                found.add(labels);
            }
        });
        let mut state = self.state.lock();
        let sketch = state.jobs[job as usize].sketch.get_or_insert_default();
        sketch.merge(found);
        state.tell(job);
    }

    /// Takes back series that are no longer active, each by its job's number.
    pub(crate) fn forget(&self, jobs: impl Iterator<Item = u32>) {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.lock();
        for at in jobs {
            let job = &mut state.jobs[at as usize];
            debug_assert!(job.series > 0, "a series is forgotten once");
            job.series = job.series.saturating_sub(1);
            let is_empty = job.series == 0;
            state.total = state.total.saturating_sub(1);
            state.inhabited -= u64::from(is_empty);
        }
        self.active.store(state.total, Ordering::Relaxed);
        state.make_room(now_ms);
    }

    /// Says why, for the sender.
    pub(crate) fn reason(&self, refusal: Refusal, labels: &Labels) -> String {
        let state = self.state.lock();
        let culprit = &state.jobs[refusal.culprit as usize];
        let (limit, max) = (refusal.limit, refusal.limit_value);
        let (metric, name, series) = (labels.metric_name(), &culprit.name, culprit.series);
        let label = culprit.sketch.as_ref().and_then(|s| s.exploding());
        let label = label.map(|l| format!("; its label {:?} has about {} values", l.name, l.value)).unwrap_or_default();
        let of = match refusal.job == refusal.culprit {
            true => String::new(),
            false => format!(" of job {:?}", state.jobs[refusal.job as usize].name),
        };
        format!(
            "new series of {metric:?}{of} refused by limit {limit} ({max}): job {name:?} has {series} series{label}"
        )
    }

    /// Those who are or were lately to blame for refusals, most refused first.
    pub(crate) fn offenders(&self, tenant: TenantId) -> Vec<Offender> {
        self.state.lock().offenders(self.clock.now_ms(), |job| job.tenant == tenant)
    }

    /// Active series of all jobs.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.state.lock().total
    }
}

impl Job {
    fn offender(&self) -> Option<Offender> {
        let trouble = self.trouble.as_ref()?;
        let sketch = self.sketch.as_ref();
        Some(Offender {
            job: self.name.to_string(),
            limit: trouble.limit,
            limit_value: trouble.limit_value,
            series: self.series,
            refused: trouble.refused,
            since_ms: trouble.since_ms,
            last_ms: trouble.last_ms,
            label: sketch.and_then(|s| s.exploding()).unwrap_or(Counted { name: String::new(), value: 0 }),
            metric: sketch.map(|s| s.metric()).unwrap_or_default(),
        })
    }
}

impl State {
    /// The place of a job, a new one if need be.
    fn job(&mut self, tenant: TenantId, name: &str) -> u32 {
        let known = self.by_name.entry(tenant).or_default();
        if let Some(at) = known.get(name) {
            return *at;
        }
        let name = match name {
            _ if self.jobs.len() - self.free.len() < JOBS_MAX => name,
            _ if known.contains_key(OTHER_JOBS) => return known[OTHER_JOBS],
            _ => OTHER_JOBS,
        };
        let job = Job { tenant, name: Box::from(name), ..Job::default() };
        let at = match self.free.pop() {
            Some(at) => {
                self.jobs[at as usize] = job;
                at
            }
            None => {
                self.jobs.push(job);
                (self.jobs.len() - 1) as u32
            }
        };
        known.insert(Box::from(name), at);
        at
    }

    fn count(&mut self, at: u32) {
        let largest = self.series_of(self.largest);
        let job = &mut self.jobs[at as usize];
        job.series += 1;
        if job.series > largest {
            self.largest = at;
        }
        self.inhabited += u64::from(job.series == 1);
        self.total += 1;
    }

    fn series_of(&self, at: u32) -> u64 {
        self.jobs.get(at as usize).map_or(0, |j| j.series)
    }

    fn taken_of(&self, at: u32) -> u64 {
        self.jobs.get(at as usize).map_or(0, |j| j.taken)
    }

    fn grow(&mut self, at: u32, labels: &Labels) {
        let job = &mut self.jobs[at as usize];
        job.grown += 1;
        if job.grown > SKETCH_GROWTH || job.sketch.is_some() {
            job.sketch.get_or_insert_default().add(labels);
        }
    }

    /// A new series is let in.
    fn take(&mut self, at: u32) {
        let fastest = self.taken_of(self.fastest);
        self.allowance.left -= 1.0;
        let job = &mut self.jobs[at as usize];
        job.allowance.left -= 1.0;
        job.taken += 1;
        if job.taken > fastest {
            self.fastest = at;
        }
        self.taken += 1;
        self.taking += u64::from(job.taken == 1);
    }

    /// The limit that forbids another series of a job, if one does, and who is to blame.
    fn hit(&mut self, at: u32, limits: &GuardLimits, now: Duration) -> Option<Refusal> {
        self.allowance.refill(limits.new, now);
        let job = &mut self.jobs[at as usize];
        job.allowance.refill(limits.new_per_job, now);
        let own = |limit, limit_value| Some(Refusal { limit, limit_value, job: at, culprit: at });
        if job.series >= limits.active_per_job {
            return own("series_active_per_job_max", limits.active_per_job);
        }
        if job.allowance.left < 1.0 {
            return own("series_new_per_job_per_minute_max", limits.new_per_job);
        }
        let (max, left) = (limits.active as f64, limits.active.saturating_sub(self.total) as f64);
        let grown = job.series.min(job.grown.saturating_sub(1));
        if !may_take(grown, left, max, GROWTH_RESERVE) || !may_take(job.series, left, max, SIZE_RESERVE) {
            let (reserve, is_large) =
                (limits.active / GROWTH_RESERVE, job.series * self.inhabited.max(1) >= self.total);
            let culprit = match grown >= reserve {
                true => at,
                false if self.taken_of(self.fastest) >= reserve => self.fastest,
                false if is_large => at,
                false => self.largest,
            };
            return Some(Refusal { limit: "series_active_max", limit_value: limits.active, job: at, culprit });
        }
        let max = limits.new as f64 * SAVED_MINUTES as f64;
        if !may_take(job.taken, self.allowance.left, max, GROWTH_RESERVE) {
            let is_own = job.taken.saturating_mul(self.taking.max(1)) >= self.taken;
            let culprit = if is_own { at } else { self.fastest };
            return Some(Refusal { limit: "series_new_per_minute_max", limit_value: limits.new, job: at, culprit });
        }
        None
    }

    fn refuse(&mut self, refusal: Refusal, hash: u64, labels: &Labels, now_ms: i64) {
        let Refusal { limit, limit_value, job: at, culprit } = refusal;
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        let is_first = self.refused.insert(hash);
        limits::hit(limit);
        if is_first {
            metrics::SERIES_REFUSED.with_label_values(&[limit]).inc();
        }
        let job = &mut self.jobs[culprit as usize];
        if is_first && at == culprit {
            if job.sketch.is_none() {
                job.sketch.get_or_insert_default().add(labels);
            }
            job.sketch.get_or_insert_default().add_metric(labels.metric_name());
        }
        let trouble = job.trouble.get_or_insert_with(|| {
            Box::new(Trouble { limit, limit_value, refused: 0, since_ms: now_ms, last_ms: now_ms, logged: false })
        });
        (trouble.limit, trouble.limit_value, trouble.last_ms) = (limit, limit_value, now_ms);
        trouble.refused += u64::from(is_first);
        // Otherwise once its series were looked at.
        if job.unsketched == 0 {
            self.tell(culprit);
        }
    }

    /// Logs the trouble of a job, once.
    fn tell(&mut self, culprit: u32) {
        let job = &mut self.jobs[culprit as usize];
        let Some(trouble) = &mut job.trouble else { return };
        if trouble.logged || self.logged >= LOGGED_PER_MINUTE {
            return;
        }
        let (limit, limit_value) = (trouble.limit, trouble.limit_value);
        trouble.logged = true;
        self.logged += 1;
        let tenant = job.tenant.0;
        if let Some(o) = job.offender() {
            tracing::warn!(
                tenant,
                job = o.job,
                limit,
                limit_value,
                series = o.series,
                label = o.label.name,
                values = o.label.value,
                metric = o.metric,
                "new series are refused"
            );
        }
    }

    /// Those who are to blame, most refused first.
    fn offenders(&self, now_ms: i64, is_asked: impl Fn(&Job) -> bool) -> Vec<Offender> {
        let mut offenders: Vec<Offender> = self.jobs.iter().filter(|j| is_asked(j)).filter_map(Job::offender).collect();
        offenders.retain(|o| now_ms.saturating_sub(o.last_ms) <= OFFENDER_MS);
        offenders.sort_by(|a, b| b.refused.cmp(&a.refused).then_with(|| a.job.cmp(&b.job)));
        offenders
    }

    /// Forgets growth and old refusals as time goes by.
    fn pass_minutes(&mut self, now: Duration, now_ms: i64) {
        let minute = now.as_millis() as u64 / MINUTE_MS;
        let passed = minute.saturating_sub(self.minute);
        if passed == 0 {
            return;
        }
        self.minute = minute;
        (self.taken, self.taking, self.logged) = (0, 0, 0);
        for job in &mut self.jobs {
            for _ in 0..passed.min(64) {
                job.grown -= job.grown.div_ceil(4);
                job.taken -= job.taken.div_ceil(4);
            }
            self.taken += job.taken;
            self.taking += u64::from(job.taken > 0);
        }
        self.make_room(now_ms);
    }

    /// Gives places of jobs back that have nothing to remember, and forgets old refusals.
    fn make_room(&mut self, now_ms: i64) {
        for (at, job) in self.jobs.iter_mut().enumerate() {
            if job.trouble.as_ref().is_some_and(|t| now_ms.saturating_sub(t.last_ms) > OFFENDER_MS) {
                job.trouble = None;
            }
            if job.grown == 0 && job.trouble.is_none() {
                if job.series < self.large {
                    job.sketch = None;
                }
                let known = self.by_name.get_mut(&job.tenant).expect("a job's tenant is known");
                if job.series == 0 && known.get(&*job.name) == Some(&(at as u32)) {
                    known.remove(&*job.name);
                    self.free.push(at as u32);
                }
            }
        }
        let most = |of: fn(&Job) -> u64| (0..self.jobs.len()).max_by_key(|at| of(&self.jobs[*at])).unwrap_or(0) as u32;
        (self.largest, self.fastest) = (most(|j| j.series), most(|j| j.taken));
    }
}

/// Whether a job of so many series may have one of the `left` that a limit of `max` leaves.
///
/// While more than the reserve (`max / reserve`) is left, everybody may. In it a job's size must be below
/// `(max - reserve) x (left / reserve)²`: with half of the reserve left a quarter of what one job can have, with a
/// tenth left a hundredth.
fn may_take(size: u64, left: f64, max: f64, reserve: u64) -> bool {
    let reserve = max / reserve as f64;
    left >= 1.0 && (left > reserve || (size as f64) < (max - reserve) * (left / reserve).powi(2))
}

#[cfg(test)]
mod tests;
