//! The cardinality guard: who may have new series.
//!
//! Series are counted by the value of their label `job`, a tenant apart. When a limit is reached, new series of the job
//! that reached it are refused; what exists goes on. Of the limits over all jobs the last twentieth is a reserve: in it
//! a job gets new series only while it has not grown more than its share, so that one that explodes is stopped
//! before it takes everybody's room.
//!
//! Series that the parts know are not new: they are counted, never refused. Neither are those of a replay.

mod sketch;

use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use trefoil_model::{Counted, Labels, Offender, TenantId};
use trefoil_runtime::{Accountant, Limits, Pool, SharedClock, limits};

use self::sketch::Sketch;
use crate::metrics;

/// The label by which series are counted.
const JOB: &str = "job";
/// Bytes of the memtable pool for each series that [`Limits::series_active_max`] allows by itself: 3,000,000 series
/// at a budget of 8 GiB.
const POOL_BYTES_PER_SERIES: u64 = 1145;
/// New series that a minute did not use are saved for so many minutes, so that a start is not refused.
const SAVED_MINUTES: u64 = 10;
/// Of limits over all jobs this part, one in so many, is kept for jobs that do not grow more than others.
const RESERVE: u64 = 20;
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
/// Offenders in the metrics.
const OFFENDER_METRICS: usize = 10;
/// Bytes of a job or label name in metrics.
const METRIC_TEXT_MAX: usize = 128;
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
    state: Mutex<State>,
}

/// A series was not let in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    limit: limits::LimitName,
    limit_value: u64,
    job: u32,
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
    /// New series lately, those refused included.
    grown: u64,
    /// Jobs with new series lately.
    growing: u64,
    allowance: Allowance,
    refused: FxHashSet<u64>,
    minute: u64,
    warned: Option<Duration>,
}

#[derive(Default)]
struct Job {
    tenant: TenantId,
    name: Box<str>,
    series: u64,
    /// New series lately, those refused included; a quarter is forgotten each minute.
    grown: u64,
    allowance: Allowance,
    sketch: Option<Box<Sketch>>,
    trouble: Option<Box<Trouble>>,
}

/// Refusals of a job.
struct Trouble {
    limit: limits::LimitName,
    limit_value: u64,
    refused: u64,
    since_ms: i64,
    last_ms: i64,
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
        Self { limits, clock, state: Mutex::default() }
    }

    /// True when the series with this hash was refused before, so that no part knows it.
    pub(crate) fn was_refused(&self, hash: u64) -> bool {
        let state = self.state.lock();
        !state.refused.is_empty() && state.refused.contains(&hash)
    }

    /// Counts a series that is made now, or refuses it. `known`: it has samples in parts. Returns the number under
    /// which [`Guard::forget`] takes it back.
    pub(crate) fn admit(&self, hash: u64, tenant: TenantId, labels: &Labels, known: bool) -> Result<u32, Refusal> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        state.pass_minutes(now);
        let at = state.job(tenant, labels.get(JOB).unwrap_or(""));
        if !known {
            state.grow(at, labels);
            if let Some((limit, limit_value)) = state.hit(at, &self.limits, now) {
                let refusal = Refusal { limit, limit_value, job: at };
                state.refuse(refusal, hash, labels, now, self.clock.now_ms());
                return Err(refusal);
            }
            state.allowance.left -= 1.0;
            state.jobs[at as usize].allowance.left -= 1.0;
        }
        state.count(at);
        Ok(at)
    }

    /// Counts a series that a replay brings.
    pub(crate) fn count(&self, tenant: TenantId, labels: &Labels) -> u32 {
        let mut state = self.state.lock();
        let at = state.job(tenant, labels.get(JOB).unwrap_or(""));
        state.count(at);
        at
    }

    /// Takes back series that are no longer active, each by its job's number.
    pub(crate) fn forget(&self, jobs: impl Iterator<Item = u32>) {
        let mut state = self.state.lock();
        for at in jobs {
            let job = &mut state.jobs[at as usize];
            debug_assert!(job.series > 0, "a series is forgotten once");
            job.series = job.series.saturating_sub(1);
            let is_empty = job.series == 0;
            state.total = state.total.saturating_sub(1);
            state.inhabited -= u64::from(is_empty);
        }
        state.make_room();
    }

    /// Says why, for the sender.
    pub(crate) fn reason(&self, refusal: Refusal, labels: &Labels) -> String {
        let state = self.state.lock();
        let job = &state.jobs[refusal.job as usize];
        let (limit, max) = (refusal.limit, refusal.limit_value);
        let (metric, name, series) = (labels.metric_name(), &job.name, job.series);
        let label = job.sketch.as_ref().and_then(|s| s.exploding());
        let label = label.map(|l| format!("; label {:?} has about {} values", l.name, l.value)).unwrap_or_default();
        format!("new series of {metric:?} refused by limit {limit} ({max}): job {name:?} has {series} series{label}")
    }

    /// Those whose new series are or were lately refused, most refused first.
    pub(crate) fn offenders(&self, tenant: TenantId) -> Vec<Offender> {
        let state = self.state.lock();
        let mut offenders: Vec<Offender> =
            state.jobs.iter().filter(|j| j.tenant == tenant).filter_map(Job::offender).collect();
        offenders.sort_by(|a, b| b.refused.cmp(&a.refused).then_with(|| a.job.cmp(&b.job)));
        offenders
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
        let job = &mut self.jobs[at as usize];
        job.series += 1;
        self.inhabited += u64::from(job.series == 1);
        self.total += 1;
    }

    fn grow(&mut self, at: u32, labels: &Labels) {
        let job = &mut self.jobs[at as usize];
        self.growing += u64::from(job.grown == 0);
        job.grown += 1;
        self.grown += 1;
        if job.grown > SKETCH_GROWTH {
            job.sketch.get_or_insert_default().add(labels);
        }
    }

    /// The limit that forbids another series of a job, if one does.
    fn hit(&mut self, at: u32, limits: &GuardLimits, now: Duration) -> Option<(limits::LimitName, u64)> {
        self.allowance.refill(limits.new, now);
        let (total, saved) = (self.total, self.allowance.left);
        let job = &mut self.jobs[at as usize];
        job.allowance.refill(limits.new_per_job, now);
        if job.series >= limits.active_per_job {
            return Some(("series_active_per_job_max", limits.active_per_job));
        }
        if job.allowance.left < 1.0 {
            return Some(("series_new_per_job_per_minute_max", limits.new_per_job));
        }
        let reserve = limits.active / RESERVE;
        if total >= limits.active || (total >= limits.active - reserve && self.is_over(at, reserve)) {
            return Some(("series_active_max", limits.active));
        }
        let reserve = limits.new.saturating_mul(SAVED_MINUTES) / RESERVE;
        if saved < 1.0 || (saved < reserve as f64 && self.is_over(at, reserve)) {
            return Some(("series_new_per_minute_max", limits.new));
        }
        None
    }

    /// Whether a job has grown more than others, and more than its part of a reserve.
    fn is_over(&self, at: u32, reserve: u64) -> bool {
        let job = &self.jobs[at as usize];
        let jobs = self.inhabited + u64::from(job.series == 0);
        let fair = (self.grown / self.growing.max(2)).max(reserve / jobs.max(1));
        jobs > 1 && job.grown > fair
    }

    fn refuse(&mut self, refusal: Refusal, hash: u64, labels: &Labels, now: Duration, now_ms: i64) {
        let Refusal { limit, limit_value, job: at } = refusal;
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        let is_first = self.refused.insert(hash);
        limits::hit(limit);
        let job = &mut self.jobs[at as usize];
        if is_first {
            metrics::SERIES_REFUSED.with_label_values(&[limit]).inc();
            let sketch = job.sketch.get_or_insert_default();
            if job.grown <= SKETCH_GROWTH {
                sketch.add(labels);
            }
            sketch.add_metric(labels.metric_name());
        }
        let trouble = job.trouble.get_or_insert_with(|| {
            Box::new(Trouble { limit, limit_value, refused: 0, since_ms: now_ms, last_ms: now_ms })
        });
        (trouble.limit, trouble.limit_value, trouble.last_ms) = (limit, limit_value, now_ms);
        trouble.refused += u64::from(is_first);
        if self.warned.is_none_or(|at| now.saturating_sub(at) >= Duration::from_millis(MINUTE_MS)) {
            self.warned = Some(now);
            if let Some(o) = self.jobs[at as usize].offender() {
                tracing::warn!(
                    tenant = self.jobs[at as usize].tenant.0,
                    job = o.job,
                    limit,
                    limit_value,
                    series = o.series,
                    refused = o.refused,
                    label = o.label.name,
                    values = o.label.value,
                    metric = o.metric,
                    "new series are refused"
                );
            }
            self.expose();
        }
    }

    /// Forgets growth and old refusals as time goes by.
    fn pass_minutes(&mut self, now: Duration) {
        let minute = now.as_millis() as u64 / MINUTE_MS;
        let passed = minute.saturating_sub(self.minute);
        if passed == 0 {
            return;
        }
        self.minute = minute;
        (self.grown, self.growing) = (0, 0);
        for job in &mut self.jobs {
            for _ in 0..passed.min(64) {
                job.grown -= job.grown.div_ceil(4);
            }
            self.grown += job.grown;
            self.growing += u64::from(job.grown > 0);
        }
        self.make_room();
        self.expose();
    }

    /// Gives places of jobs back that have nothing to remember, and forgets old refusals.
    fn make_room(&mut self) {
        let newest = self.jobs.iter().filter_map(|j| Some(j.trouble.as_ref()?.last_ms)).max().unwrap_or(i64::MIN);
        for (at, job) in self.jobs.iter_mut().enumerate() {
            if job.trouble.as_ref().is_some_and(|t| newest.saturating_sub(t.last_ms) > OFFENDER_MS) {
                job.trouble = None;
            }
            if job.grown == 0 && job.trouble.is_none() {
                job.sketch = None;
                let known = self.by_name.get_mut(&job.tenant).expect("a job's tenant is known");
                if job.series == 0 && known.get(&*job.name) == Some(&(at as u32)) {
                    known.remove(&*job.name);
                    self.free.push(at as u32);
                }
            }
        }
    }

    /// Brings the metrics of offenders up to date.
    fn expose(&self) {
        let mut offenders: Vec<Offender> = self.jobs.iter().filter_map(Job::offender).collect();
        offenders.sort_by_key(|o| std::cmp::Reverse(o.refused));
        metrics::OFFENDERS.set(offenders.len() as i64);
        metrics::OFFENDER_REFUSED.reset();
        for o in offenders.iter().take(OFFENDER_METRICS) {
            metrics::OFFENDER_REFUSED
                .with_label_values(&[cut(&o.job), cut(&o.label.name), o.limit])
                .set(i64::try_from(o.refused).unwrap_or(i64::MAX));
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(METRIC_TEXT_MAX)]
}

#[cfg(test)]
mod tests;
