//! A bounds-checked cursor over bytes as Go's `encoding/binary` writes them: big-endian words, LEB128.

/// The bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const SHORT: Malformed = Malformed("ends too early");

/// Reads from the front.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// A cursor over what lies behind `offset`.
    pub(crate) fn at(data: &'a [u8], offset: u64) -> Result<Self, Malformed> {
        let rest = usize::try_from(offset).ok().and_then(|o| data.get(o..)).ok_or(SHORT)?;
        Ok(Self { rest })
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    pub(crate) fn be16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn be32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn be64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn float(&mut self) -> Result<f64, Malformed> {
        self.be64().map(f64::from_bits)
    }

    pub(crate) fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(Malformed("has a number of more than ten bytes"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, Malformed> {
        let v = self.uvarint()?;
        Ok((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// A number of things that take at least `each` bytes: what the rest cannot hold is refused.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let n = self.uvarint()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.rest.len() / each.max(1) => Ok(n),
            _ => Err(Malformed("has a count that does not fit")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let n = self.count(1)?;
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Malformed("has text that is not UTF-8"))
    }
}

/// Cuts `len` bytes and the CRC-32C behind them off the front of a cursor; the bytes when the checksum holds.
pub(crate) fn checked<'a>(from: &mut Cursor<'a>, len: usize) -> Result<&'a [u8], Malformed> {
    let body = from.bytes(len)?;
    if crc32c::crc32c(body) == from.be32()? { Ok(body) } else { Err(Malformed("fails its checksum")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut c = Cursor::new(&[0xac, 0x02, 0x01, 0x00, 0x05]);
        assert_eq!((c.uvarint(), c.varint(), c.be16()), (Ok(300), Ok(-1), Ok(5)));
        assert!(c.u8().is_err());
        assert!(Cursor::new(&[0xff; 11]).uvarint().is_err());
        assert!(Cursor::new(&[0x05, 1, 2]).count(1).is_err());
    }
}
