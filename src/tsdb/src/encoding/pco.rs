//! Columns by the `pco` crate: slower to write than bit packing and smaller. A chunk of one page without the header of
//! the format, which is the same for all of ours.

use std::cell::RefCell;

use ::pco::data_types::Number;
use ::pco::wrapped::{FileCompressor, FileDecompressor};
use ::pco::{ChunkConfig, DecompressorScratch, FULL_BATCH_N, PagingSpec};

use super::DecodeError;

/// Version 4.1 of the format, as the crate's header says it.
const HEADER: [u8; 2] = [4, 1];
/// A level above costs more time than it saves bytes on columns of our size.
const LEVEL: usize = 8;
/// Most numbers in a column.
const COUNT_MAX: usize = 1 << 16;

thread_local! {
    static SCRATCH: RefCell<DecompressorScratch> = RefCell::default();
}

/// Appends `values`; false when that cannot be done, with `out` as it was.
pub(crate) fn encode_pco<T: Number>(values: &[T], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let config =
        ChunkConfig::default().with_compression_level(LEVEL).with_paging_spec(PagingSpec::EqualPagesUpTo(COUNT_MAX));
    let write = |out: &mut Vec<u8>| -> Result<(), ::pco::errors::PcoError> {
        let mut chunk = FileCompressor::default().chunk_compressor(values, &config)?;
        chunk.write_meta(&mut *out)?;
        chunk.write_page(0, &mut *out)?;
        Ok(())
    };
    let written = !values.is_empty() && values.len() <= COUNT_MAX && write(out).is_ok();
    if !written {
        out.truncate(start);
    }
    written
}

/// Hands `count` numbers, all that `data` holds, to `each` in pieces.
pub(crate) fn decode_pco<T: Number + Default + Copy>(
    data: &[u8],
    count: usize,
    mut each: impl FnMut(&mut [T]),
) -> Result<(), DecodeError> {
    if count > COUNT_MAX {
        return Err(DecodeError);
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let (file, _) = FileDecompressor::new(&HEADER[..]).map_err(|_| DecodeError)?;
        let (chunk, rest) = file.chunk_decompressor::<T, _>(data).map_err(|_| DecodeError)?;
        let mut page = chunk.page_decompressor_with_scratch(rest, count, scratch).map_err(|_| DecodeError)?;
        let mut batch = [T::default(); FULL_BATCH_N];
        let mut left = count;
        while left > 0 {
            let n = page.read(&mut batch).map_err(|_| DecodeError)?.n_processed;
            if n == 0 || n > left {
                return Err(DecodeError);
            }
            each(&mut batch[..n]);
            left -= n;
        }
        if page.into_src().is_empty() { Ok(()) } else { Err(DecodeError) }
    })
}

#[cfg(test)]
#[test]
fn header_is_the_crates() {
    let mut header = Vec::new();
    FileCompressor::default().write_header(&mut header).unwrap();
    assert_eq!(header, HEADER, "a new version of the format needs a new number");
}
