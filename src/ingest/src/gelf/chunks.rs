//! Messages of GELF that came as several datagrams, put together under limits.
//!
//! A chunk is `1e 0f`, an id of eight bytes, its number and the count of chunks, and a piece of the message. All chunks
//! of a message must come within five seconds. Messages are told apart by id and sender.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

/// First bytes of a chunk.
const MAGIC: [u8; 2] = [0x1e, 0x0f];
/// Bytes before the piece.
const HEADER_BYTES: usize = 12;
/// Chunks of a message at most.
const CHUNKS_MAX: u8 = 128;
/// How long a message may be incomplete.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// The parts of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The message it belongs to.
    pub id: [u8; 8],
    /// Its place, less than `count`.
    pub number: u8,
    /// Chunks of the message, 1 to 128.
    pub count: u8,
    /// Its piece of the message.
    pub piece: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads a datagram; `None` when it is a whole message. Errors: [`ChunkError::Malformed`].
    pub fn parse(datagram: &'a [u8]) -> Result<Option<Self>, ChunkError> {
        let Some(rest) = datagram.strip_prefix(&MAGIC) else { return Ok(None) };
        let (Some(id), Some([number, count])) = (rest.first_chunk::<8>(), rest.get(8..10)) else {
            return Err(ChunkError::Malformed);
        };
        if *count == 0 || *count > CHUNKS_MAX || number >= count {
            return Err(ChunkError::Malformed);
        }
        Ok(Some(Self { id: *id, number: *number, count: *count, piece: &datagram[HEADER_BYTES..] }))
    }
}

/// Why a chunk was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Not a chunk, or not of this message.
    #[error("malformed GELF chunk")]
    Malformed,
    /// The message would be too large.
    #[error("GELF message is too large")]
    TooLarge,
}

/// Limits of messages that are not complete.
#[derive(Debug, Clone, Copy)]
pub struct ChunksOptions {
    /// Messages at once; beyond, the oldest is given up.
    pub messages_max: usize,
    /// Bytes of all pieces; beyond, the oldest message is given up.
    pub bytes_max: usize,
    /// Bytes of a message.
    pub message_bytes_max: usize,
}

type Key = (SocketAddr, [u8; 8]);

struct Open {
    /// Pieces by number; empty: has not come.
    pieces: Vec<Vec<u8>>,
    come: u8,
    bytes: usize,
    began: Duration,
}

/// Messages of which some chunks have come.
pub struct Chunks {
    options: ChunksOptions,
    open: FxHashMap<Key, Open>,
    /// Keys by the time they began, oldest first; those that are complete are still in it.
    pub(super) order: VecDeque<(Duration, Key)>,
    pub(super) bytes: usize,
    given_up: u64,
}

impl Chunks {
    /// None yet.
    pub fn new(options: ChunksOptions) -> Self {
        Self { options, open: FxHashMap::default(), order: VecDeque::new(), bytes: 0, given_up: 0 }
    }

    /// Takes a chunk that came from `sender` at `now` (a monotonic time); the message when that was its last one.
    ///
    /// A chunk that came before is passed over. Errors: the chunk is not kept; with `TooLarge` neither are the others.
    pub fn add(&mut self, sender: SocketAddr, chunk: Chunk<'_>, now: Duration) -> Result<Option<Vec<u8>>, ChunkError> {
        self.expire(now);
        let key = (sender, chunk.id);
        if !self.open.contains_key(&key) {
            while self.open.len() >= self.options.messages_max.max(1) {
                trefoil_runtime::limits::hit("gelf_open_messages_max");
                self.give_up_oldest();
            }
            let pieces = vec![Vec::new(); usize::from(chunk.count)];
            self.open.insert(key, Open { pieces, come: 0, bytes: 0, began: now });
            self.order.push_back((now, key));
        }
        let Some(open) = self.open.get_mut(&key) else { return Err(ChunkError::Malformed) };
        if open.pieces.len() != usize::from(chunk.count) || chunk.piece.is_empty() {
            return Err(ChunkError::Malformed);
        }
        let slot = &mut open.pieces[usize::from(chunk.number)];
        if !slot.is_empty() {
            return Ok(None);
        }
        *slot = chunk.piece.to_vec();
        open.come += 1;
        open.bytes += chunk.piece.len();
        self.bytes += chunk.piece.len();
        if open.bytes > self.options.message_bytes_max {
            self.remove(&key);
            return Err(ChunkError::TooLarge);
        }
        if usize::from(open.come) == open.pieces.len() {
            return Ok(self.remove(&key).map(|open| open.pieces.concat()));
        }
        while self.bytes > self.options.bytes_max {
            trefoil_runtime::limits::hit("gelf_open_bytes_max");
            self.give_up_oldest();
        }
        Ok(None)
    }

    /// Gives up what has been incomplete for too long at `now`; returns how many messages were given up since the last
    /// call of [`Chunks::take_given_up`].
    pub fn expire(&mut self, now: Duration) {
        while let Some((began, _)) = self.order.front() {
            if now.saturating_sub(*began) < OPEN_FOR {
                break;
            }
            self.give_up_oldest();
        }
    }

    /// Messages that were given up since the last call.
    pub fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }

    /// Messages that are not complete.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes the oldest entry off the order, and gives its message up when it is still the one that began then.
    fn give_up_oldest(&mut self) {
        let Some((began, key)) = self.order.pop_front() else { return };
        if self.open.get(&key).is_some_and(|open| open.began == began) {
            self.given_up += 1;
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Open> {
        let open = self.open.remove(key)?;
        self.bytes -= open.bytes;
        // Of what was completed little must stay behind.
        if self.order.len() > 2 * self.open.len() + 64 {
            let live = &self.open;
            self.order.retain(|(began, key)| live.get(key).is_some_and(|open| open.began == *began));
        }
        Some(open)
    }
}
