//! Columns by the `pco` crate: slower to write than bit packing and smaller. A chunk without the header of the format,
//! which is the same for all of ours, in pages, so that an hour can be read of a day.

use std::cell::RefCell;
use std::ops::Range;

use ::pco::data_types::Number;
use ::pco::wrapped::{FileCompressor, FileDecompressor};
use ::pco::{ChunkConfig, DecompressorScratch, FULL_BATCH_N, PagingSpec};

use super::DecodeError;
use super::varint::{Reader, put_uvarint};

/// Version 4.1 of the format, as the crate's header says it.
const HEADER: [u8; 2] = [4, 1];
/// A level above costs more time than it saves bytes on columns of our size.
const LEVEL: usize = 8;
/// Most numbers in a page. Each takes some twenty bytes of its own, two per cent of what compresses well.
const PAGE_MAX: usize = 512;
/// Most numbers in a column.
const COUNT_MAX: usize = 1 << 16;

thread_local! {
    static SCRATCH: RefCell<DecompressorScratch> = RefCell::default();
}

/// How many numbers stand in each page of a column of `count`, but for the last page, which may have fewer.
fn page_count(count: usize) -> usize {
    count.div_ceil(count.div_ceil(PAGE_MAX).max(1)).max(1)
}

/// Appends `values` in pages; false when that cannot be done, with `out` as it was.
pub(crate) fn encode_pco<T: Number>(values: &[T], out: &mut Vec<u8>) -> bool {
    if values.is_empty() || values.len() > COUNT_MAX {
        return false;
    }
    let counts = values.chunks(page_count(values.len())).map(<[T]>::len).collect();
    let config = ChunkConfig::default().with_compression_level(LEVEL).with_paging_spec(PagingSpec::Exact(counts));
    let (mut data, mut pages) = (Vec::new(), Vec::new());
    let write = |data: &mut Vec<u8>, pages: &mut Vec<usize>| -> Result<(), ::pco::errors::PcoError> {
        let mut chunk = FileCompressor::default().chunk_compressor(values, &config)?;
        chunk.write_meta(&mut *data)?;
        for page in 0..chunk.n_per_page().len() {
            let start = data.len();
            chunk.write_page(page, &mut *data)?;
            pages.push(data.len() - start);
        }
        Ok(())
    };
    if write(&mut data, &mut pages).is_err() {
        return false;
    }
    pages.pop();
    for bytes in pages {
        put_uvarint(out, bytes as u64);
    }
    out.extend_from_slice(&data);
    true
}

/// Hands those of the `count` numbers in `data` that are `wanted`, and others near them, to `each` in pieces, each with the
/// number of its first. `paged` says whether the lengths of the pages stand in front, or it is one page.
pub(crate) fn decode_pco<T: Number + Default + Copy>(
    data: &[u8],
    paged: bool,
    count: usize,
    wanted: &Range<usize>,
    mut each: impl FnMut(usize, &mut [T]),
) -> Result<(), DecodeError> {
    if count == 0 || count > COUNT_MAX {
        return Err(DecodeError);
    }
    let mut from = Reader::new(data);
    let per_page = if paged { page_count(count) } else { count };
    let pages = count.div_ceil(per_page);
    let mut ends = Vec::with_capacity(pages);
    let mut end = 0usize;
    for _ in 1..pages {
        end = usize::try_from(from.uvarint()?).ok().and_then(|n| end.checked_add(n)).ok_or(DecodeError)?;
        ends.push(end);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let (file, _) = FileDecompressor::new(&HEADER[..]).map_err(|_| DecodeError)?;
        let (chunk, data) = file.chunk_decompressor::<T, _>(from.rest()).map_err(|_| DecodeError)?;
        ends.push(data.len());
        let mut batch = [T::default(); FULL_BATCH_N];
        let (mut first, mut start) = (0, 0);
        for end in ends {
            let n = per_page.min(count - first);
            if first < wanted.end && wanted.start < first + n {
                let page = data.get(start..end).ok_or(DecodeError)?;
                let mut page = chunk.page_decompressor_with_scratch(page, n, scratch).map_err(|_| DecodeError)?;
                let mut left = n;
                while left > 0 && first + n - left < wanted.end {
                    let read = page.read(&mut batch).map_err(|_| DecodeError)?.n_processed;
                    if read == 0 || read > left {
                        return Err(DecodeError);
                    }
                    each(first + n - left, &mut batch[..read]);
                    left -= read;
                }
                if left == 0 && !page.into_src().is_empty() {
                    return Err(DecodeError);
                }
            }
            (first, start) = (first + n, end);
        }
        Ok(())
    })
}

#[cfg(test)]
#[test]
fn what_is_wanted_is_there() {
    for count in [1, 2, 511, 512, 513, 1024, 1025, 1380, 4096, 5000] {
        let values: Vec<f64> = (0..count).map(|i| ((i * 7919) % 1009) as f64 / 3.0 + 1.0).collect();
        let mut data = Vec::new();
        assert!(encode_pco(&values, &mut data));
        for wanted in
            [0..count, 0..1, count - 1..count, count / 3..count / 2, count / 2..count / 2, 300..600, 512..1024]
        {
            let mut got: Vec<Option<f64>> = vec![None; count];
            decode_pco(&data, true, count, &wanted, |first, piece: &mut [f64]| {
                for (to, v) in got[first..].iter_mut().zip(piece) {
                    assert!(to.replace(*v).is_none());
                }
            })
            .unwrap();
            for (i, (got, v)) in got.iter().zip(&values).enumerate() {
                let is_right = got.map_or(!wanted.contains(&i), |got| got == *v);
                assert!(is_right, "{i} for {wanted:?} of {count}: {got:?}, not {v}");
            }
        }
        for cut in 0..data.len() {
            decode_pco::<f64>(&data[..cut], true, count, &(0..count), |_, _| {}).unwrap_err();
        }
    }
}

#[cfg(test)]
#[test]
fn header_is_the_crates() {
    let mut header = Vec::new();
    FileCompressor::default().write_header(&mut header).unwrap();
    assert_eq!(header, HEADER, "a new version of the format needs a new number");
}
