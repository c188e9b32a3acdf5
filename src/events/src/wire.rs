//! The primitives of our binary encodings: variable-length integers, texts, string tables, attributes.

use std::cell::RefCell;

use rustc_hash::FxHashMap;
use trefoil_model::{AttributeValue, Attributes};

/// Texts up to this length are kept once per string table.
const INTERN_BYTES_MAX: usize = 96;
/// Nesting of attribute values that is read back; writers cut earlier.
const DEPTH_MAX: usize = 64;

/// Bytes that do not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_len(out: &mut Vec<u8>, value: usize) {
    put_u64(out, value as u64);
}

pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads what the `put_` functions wrote; never panics on damaged input.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("byte"))?;
        self.rest = rest;
        Ok(*first)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        let (mut value, mut shift) = (0u64, 0u32);
        loop {
            let byte = self.u8().map_err(|_| Malformed("integer"))?;
            if shift == 63 && byte > 1 {
                return Err(Malformed("integer"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed("integer"));
            }
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.u64()?).map_err(|_| Malformed("32-bit integer"))
    }

    /// A count of things of which each takes at least one byte of what follows.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u64()?).map_err(|_| Malformed("count"))?;
        if count > self.rest.len() { Err(Malformed("count")) } else { Ok(count) }
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        let value = self.u64()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        if len > self.rest.len() {
            return Err(Malformed("length"));
        }
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text"))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("array"))
    }
}

/// Texts that are written once and referred to by number.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    ids: FxHashMap<Box<str>, u64>,
    table: Vec<u8>,
    count: u64,
    is_off: bool,
}

impl Strings {
    /// A table that takes nothing: every text is written where it stands.
    pub(crate) fn none() -> Self {
        Self { is_off: true, ..Self::default() }
    }

    /// Writes a reference to `text`, or `text` itself when it is long.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, text: &str) {
        if self.is_off || text.len() > INTERN_BYTES_MAX {
            put_u64(out, 0);
            put_bytes(out, text.as_bytes());
            return;
        }
        let id = match self.ids.get(text) {
            Some(id) => *id,
            None => {
                self.count += 1;
                put_bytes(&mut self.table, text.as_bytes());
                self.ids.insert(text.into(), self.count);
                self.count
            }
        };
        put_u64(out, id);
    }

    /// Returns the encoded table.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.table.len() + 5);
        put_u64(&mut out, self.count);
        out.extend_from_slice(&self.table);
        out
    }
}

/// A string table as read.
pub(crate) struct StringTable<'a>(Vec<&'a str>);

impl<'a> StringTable<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read_from(&mut Cursor::new(bytes))
    }

    /// Reads a table that other things follow.
    pub(crate) fn read_from(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let count = cursor.count()?;
        (0..count).map(|_| cursor.text()).collect::<Result<Vec<_>, _>>().map(Self)
    }

    /// The table of [`Strings::none`].
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn get(&self, cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
        let id = cursor.u64()?;
        let Some(index) = id.checked_sub(1) else { return cursor.text() };
        let index = usize::try_from(index).map_err(|_| Malformed("string reference"))?;
        self.0.get(index).copied().ok_or(Malformed("string reference"))
    }
}

pub(crate) fn put_attributes(out: &mut Vec<u8>, strings: &mut Strings, attributes: &Attributes) {
    put_len(out, attributes.len());
    for (name, value) in attributes {
        strings.put(out, name);
        put_value(out, strings, value);
    }
}

pub(crate) fn put_value(out: &mut Vec<u8>, strings: &mut Strings, value: &AttributeValue) {
    match value {
        AttributeValue::Null => out.push(0),
        AttributeValue::String(text) => {
            out.push(1);
            strings.put(out, text);
        }
        AttributeValue::Bool(false) => out.push(2),
        AttributeValue::Bool(true) => out.push(3),
        AttributeValue::Int(number) => {
            out.push(4);
            put_i64(out, *number);
        }
        AttributeValue::Double(number) => {
            out.push(5);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        AttributeValue::Bytes(bytes) => {
            out.push(6);
            put_bytes(out, bytes);
        }
        AttributeValue::Array(values) => {
            out.push(7);
            put_len(out, values.len());
            for value in values {
                put_value(out, strings, value);
            }
        }
        AttributeValue::Map(attributes) => {
            out.push(8);
            put_attributes(out, strings, attributes);
        }
    }
}

pub(crate) fn read_attributes<'a>(cursor: &mut Cursor<'a>, strings: &StringTable<'a>) -> Result<Attributes, Malformed> {
    read_map(cursor, strings, 0)
}

fn read_map<'a>(cursor: &mut Cursor<'a>, strings: &StringTable<'a>, depth: usize) -> Result<Attributes, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nesting of attributes"));
    }
    let count = cursor.count()?;
    let mut attributes = Attributes::with_capacity(count.min(256));
    for _ in 0..count {
        let name = strings.get(cursor)?.to_owned();
        attributes.push((name, read_nested(cursor, strings, depth)?));
    }
    Ok(attributes)
}

/// Reads a value that [`put_value`] wrote.
pub(crate) fn read_value<'a>(cursor: &mut Cursor<'a>, strings: &StringTable<'a>) -> Result<AttributeValue, Malformed> {
    read_nested(cursor, strings, 0)
}

/// Steps over a value that [`put_value`] wrote.
pub(crate) fn skip_value<'a>(cursor: &mut Cursor<'a>, strings: &StringTable<'a>) -> Result<(), Malformed> {
    let mut ahead = cursor.clone();
    match ahead.u8()? {
        0 | 2 | 3 => {}
        1 => drop(strings.get(&mut ahead)?),
        4 => drop(ahead.u64()?),
        5 => drop(ahead.take(8)?),
        6 => drop(ahead.bytes()?),
        _ => return read_value(cursor, strings).map(drop),
    }
    *cursor = ahead;
    Ok(())
}

fn read_nested<'a>(
    cursor: &mut Cursor<'a>,
    strings: &StringTable<'a>,
    depth: usize,
) -> Result<AttributeValue, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("nesting of attributes"));
    }
    Ok(match cursor.u8()? {
        0 => AttributeValue::Null,
        1 => AttributeValue::String(strings.get(cursor)?.to_owned()),
        2 => AttributeValue::Bool(false),
        3 => AttributeValue::Bool(true),
        4 => AttributeValue::Int(cursor.i64()?),
        5 => AttributeValue::Double(f64::from_bits(u64::from_le_bytes(cursor.array()?))),
        6 => AttributeValue::Bytes(cursor.bytes()?.to_vec()),
        7 => {
            let count = cursor.count()?;
            let mut values = Vec::with_capacity(count.min(256));
            for _ in 0..count {
                values.push(read_nested(cursor, strings, depth + 1)?);
            }
            AttributeValue::Array(values)
        }
        8 => AttributeValue::Map(read_map(cursor, strings, depth + 1)?),
        _ => return Err(Malformed("attribute type")),
    })
}

/// Compresses when that saves at least an eighth: returns the encoding (0 raw, 1 zstd) and the bytes.
pub(crate) fn pack(raw: &[u8]) -> (u8, std::borrow::Cow<'_, [u8]>) {
    if raw.len() >= 128
        && let Some(packed) = compress(raw)
        && packed.len() < raw.len() - raw.len() / 8
    {
        return (1, packed.into());
    }
    (0, raw.into())
}

thread_local! {
    // A context takes long to make and much memory.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(raw: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let compressor = match compressor {
            Some(compressor) => compressor,
            None => compressor.insert(zstd::bulk::Compressor::new(1).ok()?),
        };
        compressor.compress(raw).ok()
    })
}

/// Undoes [`pack`]; `raw_len` must not be trusted beyond `raw_len_max`.
pub(crate) fn unpack(
    encoding: u8,
    bytes: &[u8],
    raw_len: usize,
    raw_len_max: usize,
) -> Result<std::borrow::Cow<'_, [u8]>, Malformed> {
    if raw_len > raw_len_max {
        return Err(Malformed("length before compression"));
    }
    match encoding {
        0 if bytes.len() == raw_len => Ok(bytes.into()),
        1 => {
            let raw = zstd::bulk::decompress(bytes, raw_len).map_err(|_| Malformed("compressed data"))?;
            if raw.len() == raw_len { Ok(raw.into()) } else { Err(Malformed("compressed data")) }
        }
        _ => Err(Malformed("encoding")),
    }
}
