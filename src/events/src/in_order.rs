//! Work on several threads whose results are taken in order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

/// How far the work may be ahead of the results that were taken, for each thread.
const AHEAD: usize = 8;

/// What the threads share.
struct Shared<T> {
    next: AtomicUsize,
    is_over: AtomicBool,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Results from number `taken` on.
    done: std::collections::VecDeque<Option<T>>,
    taken: usize,
    /// A thread panicked.
    has_failed: bool,
}

/// Calls `make` with each number below `count`, on this thread and on so many others that there are `threads`, and
/// `take`, on this thread alone, with the results in order. Other threads have the priority of this one. An error of
/// `take` ends the work and is returned. `tool` makes what a thread works with.
pub(crate) fn in_order<T: Send, P, E>(
    count: usize,
    threads: usize,
    tool: &(dyn Fn() -> P + Sync),
    make: &(dyn Fn(&mut P, usize) -> T + Sync),
    take: &mut dyn FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let helpers = threads.min(count).saturating_sub(1);
    if helpers == 0 {
        let mut tool = tool();
        return (0..count).try_for_each(|number| take(make(&mut tool, number)));
    }
    let state = State { done: std::collections::VecDeque::new(), taken: 0, has_failed: false };
    let shared = Shared {
        next: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        state: Mutex::new(state),
        changed: Condvar::new(),
    };
    let ahead = AHEAD * threads;
    std::thread::scope(|scope| {
        let _end = End(&shared);
        for _ in 0..helpers {
            let shared = &shared;
            let help = move || {
                let _gone = Gone(shared);
                shared.help(count, ahead, &mut tool(), make);
            };
            // Without threads this one does it all.
            if let Err(error) = std::thread::Builder::new().name("flush-helper".to_owned()).spawn_scoped(scope, help) {
                tracing::debug!(%error, "a thread was not started");
            }
        }
        let mut tool = tool();
        for number in 0..count {
            take(shared.result(number, count.min(number + ahead), &mut tool, make))?;
        }
        Ok(())
    })
}

impl<T> Shared<T> {
    /// Makes results until all are made.
    fn help<P>(&self, count: usize, ahead: usize, tool: &mut P, make: &(dyn Fn(&mut P, usize) -> T + Sync)) {
        loop {
            {
                let mut state = self.state.lock();
                while self.next.load(Ordering::Relaxed) >= state.taken + ahead && !self.is_over.load(Ordering::Relaxed)
                {
                    self.changed.wait(&mut state);
                }
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= count || self.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.put(number, make(tool, number));
        }
    }

    fn put(&self, number: usize, result: T) {
        let mut state = self.state.lock();
        let at = number - state.taken;
        if state.done.len() <= at {
            state.done.resize_with(at + 1, || None);
        }
        state.done[at] = Some(result);
        self.changed.notify_all();
    }

    /// The result of a number, which is the next to be taken; while it is not there, makes others below `end`.
    fn result<P>(&self, number: usize, end: usize, tool: &mut P, make: &(dyn Fn(&mut P, usize) -> T + Sync)) -> T {
        loop {
            {
                let mut state = self.state.lock();
                loop {
                    if let Some(result) = state.done.front_mut().and_then(Option::take) {
                        state.done.pop_front();
                        state.taken = number + 1;
                        self.changed.notify_all();
                        return result;
                    }
                    assert!(!state.has_failed, "a thread that makes results panicked");
                    if self.next.load(Ordering::Relaxed) < end {
                        break;
                    }
                    self.changed.wait(&mut state);
                }
            }
            let made = self.next.fetch_add(1, Ordering::Relaxed);
            if made < end {
                let result = make(tool, made);
                self.put(made, result);
            }
        }
    }
}

/// Ends the work when it is dropped.
struct End<'s, T>(&'s Shared<T>);

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        let _state = self.0.state.lock();
        self.0.changed.notify_all();
    }
}

/// Tells when a thread panics.
struct Gone<'s, T>(&'s Shared<T>);

impl<T> Drop for Gone<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.lock().has_failed = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squares(count: usize, threads: usize, end: usize) -> Result<Vec<usize>, usize> {
        let mut out = Vec::new();
        let mut take = |square: usize| {
            out.push(square);
            if out.len() == end { Err(square) } else { Ok(()) }
        };
        in_order(count, threads, &|| (), &|(), number| number * number, &mut take)?;
        Ok(out)
    }

    #[test]
    fn results_come_in_order() {
        for (count, threads) in [(0, 4), (1, 4), (3, 1), (100, 1), (100, 2), (1000, 4)] {
            assert_eq!(squares(count, threads, usize::MAX).unwrap(), (0..count).map(|n| n * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        assert_eq!(squares(1000, 4, 10), Err(81));
        assert_eq!(squares(10, 1, 10), Err(81));
    }

    #[test]
    fn a_panic_is_passed_on() {
        let make = |(): &mut (), number: usize| assert!(number != 50, "it");
        let all = || in_order(100, 3, &|| (), &make, &mut |()| Ok::<(), ()>(()));
        assert!(std::panic::catch_unwind(all).is_err());
    }
}
