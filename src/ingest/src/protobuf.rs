//! A borrowing reader of the protobuf wire format (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! For the two protocols whose messages are small and come by the hundred thousand: remote write and Loki push. It
//! allocates nothing, never recurses, and every error names the byte of the whole message.

/// Broken wire data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct WireError {
    /// What is wrong.
    pub what: &'static str,
    /// Offset in the outermost message.
    pub offset: usize,
}

/// The value of one field.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, or packed numbers; with the offset of its first byte.
    Bytes(&'a [u8], usize),
    /// Wire type 5.
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Field number.
    pub number: u32,
    /// Offset of the field's tag in the outermost message.
    pub offset: usize,
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Field<'a> {
    fn wrong(&self) -> WireError {
        WireError { what: "field has the wrong wire type", offset: self.offset }
    }

    /// The bytes of a length-delimited field.
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(b, _) => Ok(b),
            _ => Err(self.wrong()),
        }
    }

    /// A reader of a nested message.
    #[inline]
    pub fn message(&self) -> Result<Reader<'a>, WireError> {
        match self.value {
            Value::Bytes(b, offset) => Ok(Reader { bytes: b, position: 0, base: offset }),
            _ => Err(self.wrong()),
        }
    }

    /// A varint.
    #[inline]
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(v) => Ok(v),
            _ => Err(self.wrong()),
        }
    }

    /// A `sint32` or `sint64` (zigzag).
    #[inline]
    pub fn zigzag(&self) -> Result<i64, WireError> {
        self.varint().map(unzigzag)
    }

    /// A double.
    #[inline]
    pub fn double(&self) -> Result<f64, WireError> {
        match self.value {
            Value::Fixed64(v) => Ok(f64::from_bits(v)),
            _ => Err(self.wrong()),
        }
    }

    /// Appends doubles of a repeated field, packed or not.
    pub fn doubles(&self, out: &mut Vec<f64>) -> Result<(), WireError> {
        match self.value {
            Value::Fixed64(v) => out.push(f64::from_bits(v)),
            Value::Bytes(b, offset) => {
                let chunks = b.chunks_exact(8);
                if !chunks.remainder().is_empty() {
                    return Err(WireError { what: "packed doubles are cut", offset });
                }
                out.extend(chunks.map(|c| f64::from_le_bytes(c.try_into().expect("chunks of 8"))));
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// Appends zigzag numbers of a repeated field, packed or not.
    pub fn zigzags(&self, out: &mut Vec<i64>) -> Result<(), WireError> {
        match self.value {
            Value::Varint(v) => out.push(unzigzag(v)),
            Value::Bytes(bytes, base) => {
                let mut reader = Reader { bytes, position: 0, base };
                while reader.position < bytes.len() {
                    out.push(unzigzag(reader.varint()?));
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Reads the fields of one message in the order in which they stand.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    base: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the outermost message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, base: 0 }
    }

    /// The bytes that are not read yet.
    #[inline]
    pub fn remaining(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// Goes on `n` bytes later, or at the end when there are fewer.
    #[inline]
    pub fn skip(&mut self, n: usize) {
        self.position = self.position.saturating_add(n).min(self.bytes.len());
    }

    #[cold]
    fn error(&self, what: &'static str) -> WireError {
        WireError { what, offset: self.base + self.position }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        if let Some(b) = self.bytes.get(self.position)
            && *b < 0x80
        {
            self.position += 1;
            return Ok(u64::from(*b));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for i in 0..10 {
            let Some(b) = self.bytes.get(self.position + i) else {
                return Err(self.error("number is cut"));
            };
            value |= u64::from(b & 0x7f) << (7 * i);
            if *b < 0x80 {
                self.position += i + 1;
                return Ok(value);
            }
        }
        Err(self.error("number is longer than 10 bytes"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        match self.position.checked_add(n).and_then(|end| self.bytes.get(self.position..end)) {
            Some(taken) => {
                self.position += n;
                Ok(taken)
            }
            None => Err(self.error("message is cut")),
        }
    }

    /// The next field, `None` at the end. Groups (wire types 3 and 4) are refused: no message here has them.
    #[inline]
    pub fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.position >= self.bytes.len() {
            return Ok(None);
        }
        let offset = self.base + self.position;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(n) if n > 0 => n,
            _ => return Err(WireError { what: "field number is out of range", offset }),
        };
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let b = self.take(8)?;
                Value::Fixed64(u64::from_le_bytes(b.try_into().expect("took 8 bytes")))
            }
            2 => {
                let n = self.varint()?;
                let n = usize::try_from(n).map_err(|_| self.error("length is out of range"))?;
                let start = self.base + self.position;
                Value::Bytes(self.take(n)?, start)
            }
            5 => {
                let b = self.take(4)?;
                Value::Fixed32(u32::from_le_bytes(b.try_into().expect("took 4 bytes")))
            }
            _ => return Err(WireError { what: "unknown wire type", offset }),
        };
        Ok(Some(Field { number, offset, value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_lengths() {
        for n in [0u64, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = vec![0x08];
            prost::encoding::encode_varint(n, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.field().unwrap().unwrap().varint().unwrap(), n);
            assert!(reader.field().unwrap().is_none());
            for cut in 1..bytes.len() {
                assert!(Reader::new(&bytes[..cut]).field().is_err(), "{n} cut to {cut}");
            }
        }
        assert!(Reader::new(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).field().is_err());
    }

    #[test]
    fn errors_name_the_byte_of_the_whole_message() {
        // Field 1: message of 3 bytes, in it field 1 of claimed length 9.
        let bytes = [0x0a, 3, 0x0a, 9, b'x'];
        let mut inner = Reader::new(&bytes).field().unwrap().unwrap().message().unwrap();
        assert_eq!(inner.field().unwrap_err(), WireError { what: "message is cut", offset: 4 });
        assert_eq!(Reader::new(&[0x0b]).field().unwrap_err().what, "unknown wire type");
    }
}
