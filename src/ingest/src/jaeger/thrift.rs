//! A borrowing reader of Apache Thrift's binary and compact encodings
//! (<https://github.com/apache/thrift/tree/master/doc/specs>).
//!
//! It allocates nothing: a length or count that says more than there are bytes is an error before anything is made of
//! it, what is skipped has a greatest depth, and every error names its byte.

/// Greatest nesting of what is skipped.
const DEPTH_MAX: usize = 16;
/// Longest varint: 64 bits.
const VARINT_BYTES_MAX: usize = 10;

/// Broken wire data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(crate) struct ThriftError {
    /// What is wrong.
    pub(crate) what: &'static str,
    /// Offset in the bytes.
    pub(crate) offset: usize,
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `TBinaryProtocol`
    Binary,
    /// `TCompactProtocol`
    Compact,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    /// Text or bytes.
    Binary,
    Struct,
    Map,
    /// A list or a set.
    List,
    Uuid,
}

/// The head of a field of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its number.
    pub(crate) id: i16,
    /// Its type.
    pub(crate) kind: Type,
    /// Its value, when the head holds it: a boolean in the compact encoding.
    held: Option<bool>,
}

/// A call: the method's name, and whether it is one (a reply is none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    /// Name of the method.
    pub(crate) name: &'a [u8],
    /// Whether somebody calls (with or without an answer).
    pub(crate) is_call: bool,
}

/// Reads values one after another.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    encoding: Encoding,
}

type Result<T> = std::result::Result<T, ThriftError>;

impl<'a> Reader<'a> {
    /// A reader of values in a known encoding.
    pub(crate) fn new(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self { bytes, at: 0, encoding }
    }

    /// A reader of a message, whose first byte tells its encoding: the compact one begins with 0x82.
    pub(crate) fn of_message(bytes: &'a [u8]) -> Self {
        let encoding = if bytes.first() == Some(&0x82) { Encoding::Compact } else { Encoding::Binary };
        Self::new(bytes, encoding)
    }

    fn error(&self, what: &'static str) -> ThriftError {
        ThriftError { what, offset: self.at }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.left() {
            return Err(self.error("value is cut"));
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[b]| b)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for i in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error("number is too long"))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let v = self.varint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// Reads the head of a message.
    pub(crate) fn call(&mut self) -> Result<Call<'a>> {
        match self.encoding {
            Encoding::Compact => {
                let [_, head] = self.array::<2>()?;
                if head & 0x1f != 1 {
                    return Err(self.error("version is not known"));
                }
                self.varint()?;
                Ok(Call { name: self.binary()?, is_call: is_call(head >> 5) })
            }
            Encoding::Binary => {
                let head = i32::from_be_bytes(self.array()?);
                if head >= 0 {
                    // The older form, without a version.
                    let name = self.take(head as usize)?;
                    let kind = self.byte()?;
                    self.take(4)?;
                    return Ok(Call { name, is_call: is_call(kind) });
                }
                if head as u32 & 0xffff_0000 != 0x8001_0000 {
                    return Err(self.error("version is not known"));
                }
                let name = self.binary()?;
                self.take(4)?;
                Ok(Call { name, is_call: is_call(head as u8) })
            }
        }
    }

    /// The next field of a struct, `None` at its end. `last` is the number of the field before, 0 at first.
    pub(crate) fn field(&mut self, last: &mut i16) -> Result<Option<Field>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let (id, kind, held) = match self.encoding {
            Encoding::Binary => {
                let kind = self.binary_type(head)?;
                (i16::from_be_bytes(self.array()?), kind, None)
            }
            Encoding::Compact => {
                let id = match head >> 4 {
                    0 => self.zigzag()? as i16,
                    step => last.wrapping_add(i16::from(step)),
                };
                let held = match head & 0xf {
                    1 => Some(true),
                    2 => Some(false),
                    _ => None,
                };
                (id, self.compact_type(head & 0xf)?, held)
            }
        };
        *last = id;
        Ok(Some(Field { id, kind, held }))
    }

    fn binary_type(&self, code: u8) -> Result<Type> {
        Ok(match code {
            2 => Type::Bool,
            3 => Type::Byte,
            4 => Type::Double,
            6 => Type::I16,
            8 => Type::I32,
            10 => Type::I64,
            11 => Type::Binary,
            12 => Type::Struct,
            13 => Type::Map,
            14 | 15 => Type::List,
            16 => Type::Uuid,
            _ => return Err(self.error("type is not known")),
        })
    }

    fn compact_type(&self, code: u8) -> Result<Type> {
        Ok(match code {
            1 | 2 => Type::Bool,
            3 => Type::Byte,
            4 => Type::I16,
            5 => Type::I32,
            6 => Type::I64,
            7 => Type::Double,
            8 => Type::Binary,
            9 | 10 => Type::List,
            11 => Type::Map,
            12 => Type::Struct,
            13 => Type::Uuid,
            _ => return Err(self.error("type is not known")),
        })
    }

    /// The value of a boolean field.
    pub(crate) fn bool(&mut self, field: &Field) -> Result<bool> {
        match field.held {
            Some(value) => Ok(value),
            None => Ok(self.byte()? == 1),
        }
    }

    /// A whole number of 32 bits.
    pub(crate) fn i32(&mut self) -> Result<i32> {
        match self.encoding {
            Encoding::Binary => Ok(i32::from_be_bytes(self.array()?)),
            Encoding::Compact => Ok(self.zigzag()? as i32),
        }
    }

    /// A whole number of 64 bits.
    pub(crate) fn i64(&mut self) -> Result<i64> {
        match self.encoding {
            Encoding::Binary => Ok(i64::from_be_bytes(self.array()?)),
            Encoding::Compact => self.zigzag(),
        }
    }

    /// A floating-point number.
    pub(crate) fn double(&mut self) -> Result<f64> {
        let bytes = self.array()?;
        Ok(match self.encoding {
            Encoding::Binary => f64::from_be_bytes(bytes),
            Encoding::Compact => f64::from_le_bytes(bytes),
        })
    }

    /// Text or bytes.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8]> {
        let length = match self.encoding {
            Encoding::Binary => usize::try_from(i32::from_be_bytes(self.array()?)).ok(),
            Encoding::Compact => usize::try_from(self.varint()?).ok(),
        };
        match length {
            Some(length) => self.take(length),
            None => Err(self.error("length is negative")),
        }
    }

    /// The head of a list: the type of its elements and how many there are, at most as many as there are bytes.
    pub(crate) fn list(&mut self) -> Result<(Type, usize)> {
        let (kind, count) = match self.encoding {
            Encoding::Binary => {
                let code = self.byte()?;
                let count = usize::try_from(i32::from_be_bytes(self.array()?)).ok();
                // An empty list may name no type.
                if count == Some(0) {
                    return Ok((Type::Byte, 0));
                }
                (self.binary_type(code)?, count)
            }
            Encoding::Compact => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => usize::try_from(self.varint()?).ok(),
                    count => Some(usize::from(count)),
                };
                if count == Some(0) {
                    return Ok((Type::Byte, 0));
                }
                (self.compact_type(head & 0xf)?, count)
            }
        };
        // Every element has a byte at least.
        match count.filter(|n| *n <= self.left()) {
            Some(count) => Ok((kind, count)),
            None => Err(self.error("list has more elements than there are bytes")),
        }
    }

    /// Reads over the value of a field.
    pub(crate) fn skip(&mut self, field: &Field) -> Result<()> {
        if field.held.is_some() { Ok(()) } else { self.skip_value(field.kind, 0) }
    }

    /// Reads over the elements of a list.
    pub(crate) fn skip_elements(&mut self, kind: Type, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.skip_value(kind, 1))
    }

    fn skip_value(&mut self, kind: Type, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(self.error("value is nested too deeply"));
        }
        match kind {
            Type::Bool | Type::Byte => self.take(1).map(drop),
            Type::I16 if self.encoding == Encoding::Binary => self.take(2).map(drop),
            Type::I32 if self.encoding == Encoding::Binary => self.take(4).map(drop),
            Type::I64 if self.encoding == Encoding::Binary => self.take(8).map(drop),
            Type::I16 | Type::I32 | Type::I64 => self.varint().map(drop),
            Type::Double => self.take(8).map(drop),
            Type::Uuid => self.take(16).map(drop),
            Type::Binary => self.binary().map(drop),
            Type::List => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))
            }
            Type::Map => {
                let Some((key, value, count)) = self.map()? else { return Ok(()) };
                (0..count).try_for_each(|_| {
                    self.skip_value(key, depth + 1)?;
                    self.skip_value(value, depth + 1)
                })
            }
            Type::Struct => {
                let mut last = 0;
                while let Some(field) = self.field(&mut last)? {
                    if field.held.is_none() {
                        self.skip_value(field.kind, depth + 1)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn map(&mut self) -> Result<Option<(Type, Type, usize)>> {
        let (key, value, count) = match self.encoding {
            Encoding::Binary => {
                let [key, value] = self.array()?;
                let count = usize::try_from(i32::from_be_bytes(self.array()?)).ok();
                if count == Some(0) {
                    return Ok(None);
                }
                (self.binary_type(key)?, self.binary_type(value)?, count)
            }
            Encoding::Compact => {
                let count = usize::try_from(self.varint()?).ok();
                if count == Some(0) {
                    return Ok(None);
                }
                let kinds = self.byte()?;
                (self.compact_type(kinds >> 4)?, self.compact_type(kinds & 0xf)?, count)
            }
        };
        match count.filter(|n| *n <= self.left()) {
            Some(count) => Ok(Some((key, value, count))),
            None => Err(self.error("map has more entries than there are bytes")),
        }
    }
}

fn is_call(kind: u8) -> bool {
    matches!(kind, 1 | 4)
}
