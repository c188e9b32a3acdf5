//! Lines of one file, from an offset on, in bounded memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memchr;

use crate::source::Encoding;

/// Bytes that are read at once.
pub const CHUNK_BYTES: usize = 256 << 10;

/// A line that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it begins.
    pub start: u64,
    /// Its bytes without the end of the line; at most as many as are kept.
    pub bytes: &'a [u8],
    /// How many bytes it has.
    pub length: u64,
}

/// Where reading stands in a file.
#[derive(Debug, Default)]
pub struct LineReader {
    /// Where the next line begins.
    pub offset: u64,
    /// Bytes behind the offset that are known to hold no end of a line.
    scanned: u64,
    /// The beginning of a line that is longer than a chunk.
    long: Vec<u8>,
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// At the end of the file.
    End,
    /// Enough was read.
    Enough,
}

impl LineReader {
    /// Starts at an offset.
    pub fn at(offset: u64) -> Self {
        Self { offset, scanned: 0, long: Vec::new() }
    }

    /// How far the file was looked at.
    pub fn looked_at(&self) -> u64 {
        self.offset + self.scanned
    }

    /// Reads complete lines and gives them to `each` until the end of the file or until `each` says false. `buffer` is
    /// working space; of a line at most `kept` bytes are given.
    pub fn read(
        &mut self,
        file: &File,
        encoding: Encoding,
        kept: usize,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(Line<'_>) -> bool,
    ) -> io::Result<Stopped> {
        buffer.resize(CHUNK_BYTES.max(kept + 4).next_multiple_of(2), 0);
        loop {
            // Of a long line only what is new is read; of a short one all of it, because nothing of it was kept.
            let is_long = !self.long.is_empty();
            let from = if is_long { self.offset + self.scanned } else { self.offset };
            let length = read_at(file, buffer, from)?;
            let bytes = &buffer[..length];
            let mut at = 0;
            if is_long {
                match find_end(bytes, encoding) {
                    Some(end) => {
                        let length = self.scanned + end as u64;
                        let goes_on = each(Line { start: self.offset, bytes: &self.long, length });
                        at = end + encoding.unit();
                        self.offset = from + at as u64;
                        self.scanned = 0;
                        self.long = Vec::new();
                        if !goes_on {
                            return Ok(Stopped::Enough);
                        }
                    }
                    None => {
                        // Only whole units, so that the next look begins at one.
                        self.scanned += (bytes.len() / encoding.unit() * encoding.unit()) as u64;
                        if bytes.len() < buffer.len() {
                            return Ok(Stopped::End);
                        }
                        continue;
                    }
                }
            }
            while let Some(end) = find_end(&bytes[at..], encoding) {
                let line = &bytes[at..at + end];
                let shown = &line[..line.len().min(kept)];
                let goes_on = each(Line { start: self.offset, bytes: shown, length: line.len() as u64 });
                at += end + encoding.unit();
                self.offset = from + at as u64;
                if !goes_on {
                    self.scanned = 0;
                    return Ok(Stopped::Enough);
                }
            }
            let rest = &bytes[at..];
            self.scanned = rest.len() as u64;
            if bytes.len() < buffer.len() {
                return Ok(Stopped::End);
            }
            if at == 0 {
                self.long = rest[..rest.len().min(kept)].to_vec();
            }
        }
    }

    /// Gives the last line of a file that ended without an end of line.
    pub fn read_rest(
        &mut self,
        file: &File,
        kept: usize,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(Line<'_>) -> bool,
    ) -> io::Result<()> {
        if self.scanned == 0 {
            return Ok(());
        }
        if self.long.is_empty() {
            buffer.resize(CHUNK_BYTES.max(kept + 4), 0);
            let length = read_at(file, buffer, self.offset)?;
            let length = length.min(usize::try_from(self.scanned).unwrap_or(usize::MAX)).min(kept);
            each(Line { start: self.offset, bytes: &buffer[..length], length: self.scanned });
        } else {
            each(Line { start: self.offset, bytes: &self.long, length: self.scanned });
        }
        *self = Self::at(self.offset + self.scanned);
        Ok(())
    }

    /// Forgets what was looked at and not given: it is read again.
    pub fn forget(&mut self) {
        *self = Self::at(self.offset);
    }
}

fn read_at(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], from + length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

impl Encoding {
    /// Bytes of the end of a line.
    fn unit(self) -> usize {
        match self {
            Self::Utf8 | Self::Latin1 => 1,
            Self::Utf16Le | Self::Utf16Be => 2,
        }
    }

    /// The text of a line, and whether some of it was no text.
    pub fn text(self, bytes: &[u8]) -> (Cow<'_, str>, bool) {
        match self {
            Self::Utf8 => match String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)) {
                Cow::Borrowed(text) => (Cow::Borrowed(text), false),
                Cow::Owned(text) => (Cow::Owned(text), true),
            },
            Self::Latin1 => {
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                (Cow::Owned(bytes.iter().map(|b| latin1(*b)).collect()), false)
            }
            Self::Utf16Le | Self::Utf16Be => {
                let units = bytes.chunks_exact(2).map(|pair| match self {
                    Self::Utf16Le => u16::from_le_bytes([pair[0], pair[1]]),
                    _ => u16::from_be_bytes([pair[0], pair[1]]),
                });
                let mut is_bad = !bytes.len().is_multiple_of(2);
                let mut text: String = char::decode_utf16(units)
                    .map(|c| {
                        c.unwrap_or_else(|_| {
                            is_bad = true;
                            char::REPLACEMENT_CHARACTER
                        })
                    })
                    .collect();
                if text.ends_with('\r') {
                    text.pop();
                }
                (Cow::Owned(text.trim_start_matches('\u{feff}').to_owned()), is_bad)
            }
        }
    }
}

/// Windows 1252 where it differs from ISO 8859-1, from 0x80 on.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d, 0x017d,
    0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,
    0x017e, 0x0178,
];

fn latin1(byte: u8) -> char {
    match byte {
        0x80..=0x9f => char::from_u32(u32::from(WINDOWS_1252[usize::from(byte - 0x80)])).unwrap_or('\u{fffd}'),
        _ => char::from(byte),
    }
}

fn find_end(bytes: &[u8], encoding: Encoding) -> Option<usize> {
    match encoding {
        Encoding::Utf8 | Encoding::Latin1 => memchr(b'\n', bytes),
        Encoding::Utf16Le => bytes.chunks_exact(2).position(|unit| unit == [b'\n', 0]).map(|n| n * 2),
        Encoding::Utf16Be => bytes.chunks_exact(2).position(|unit| unit == [0, b'\n']).map(|n| n * 2),
    }
}
