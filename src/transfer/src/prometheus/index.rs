//! The `index` file of a block, versions 1 to 3: symbols, series, postings, table of contents.

use bytes::Bytes;
use trefoil_model::Labels;

use crate::cursor::{Cursor, Malformed, checked};

const MAGIC: u32 = 0xbaaa_d700;
const TOC_BYTES: usize = 52;
/// Series begin at multiples of this from version 2 on.
const SERIES_ALIGN: u64 = 16;

/// Where a chunk is and what times it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Time of the first sample.
    pub min_t: i64,
    /// Time of the last sample.
    pub max_t: i64,
    /// Number of the chunk file, from 0.
    pub segment: u32,
    /// Offset in that file.
    pub offset: u32,
}

/// A series of an index.
#[derive(Debug, Clone)]
pub struct SeriesEntry {
    /// What tombstones know it by.
    pub reference: u64,
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, by time.
    pub chunks: Vec<ChunkRef>,
}

/// What is wrong with a range of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDamage {
    /// First byte.
    pub offset: u64,
    /// What.
    pub reason: String,
}

/// An open index.
pub struct Index {
    data: Bytes,
    version: u8,
    /// Offset of each symbol from the symbol table's beginning; version 1 refers to symbols by their place in the file.
    symbols: Vec<u32>,
    symbols_at: u64,
    /// Offsets of the series, ascending.
    series: Vec<u64>,
}

fn damage(offset: u64, what: &str) -> impl FnOnce(Malformed) -> IndexDamage {
    let what = what.to_owned();
    move |Malformed(reason)| IndexDamage { offset, reason: format!("{what} {reason}") }
}

impl Index {
    /// Opens an index. Damage to the list of all series is worked around by walking over the series themselves, and
    /// told in the second part of the answer.
    pub fn open(data: Bytes) -> Result<(Self, Option<IndexDamage>), IndexDamage> {
        let mut head = Cursor::new(&data);
        let (magic, version) = (head.be32(), head.u8());
        let version = match (magic, version) {
            (Ok(MAGIC), Ok(v @ 1..=3)) => v,
            _ => return Err(IndexDamage { offset: 0, reason: "is not an index of version 1 to 3".to_owned() }),
        };
        let toc_at = data.len().saturating_sub(TOC_BYTES);
        let toc = damage(toc_at as u64, "table of contents");
        let mut from = Cursor::new(&data[toc_at..]);
        let mut sections = [0u64; 6];
        match checked(&mut from, TOC_BYTES - 4) {
            Ok(body) => {
                for (s, bytes) in sections.iter_mut().zip(body.chunks_exact(8)) {
                    *s = u64::from_be_bytes(bytes.try_into().expect("chunks are of eight bytes"));
                }
            }
            Err(e) => return Err(toc(e)),
        }
        let [symbols_at, series_at, labels_at, _, postings_at, postings_table] = sections;
        let mut index = Self { data, version, symbols: Vec::new(), symbols_at, series: Vec::new() };
        index.read_symbols().map_err(damage(symbols_at, "symbol table"))?;
        let mut trouble = None;
        match index.all_series(postings_table) {
            Ok(series) => index.series = series,
            Err((offset, e)) => {
                trouble = Some(damage(offset, "list of all series")(e));
                let end = [labels_at, postings_at, toc_at as u64].into_iter().filter(|at| *at > series_at).min();
                index.series = index.walk_series(series_at, end.unwrap_or(toc_at as u64));
            }
        }
        Ok((index, trouble))
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// True without series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn read_symbols(&mut self) -> Result<(), Malformed> {
        let mut from = Cursor::at(&self.data, self.symbols_at)?;
        let len = from.be32()? as usize;
        let body = checked(&mut from, len)?;
        let mut from = Cursor::new(body);
        let count = from.be32()? as usize;
        if self.version == 1 {
            return Ok(());
        }
        // A symbol takes a byte at least.
        if count > body.len() {
            return Err(Malformed("has a count that does not fit"));
        }
        self.symbols.reserve(count);
        for _ in 0..count {
            self.symbols.push((body.len() - from.rest().len()) as u32);
            let n = from.count(1)?;
            from.bytes(n)?;
        }
        Ok(())
    }

    fn symbol(&self, reference: u64) -> Result<&str, Malformed> {
        let at = if self.version == 1 {
            reference
        } else {
            let at = usize::try_from(reference).ok().and_then(|r| self.symbols.get(r));
            // Behind the length of the table.
            self.symbols_at + 4 + u64::from(*at.ok_or(Malformed("names a symbol that is not there"))?)
        };
        Cursor::at(&self.data, at)?.text()
    }

    /// The postings of all series: those of the empty name and value.
    fn all_series(&self, table: u64) -> Result<Vec<u64>, (u64, Malformed)> {
        let find = || -> Result<Option<u64>, Malformed> {
            let mut from = Cursor::at(&self.data, table)?;
            let len = from.be32()? as usize;
            let mut from = Cursor::new(checked(&mut from, len)?);
            for _ in 0..from.be32()? {
                if from.uvarint()? != 2 {
                    return Err(Malformed("has an entry that is not a label pair"));
                }
                let (name, value) = (from.text()?, from.text()?);
                let at = from.uvarint()?;
                if name.is_empty() && value.is_empty() {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        };
        let at = find().and_then(|at| at.ok_or(Malformed("is not there"))).map_err(|e| (table, e))?;
        let read = || -> Result<Vec<u64>, Malformed> {
            let mut from = Cursor::at(&self.data, at)?;
            let len = from.be32()? as usize;
            let body = checked(&mut from, len)?;
            let mut from = Cursor::new(body);
            let count = from.be32()? as usize;
            if from.rest().len() != count * 4 {
                return Err(Malformed("has a count that does not fit"));
            }
            let align = if self.version == 1 { 1 } else { SERIES_ALIGN };
            let refs = from.rest().chunks_exact(4);
            Ok(refs.map(|r| u64::from(u32::from_be_bytes(r.try_into().expect("four bytes"))) * align).collect())
        };
        read().map_err(|e| (at, e))
    }

    /// Where series seem to begin, from their lengths alone.
    fn walk_series(&self, start: u64, end: u64) -> Vec<u64> {
        let align = if self.version == 1 { 1 } else { SERIES_ALIGN };
        let (mut at, mut found) = (start.next_multiple_of(align), Vec::new());
        while at < end {
            let Ok(mut from) = Cursor::at(&self.data, at) else { break };
            let before = from.rest().len();
            match from.uvarint() {
                Ok(0) | Err(_) => at += align,
                Ok(len) => {
                    let head = (before - from.rest().len()) as u64;
                    if self.series_at(at).is_ok() {
                        found.push(at);
                        at = (at + head + len + 4).next_multiple_of(align);
                    } else {
                        at += align;
                    }
                }
            }
        }
        found
    }

    /// Reads the series number `n` in the order of the list of all series.
    pub fn series(&self, n: usize) -> Result<SeriesEntry, IndexDamage> {
        let at = self.series[n];
        self.series_at(at).map_err(damage(at, "series"))
    }

    fn series_at(&self, at: u64) -> Result<SeriesEntry, Malformed> {
        let mut from = Cursor::at(&self.data, at)?;
        let len = from.count(1)?;
        let mut from = Cursor::new(checked(&mut from, len)?);
        let mut pairs = Vec::new();
        for _ in 0..from.count(2)? {
            let (name, value) = (from.uvarint()?, from.uvarint()?);
            pairs.push((self.symbol(name)?, self.symbol(value)?));
        }
        let labels = Labels::from_pairs(pairs);
        let count = from.count(3)?;
        let mut chunks: Vec<ChunkRef> = Vec::with_capacity(count);
        let (mut t, mut reference) = (0i64, 0u64);
        for i in 0..count {
            let min_t = if i == 0 { from.varint()? } else { t.wrapping_add(from.uvarint()? as i64) };
            let max_t = min_t.wrapping_add(from.uvarint()? as i64);
            reference = if i == 0 { from.uvarint()? } else { reference.wrapping_add(from.varint()? as u64) };
            t = max_t;
            chunks.push(ChunkRef { min_t, max_t, segment: (reference >> 32) as u32, offset: reference as u32 });
        }
        let reference = if self.version == 1 { at } else { at / SERIES_ALIGN };
        Ok(SeriesEntry { reference, labels, chunks })
    }
}
