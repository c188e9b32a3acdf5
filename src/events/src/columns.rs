//! The container of a block's columns: each compressed and checksummed alone, so that a query reads only what it needs.
//!
//! `block := column count uvarint | (encoding u8, raw length, stored length, crc32c of the stored bytes u32le) ... |
//! crc32c u32le of all before | stored bytes ...`.

use std::borrow::Cow;
use std::cell::RefCell;

use crate::wire::{Cursor, Malformed, put_len};

/// Longest column before compression that is read back.
const COLUMN_BYTES_MAX: usize = 1 << 30;
/// Most columns that are read back.
const COLUMNS_MAX: usize = 4096;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const LEVEL: i32 = 1;
/// Shorter columns are not worth a try.
const PACK_BYTES_MIN: usize = 64;

/// A column to be written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Column {
    pub(crate) bytes: Vec<u8>,
    /// Whether compression is not worth a try.
    pub(crate) is_dense: bool,
}

impl From<Vec<u8>> for Column {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, is_dense: false }
    }
}

/// Compresses with a context that is made once.
pub(crate) struct Packer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    buffer: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { compressor: zstd::bulk::Compressor::new(LEVEL).ok(), buffer: Vec::new() }
    }

    /// The encoding and the bytes to store.
    fn pack<'a>(&'a mut self, column: &'a Column) -> (u8, &'a [u8]) {
        let raw = column.bytes.as_slice();
        if !column.is_dense
            && raw.len() >= PACK_BYTES_MIN
            && let Some(compressor) = &mut self.compressor
        {
            self.buffer.clear();
            self.buffer.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            if let Ok(len) = compressor.compress_to_buffer(raw, &mut self.buffer)
                && len < raw.len() - raw.len() / 8
            {
                return (ZSTD, &self.buffer);
            }
        }
        (RAW, raw)
    }

    /// Encodes a block.
    pub(crate) fn seal(&mut self, columns: &[Column]) -> Vec<u8> {
        let (mut head, mut data) = (Vec::with_capacity(columns.len() * 12 + 8), Vec::new());
        put_len(&mut head, columns.len());
        for column in columns {
            let (encoding, stored) = self.pack(column);
            head.push(encoding);
            put_len(&mut head, column.bytes.len());
            put_len(&mut head, stored.len());
            head.extend_from_slice(&crc32c::crc32c(stored).to_le_bytes());
            data.extend_from_slice(stored);
        }
        let crc = crc32c::crc32c(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        head.extend_from_slice(&data);
        head
    }
}

struct Place<'a> {
    encoding: u8,
    raw: usize,
    crc: u32,
    stored: &'a [u8],
}

/// The columns of a block; each is checked and decompressed when it is asked for.
pub(crate) struct BlockColumns<'a> {
    places: Vec<Place<'a>>,
}

thread_local! {
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

impl<'a> BlockColumns<'a> {
    pub(crate) fn open(block: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(block);
        let count = cursor.count()?;
        if count > COLUMNS_MAX {
            return Err(Malformed("number of columns"));
        }
        let mut heads = Vec::with_capacity(count);
        for _ in 0..count {
            let encoding = cursor.u8()?;
            let raw = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
            let stored = usize::try_from(cursor.u64()?).map_err(|_| Malformed("length"))?;
            heads.push((encoding, raw, stored, u32::from_le_bytes(cursor.array()?)));
        }
        let head = &block[..block.len() - cursor.remaining()];
        if crc32c::crc32c(head).to_le_bytes() != cursor.array::<4>()? {
            return Err(Malformed("checksum of the head"));
        }
        let mut places = Vec::with_capacity(count);
        for (encoding, raw, stored, crc) in heads {
            places.push(Place { encoding, raw, crc, stored: cursor.take(stored)? });
        }
        if !cursor.is_empty() {
            return Err(Malformed("end of block"));
        }
        Ok(Self { places })
    }

    pub(crate) fn get(&self, index: usize) -> Result<Cow<'a, [u8]>, Malformed> {
        let place = self.places.get(index).ok_or(Malformed("column"))?;
        if crc32c::crc32c(place.stored) != place.crc {
            return Err(Malformed("checksum of a column"));
        }
        if place.raw > COLUMN_BYTES_MAX {
            return Err(Malformed("length before compression"));
        }
        match place.encoding {
            RAW if place.stored.len() == place.raw => Ok(Cow::Borrowed(place.stored)),
            ZSTD => unpack(place.stored, place.raw).map(Cow::Owned),
            _ => Err(Malformed("encoding")),
        }
    }

    /// Checks every column; for copies, which must not carry damage on.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        match self.places.iter().all(|place| crc32c::crc32c(place.stored) == place.crc) {
            true => Ok(()),
            false => Err(Malformed("checksum of a column")),
        }
    }
}

fn unpack(stored: &[u8], raw: usize) -> Result<Vec<u8>, Malformed> {
    const BAD: Malformed = Malformed("compressed data");
    // What is claimed must not size a buffer that the data cannot fill.
    if zstd::zstd_safe::get_frame_content_size(stored).ok().flatten() != Some(raw as u64) {
        return Err(BAD);
    }
    UNPACKER.with_borrow_mut(|unpacker| {
        let unpacker = match unpacker {
            Some(unpacker) => unpacker,
            None => unpacker.insert(zstd::bulk::Decompressor::new().map_err(|_| BAD)?),
        };
        let bytes = unpacker.decompress(stored, raw).map_err(|_| BAD)?;
        if bytes.len() == raw { Ok(bytes) } else { Err(BAD) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_back_and_damage_is_seen() {
        let columns: Vec<Column> = vec![
            vec![1, 2, 3].into(),
            vec![7; 5000].into(),
            Vec::new().into(),
            Column { bytes: vec![9; 300], is_dense: true },
        ];
        let block = Packer::new().seal(&columns);
        assert!(block.len() < 500);
        let open = BlockColumns::open(&block).unwrap();
        for (index, column) in columns.iter().enumerate() {
            assert_eq!(*open.get(index).unwrap(), *column.bytes);
        }
        assert!(open.check().is_ok() && open.get(4).is_err());
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 4;
            let seen = BlockColumns::open(&bad).map_or(true, |open| open.check().is_err());
            assert!(seen, "byte {at}");
        }
    }
}
