//! MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>), borrowed from its bytes.
//!
//! A [`Scanner`] finds the end of an object under limits, without recursion and without reading a byte twice while more
//! of it comes; a [`Reader`] reads what a scanner has passed, so that no length lies and no nesting is too deep.

use trefoil_model::AttributeValue;

/// Why bytes are no object that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// A byte that begins no object.
    #[error("byte {0} begins no MessagePack object")]
    NeverUsed(usize),
    /// Nesting.
    #[error("MessagePack nests deeper than {0} levels")]
    TooDeep(usize),
    /// Length.
    #[error("MessagePack object is larger than {0} bytes")]
    TooLarge(usize),
    /// The object is cut short.
    #[error("MessagePack object is cut short")]
    Short,
}

/// What a first byte says.
enum Head {
    /// Nothing but bytes follows: so many of header, then so many of content, whose count may be in the header.
    Plain {
        content: usize,
    },
    /// So many bytes of a big-endian count of content bytes; ext has one more for its type.
    Sized {
        width: usize,
        extra: usize,
    },
    /// Items that follow.
    Items(usize),
    /// So many bytes of a big-endian count, for each of which so many objects follow.
    Counted {
        width: usize,
        per: usize,
    },
    Never,
}

fn head(byte: u8) -> Head {
    match byte {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Head::Plain { content: 0 },
        0x80..=0x8f => Head::Items(2 * usize::from(byte & 0x0f)),
        0x90..=0x9f => Head::Items(usize::from(byte & 0x0f)),
        0xa0..=0xbf => Head::Plain { content: usize::from(byte & 0x1f) },
        0xc1 => Head::Never,
        0xc4..=0xc6 => Head::Sized { width: 1 << (byte - 0xc4), extra: 0 },
        0xc7..=0xc9 => Head::Sized { width: 1 << (byte - 0xc7), extra: 1 },
        0xca | 0xd2 | 0xce => Head::Plain { content: 4 },
        0xcb | 0xd3 | 0xcf => Head::Plain { content: 8 },
        0xcc | 0xd0 => Head::Plain { content: 1 },
        0xcd | 0xd1 => Head::Plain { content: 2 },
        0xd4..=0xd8 => Head::Plain { content: 1 + (1 << (byte - 0xd4)) },
        0xd9..=0xdb => Head::Sized { width: 1 << (byte - 0xd9), extra: 0 },
        0xdc | 0xdd => Head::Counted { width: 2 << (byte - 0xdc), per: 1 },
        0xde | 0xdf => Head::Counted { width: 2 << (byte - 0xde), per: 2 },
    }
}

fn count(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

/// Finds where an object ends.
#[derive(Debug)]
pub struct Scanner {
    depth_max: usize,
    bytes_max: usize,
    /// Bytes that are passed.
    position: usize,
    /// Objects that must still follow, for each array or map that is open.
    open: Vec<usize>,
    /// Objects that are passed, nested ones too.
    objects: usize,
}

/// The end of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Its bytes.
    pub bytes: usize,
    /// Objects in it, itself too: what a [`Reader`] makes of it takes memory by their number.
    pub objects: usize,
}

impl Scanner {
    /// For an object of at most so many levels and bytes.
    pub fn new(depth_max: usize, bytes_max: usize) -> Self {
        Self { depth_max, bytes_max, position: 0, open: Vec::new(), objects: 0 }
    }

    /// Looks at the object that begins at the start of `bytes`, which must begin with what was given before; its end
    /// when it is there, `None` when more must come. The scanner is then as new.
    ///
    /// Errors: what can never become an object within the limits.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<Scanned>, MsgpackError> {
        loop {
            let Some(first) = bytes.get(self.position) else { return Ok(None) };
            let after = &bytes[self.position + 1..];
            let (length, items) = match head(*first) {
                Head::Never => return Err(MsgpackError::NeverUsed(self.position)),
                Head::Plain { content } => (1 + content, 0),
                Head::Sized { width, extra } => match after.get(..width) {
                    Some(n) => (1 + width + extra + count(n), 0),
                    None => return Ok(None),
                },
                Head::Items(items) => (1, items),
                Head::Counted { width, per } => match after.get(..width) {
                    Some(n) => (1 + width, per * count(n)),
                    None => return Ok(None),
                },
            };
            // Every object that is promised takes a byte at least.
            let promised: usize = self.open.iter().fold(items, |n, more| n.saturating_add(*more));
            let least =
                (self.position + length).saturating_add(promised.saturating_sub(usize::from(!self.open.is_empty())));
            if least > self.bytes_max {
                return Err(MsgpackError::TooLarge(self.bytes_max));
            }
            if bytes.len() < self.position + length {
                return Ok(None);
            }
            self.position += length;
            self.objects += 1;
            if let Some(more) = self.open.last_mut() {
                *more -= 1;
            }
            if items > 0 {
                if self.open.len() >= self.depth_max {
                    return Err(MsgpackError::TooDeep(self.depth_max));
                }
                self.open.push(items);
            }
            while self.open.last() == Some(&0) {
                self.open.pop();
            }
            if self.open.is_empty() {
                let (bytes, objects) = (std::mem::take(&mut self.position), std::mem::take(&mut self.objects));
                return Ok(Some(Scanned { bytes, objects }));
            }
        }
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// nil
    Nil,
    /// bool
    Bool(bool),
    /// int, and uint that fits
    Int(i64),
    /// uint above that
    Uint(u64),
    /// float
    Float(f64),
    /// str, which may be no UTF-8
    Str(&'a [u8]),
    /// bin
    Bin(&'a [u8]),
    /// array
    Array(Vec<Value<'a>>),
    /// map, in its order
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// ext: type and content
    Ext(i8, &'a [u8]),
}

impl<'a> Value<'a> {
    /// The value under a text key of a map.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        match self {
            Self::Map(members) => members.iter().find_map(|(k, v)| match k {
                Self::Str(k) | Self::Bin(k) if *k == key.as_bytes() => Some(v),
                _ => None,
            }),
            _ => None,
        }
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Uint(_) | Self::Float(_) => "a number",
            Self::Str(_) => "a text",
            Self::Bin(_) => "bytes",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Ext(..) => "an extension",
        }
    }

    /// As text: strings as they are, with U+FFFD for what is no UTF-8.
    pub fn text(&self) -> String {
        match self {
            Self::Str(s) | Self::Bin(s) => String::from_utf8_lossy(s).into_owned(),
            other => other.attribute().to_text(),
        }
    }

    /// As an attribute value. Bytes that are text become text: old encoders know no other type for it.
    pub fn attribute(&self) -> AttributeValue {
        match self {
            Self::Nil => AttributeValue::Null,
            Self::Bool(b) => AttributeValue::Bool(*b),
            Self::Int(i) => AttributeValue::Int(*i),
            Self::Uint(u) => AttributeValue::Double(*u as f64),
            Self::Float(f) => AttributeValue::Double(*f),
            Self::Str(s) => AttributeValue::String(String::from_utf8_lossy(s).into_owned()),
            Self::Bin(b) | Self::Ext(_, b) => match std::str::from_utf8(b) {
                Ok(text) if matches!(self, Self::Bin(_)) => AttributeValue::String(text.to_owned()),
                _ => AttributeValue::Bytes(b.to_vec()),
            },
            Self::Array(items) => AttributeValue::Array(items.iter().map(Self::attribute).collect()),
            Self::Map(members) => AttributeValue::Map(members.iter().map(|(k, v)| (k.text(), v.attribute())).collect()),
        }
    }
}

/// Reads an object that a [`Scanner`] has passed; others give [`MsgpackError::Short`], never a panic.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of an object.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], MsgpackError> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or(MsgpackError::Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn sized(&mut self, width: usize) -> Result<&'a [u8], MsgpackError> {
        let n = count(self.take(width)?);
        self.take(n)
    }

    fn big_endian<const N: usize>(&mut self) -> Result<[u8; N], MsgpackError> {
        self.take(N)?.first_chunk().copied().ok_or(MsgpackError::Short)
    }

    /// Reads an object; recurses as deep as the scanner let it be.
    pub fn value(&mut self) -> Result<Value<'a>, MsgpackError> {
        let first = self.take(1)?[0];
        Ok(match first {
            0x00..=0x7f => Value::Int(i64::from(first)),
            0xe0..=0xff => Value::Int(i64::from(first as i8)),
            0x80..=0x8f => self.map(usize::from(first & 0x0f))?,
            0x90..=0x9f => self.array(usize::from(first & 0x0f))?,
            0xa0..=0xbf => Value::Str(self.take(usize::from(first & 0x1f))?),
            0xc0 => Value::Nil,
            0xc1 => return Err(MsgpackError::NeverUsed(0)),
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4..=0xc6 => Value::Bin(self.sized(1 << (first - 0xc4))?),
            0xc7..=0xc9 => {
                let length = count(self.take(1 << (first - 0xc7))?);
                self.ext(length)?
            }
            0xca => Value::Float(f64::from(f32::from_be_bytes(self.big_endian()?))),
            0xcb => Value::Float(f64::from_be_bytes(self.big_endian()?)),
            0xcc => Value::Int(i64::from(self.take(1)?[0])),
            0xcd => Value::Int(i64::from(u16::from_be_bytes(self.big_endian()?))),
            0xce => Value::Int(i64::from(u32::from_be_bytes(self.big_endian()?))),
            0xcf => {
                let wide = u64::from_be_bytes(self.big_endian()?);
                i64::try_from(wide).map_or(Value::Uint(wide), Value::Int)
            }
            0xd0 => Value::Int(i64::from(self.take(1)?[0] as i8)),
            0xd1 => Value::Int(i64::from(i16::from_be_bytes(self.big_endian()?))),
            0xd2 => Value::Int(i64::from(i32::from_be_bytes(self.big_endian()?))),
            0xd3 => Value::Int(i64::from_be_bytes(self.big_endian()?)),
            0xd4..=0xd8 => self.ext(1 << (first - 0xd4))?,
            0xd9..=0xdb => Value::Str(self.sized(1 << (first - 0xd9))?),
            0xdc | 0xdd => {
                let n = count(self.take(2 << (first - 0xdc))?);
                self.array(n)?
            }
            0xde | 0xdf => {
                let n = count(self.take(2 << (first - 0xde))?);
                self.map(n)?
            }
        })
    }

    fn ext(&mut self, length: usize) -> Result<Value<'a>, MsgpackError> {
        let kind = self.take(1)?[0] as i8;
        Ok(Value::Ext(kind, self.take(length)?))
    }

    fn array(&mut self, n: usize) -> Result<Value<'a>, MsgpackError> {
        // No more room than the bytes can fill.
        let mut items = Vec::with_capacity(n.min(self.bytes.len()));
        for _ in 0..n {
            items.push(self.value()?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, n: usize) -> Result<Value<'a>, MsgpackError> {
        let mut members = Vec::with_capacity(n.min(self.bytes.len() / 2));
        for _ in 0..n {
            members.push((self.value()?, self.value()?));
        }
        Ok(Value::Map(members))
    }
}
