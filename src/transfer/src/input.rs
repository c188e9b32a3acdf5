//! Files to import from, as they come: plain or in gzip.

use std::io::{self, BufRead, BufReader};

use flate2::bufread::MultiGzDecoder;

/// What a gzip stream begins with (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Unpacked bytes that are held.
const BUFFER_BYTES: usize = 1 << 20;

/// A reader of the plain bytes: what begins as gzip is unpacked while it is read, all else comes as it is.
pub fn unpacked<'a>(mut from: Box<dyn BufRead + 'a>) -> io::Result<Box<dyn BufRead + 'a>> {
    if !from.fill_buf()?.starts_with(&GZIP_MAGIC) {
        return Ok(from);
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(from))))
}
