//! Messages of a stream (RFC 6587): each either `length SP message` or ended by a newline or NUL.
//!
//! Which of the two is seen anew for every message: a length is up to eight digits, a space and a `<`. Of a message that
//! is too long only the start is held.

use memchr::memchr2;

/// Digits of a length at most: 99,999,999 bytes.
const LENGTH_DIGITS_MAX: usize = 8;

/// Where in a message a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between two.
    Between,
    /// In digits that may be a length; they are held.
    Length,
    /// In a message that ends with a newline or NUL.
    Line,
    /// In a message of which so many bytes are still to come.
    Counted(usize),
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Frames {
    bytes_max: usize,
    state: State,
    /// What is there of a message that is not complete.
    held: Vec<u8>,
    /// Its bytes, those that are not held too.
    full: usize,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Behind a message.
    Whole,
    /// In a message whose length was said; what was there of it is dropped, since the sender sends it again.
    Incomplete,
}

impl Frames {
    /// At the start of a stream; of longer messages `bytes_max` bytes are handed on.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max: bytes_max.max(16), state: State::Between, held: Vec::new(), full: 0 }
    }

    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Takes what was read; hands on each message that is complete, with its full length.
    pub fn push(&mut self, mut bytes: &[u8], message: &mut impl FnMut(&[u8], usize)) {
        while let Some(first) = bytes.first() {
            match self.state {
                State::Between => {
                    if matches!(first, b'\n' | b'\r' | 0) {
                        bytes = &bytes[1..];
                        continue;
                    }
                    self.state = if first.is_ascii_digit() && *first != b'0' { State::Length } else { State::Line };
                }
                State::Length => {
                    bytes = &bytes[1..];
                    self.length(*first);
                    if self.state == State::Counted(0) {
                        self.state = State::Between;
                        self.end(&[], message);
                    }
                }
                State::Line => bytes = self.line(bytes, message),
                State::Counted(left) => {
                    let (part, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    if part.len() == left {
                        self.state = State::Between;
                        self.end(part, message);
                    } else {
                        self.state = State::Counted(left - part.len());
                        self.hold(part);
                    }
                }
            }
        }
    }

    /// The stream has ended: hands on a last line without its end.
    pub fn finish(&mut self, message: &mut impl FnMut(&[u8], usize)) -> Ended {
        let state = std::mem::replace(&mut self.state, State::Between);
        match state {
            State::Between => Ended::Whole,
            State::Counted(_) => {
                self.clear();
                Ended::Incomplete
            }
            State::Line | State::Length => {
                self.end(&[], message);
                Ended::Whole
            }
        }
    }

    /// One more byte of what may be a length.
    fn length(&mut self, byte: u8) {
        let in_digits = !self.held.ends_with(b" ");
        self.hold(&[byte]);
        match byte {
            b'0'..=b'9' if in_digits && self.held.len() <= LENGTH_DIGITS_MAX => {}
            b' ' if in_digits => {}
            b'<' if !in_digits => {
                let digits = &self.held[..self.held.len() - 2];
                let length = digits.iter().fold(0, |n, d| n * 10 + usize::from(d - b'0'));
                self.clear();
                self.hold(b"<");
                self.state = State::Counted(length - 1);
            }
            b'\n' | 0 => {
                // A line of digits alone is complete.
                self.held.pop();
                self.full -= 1;
                self.state = State::Counted(0);
            }
            _ => self.state = State::Line,
        }
    }

    fn line<'a>(&mut self, bytes: &'a [u8], message: &mut impl FnMut(&[u8], usize)) -> &'a [u8] {
        match memchr2(b'\n', 0, bytes) {
            Some(end) => {
                self.state = State::Between;
                self.end(&bytes[..end], message);
                &bytes[end + 1..]
            }
            None => {
                self.hold(bytes);
                &[]
            }
        }
    }

    /// Hands on what is held and the last part of it.
    fn end(&mut self, part: &[u8], message: &mut impl FnMut(&[u8], usize)) {
        if self.full == 0 {
            if !part.is_empty() {
                message(&part[..part.len().min(self.bytes_max)], part.len());
            }
            return;
        }
        self.hold(part);
        message(&self.held, self.full);
        self.clear();
    }

    fn hold(&mut self, part: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.held.len());
        self.held.extend_from_slice(&part[..part.len().min(room)]);
        self.full += part.len();
    }

    fn clear(&mut self) {
        self.full = 0;
        self.held.clear();
        // A long message must not hold its memory for ever.
        self.held.shrink_to(8192);
    }
}
