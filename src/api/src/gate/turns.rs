//! Places for queries, shared fairly among clients.
//!
//! A place that gets free goes to the waiting client that runs the fewest queries, among those to the one that was
//! served longest ago; within a client first come, first served. Where there are at least four places the last one is
//! kept for clients that run nothing, so that nobody waits for another's queries to end. When the queue is full the
//! client that waits with most queries loses its newest one, unless that is who comes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// With so many places one is kept for clients that run nothing.
const RESERVE_FROM: usize = 4;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Queries that wait.
    pub(super) waiting: usize,
}

struct Waiter {
    ticket: u64,
    tell: oneshot::Sender<()>,
}

#[derive(Default)]
struct Client {
    running: usize,
    waiting: VecDeque<Waiter>,
    /// The round in which it last got or gave back a place, or came.
    served: u64,
}

struct Inner {
    free: usize,
    reserved: usize,
    queue_max: usize,
    waiting: usize,
    round: u64,
    ticket: u64,
    clients: HashMap<Arc<str>, Client>,
    /// Waiters that were told and have not taken their place yet.
    granted: HashSet<u64>,
}

impl Inner {
    fn may_run(&self, running: usize) -> bool {
        self.free > if running == 0 { 0 } else { self.reserved }
    }

    fn start(&mut self, client: &Arc<str>) {
        self.free -= 1;
        self.round += 1;
        let round = self.round;
        let one = self.clients.entry(Arc::clone(client)).or_default();
        one.running += 1;
        one.served = round;
    }

    fn end(&mut self, client: &Arc<str>) {
        self.free += 1;
        self.round += 1;
        if let Some(one) = self.clients.get_mut(client) {
            one.running -= 1;
            one.served = self.round;
        }
        self.forget(client);
        self.hand_out();
    }

    fn forget(&mut self, client: &Arc<str>) {
        if self.clients.get(client).is_some_and(|c| c.running == 0 && c.waiting.is_empty()) {
            self.clients.remove(client);
        }
    }

    /// Gives free places to those that wait.
    fn hand_out(&mut self) {
        loop {
            let waits = self.clients.iter().filter(|(_, c)| !c.waiting.is_empty() && self.may_run(c.running));
            let Some(client) = waits.min_by_key(|(_, c)| (c.running, c.served)).map(|(name, _)| Arc::clone(name))
            else {
                return;
            };
            let Some(waiter) = self.clients.get_mut(&client).and_then(|c| c.waiting.pop_front()) else { return };
            self.waiting -= 1;
            if waiter.tell.send(()).is_ok() {
                self.granted.insert(waiter.ticket);
                self.start(&client);
            } else {
                self.forget(&client);
            }
        }
    }

    /// Makes room in a full queue for one of `client`; false when there is none for it.
    fn make_room(&mut self, client: &str) -> bool {
        if self.waiting < self.queue_max {
            return true;
        }
        let own = self.clients.get(client).map_or(0, |c| c.waiting.len());
        let longest = self.clients.iter().max_by_key(|(_, c)| c.waiting.len());
        let Some(longest) = longest.filter(|(_, c)| c.waiting.len() > own + 1).map(|(name, _)| Arc::clone(name)) else {
            return false;
        };
        // Its end of the channel is dropped: that tells it.
        if self.clients.get_mut(&longest).and_then(|c| c.waiting.pop_back()).is_some() {
            self.waiting -= 1;
        }
        true
    }
}

/// Hands out places.
pub(super) struct Turns(Mutex<Inner>);

/// A place; dropping it gives it back.
pub(super) struct Place {
    turns: Arc<Turns>,
    client: Arc<str>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.0.lock().end(&self.client);
    }
}

/// One that waits, until it is dropped.
struct Waiting {
    turns: Arc<Turns>,
    client: Arc<str>,
    ticket: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.turns.0.lock();
        if inner.granted.remove(&self.ticket) {
            return inner.end(&self.client);
        }
        let Some(client) = inner.clients.get_mut(&self.client) else { return };
        let before = client.waiting.len();
        client.waiting.retain(|w| w.ticket != self.ticket);
        let gone = before - client.waiting.len();
        inner.waiting -= gone;
        inner.forget(&self.client);
    }
}

impl Turns {
    /// `places` queries at once, at most `queue_max` that wait.
    pub(super) fn new(places: usize, queue_max: usize) -> Arc<Self> {
        let places = places.max(1);
        Arc::new(Self(Mutex::new(Inner {
            free: places,
            reserved: usize::from(places >= RESERVE_FROM),
            queue_max,
            waiting: 0,
            round: 0,
            ticket: 0,
            clients: HashMap::new(),
            granted: HashSet::new(),
        })))
    }

    /// A place without waiting, if there is one for the client.
    pub(super) fn try_take(self: &Arc<Self>, client: &Arc<str>) -> Option<Place> {
        let mut inner = self.0.lock();
        let running = inner.clients.get(client).map_or(0, |c| c.running);
        if !inner.may_run(running) {
            return None;
        }
        inner.start(client);
        Some(Place { turns: Arc::clone(self), client: Arc::clone(client) })
    }

    /// Waits for a place. Dropping the future leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, client: &Arc<str>) -> Result<Place, Full> {
        let (waiting, told) = {
            let mut inner = self.0.lock();
            if !inner.make_room(client) {
                return Err(Full { waiting: inner.waiting });
            }
            let (tell, told) = oneshot::channel();
            inner.ticket += 1;
            inner.waiting += 1;
            inner.round += 1;
            let (ticket, round) = (inner.ticket, inner.round);
            let entry = inner.clients.entry(Arc::clone(client));
            let one = entry.or_insert_with(|| Client { served: round, ..Client::default() });
            one.waiting.push_back(Waiter { ticket, tell });
            inner.hand_out();
            (Waiting { turns: Arc::clone(self), client: Arc::clone(client), ticket }, told)
        };
        if told.await.is_err() {
            return Err(Full { waiting: self.0.lock().waiting });
        }
        self.0.lock().granted.remove(&waiting.ticket);
        Ok(Place { turns: Arc::clone(self), client: Arc::clone(client) })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = Result<Place, Full>> + Send>>;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    /// One that waits, in the queue.
    fn queued(turns: &Arc<Turns>, client: &str) -> Wait {
        let (turns, client) = (Arc::clone(turns), name(client));
        let mut wait: Wait = Box::pin(async move { turns.take(&client).await });
        assert!((&mut wait).now_or_never().is_none(), "there is a place");
        wait
    }

    fn is_idle(turns: &Turns, places: usize) {
        let inner = turns.0.lock();
        assert_eq!((inner.free, inner.waiting, inner.clients.len(), inner.granted.len()), (places, 0, 0, 0));
    }

    #[test]
    fn clients_take_turns_however_many_they_send() {
        let turns = Turns::new(1, 100);
        let mut running = turns.try_take(&name("a"));
        assert!(running.is_some() && turns.try_take(&name("a")).is_none() && turns.try_take(&name("b")).is_none());
        let mut waits: Vec<(&str, Wait)> = Vec::new();
        for client in ["a", "a", "a", "a", "b", "b", "c"] {
            waits.push((client, queued(&turns, client)));
        }
        let mut order = Vec::new();
        while !waits.is_empty() {
            drop(running.take());
            let next = waits.iter_mut().enumerate().find_map(|(i, (_, w))| Some((i, w.now_or_never()?)));
            let (i, place) = next.expect("one has its turn");
            order.push(waits.remove(i).0);
            running = place.ok();
        }
        drop(running);
        assert_eq!(order, ["b", "c", "a", "b", "a", "a", "a"]);
        is_idle(&turns, 1);
    }

    #[test]
    fn the_last_place_is_for_who_runs_nothing() {
        let turns = Turns::new(4, 100);
        let (a, b) = (name("a"), name("b"));
        let mut held: Vec<Place> = (0..3).filter_map(|_| turns.try_take(&a)).collect();
        assert!(held.len() == 3 && turns.try_take(&a).is_none());
        let wait = queued(&turns, "a");
        held.extend(turns.try_take(&b));
        assert!(held.len() == 4 && turns.try_take(&b).is_none());
        // The fourth goes back to the reserve, not to the one that waits; the third does not.
        drop(held.pop());
        let mut wait = wait;
        assert!((&mut wait).now_or_never().is_none());
        drop(held.pop());
        held.extend(wait.now_or_never().and_then(Result::ok));
        assert_eq!(held.len(), 3);
        drop(held);
        is_idle(&turns, 4);
    }

    #[test]
    fn a_full_queue_has_room_for_who_waits_less() {
        let turns = Turns::new(1, 3);
        let place = turns.try_take(&name("a"));
        let mut a: Vec<Wait> = (0..3).map(|_| queued(&turns, "a")).collect();
        let refused = turns.take(&name("a")).now_or_never().expect("it is refused at once");
        assert_eq!(refused.err(), Some(Full { waiting: 3 }));
        let b = queued(&turns, "b");
        let last = a.pop().and_then(FutureExt::now_or_never).expect("the newest of a is refused");
        assert_eq!(last.err(), Some(Full { waiting: 3 }));
        drop((a, b, place));
        is_idle(&turns, 1);
    }

    #[test]
    fn who_leaves_gives_back_what_it_was_given() {
        let turns = Turns::new(1, 100);
        let place = turns.try_take(&name("a"));
        let (first, second) = (queued(&turns, "b"), queued(&turns, "c"));
        // b was told and leaves before it looks.
        drop(place);
        drop(first);
        let got = second.now_or_never().and_then(Result::ok);
        assert!(got.is_some());
        drop(got);
        is_idle(&turns, 1);
    }
}
