//! Segments of a write-ahead log: pages of 32 KiB, records cut into fragments.

use std::path::{Path, PathBuf};

use trefoil_runtime::Vfs;

use crate::cursor::{Cursor, Malformed};
use crate::error::{Damage, TransferError};

const PAGE_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// A record inflates to this at most.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Takes a record and says whether it understood it.
pub(crate) type EachRecord<'a> = dyn FnMut(&[u8]) -> Result<Result<(), Malformed>, TransferError> + 'a;

/// The segments of a folder, in order.
pub(crate) fn segments(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<(u64, PathBuf)>, TransferError> {
    if !vfs.exists(dir) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in vfs.read_dir(dir).map_err(TransferError::file(dir))? {
        if let (false, Ok(n)) = (entry.is_dir, entry.name.parse::<u64>()) {
            found.push((n, dir.join(entry.name)));
        }
    }
    found.sort();
    Ok(found)
}

/// Hands out the records of a segment. Behind a broken fragment it goes on with the next page.
pub(crate) fn read_segment(
    vfs: &dyn Vfs,
    path: &Path,
    each: &mut EachRecord<'_>,
    damage: &mut dyn FnMut(Damage),
) -> Result<(), TransferError> {
    let data = vfs.read(path).map_err(TransferError::file(path))?;
    let mut record: Vec<u8> = Vec::new();
    // Where the record that is being put together begins, and how it is compressed.
    let mut open: Option<(usize, u8)> = None;
    let mut tell = |offset: usize, len: usize, reason: &str| {
        damage(Damage { path: path.to_owned(), offset: offset as u64, len: len as u64, reason: reason.to_owned() });
    };
    for (page_at, page) in (0..).step_by(PAGE_BYTES).zip(data.chunks(PAGE_BYTES)) {
        let mut from = Cursor::new(page);
        while let Ok(kind) = from.u8() {
            if kind == 0 {
                break;
            }
            let at = page_at + page.len() - from.rest().len() - 1;
            let fragment = fragment(&mut from);
            let (kind, compression) = (kind & 7, kind & 0x18);
            let body = match fragment {
                Ok(body) => body,
                Err(Malformed(reason)) => {
                    tell(at, page_at + page.len() - at, &format!("fragment {reason}; the rest of its page is skipped"));
                    open = None;
                    break;
                }
            };
            match (kind, open) {
                (1 | 2, _) => {
                    record.clear();
                    open = Some((at, compression));
                }
                (3 | 4, Some(_)) => {}
                // What a broken fragment left over.
                _ => continue,
            }
            record.extend_from_slice(body);
            if let (1 | 4, Some((begin, compression))) = (kind, open.take_if(|_| kind == 1 || kind == 4)) {
                let len = at + HEADER_BYTES + body.len() - begin;
                match inflate(&record, compression) {
                    Ok(plain) => {
                        if let Err(Malformed(reason)) = each(plain.as_deref().unwrap_or(&record))? {
                            tell(begin, len, &format!("record {reason}"));
                        }
                    }
                    Err(Malformed(reason)) => tell(begin, len, &format!("record {reason}")),
                }
            }
        }
    }
    Ok(())
}

fn fragment<'a>(from: &mut Cursor<'a>) -> Result<&'a [u8], Malformed> {
    let len = from.be16()?;
    let crc = from.be32()?;
    let body = from.bytes(usize::from(len))?;
    if crc32c::crc32c(body) == crc { Ok(body) } else { Err(Malformed("fails its checksum")) }
}

/// `None` for a record that is not compressed.
fn inflate(record: &[u8], compression: u8) -> Result<Option<Vec<u8>>, Malformed> {
    const BROKEN: Malformed = Malformed("does not inflate");
    match compression {
        0 => Ok(None),
        8 => {
            let len = snap::raw::decompress_len(record).map_err(|_| BROKEN)?;
            if len > RECORD_BYTES_MAX {
                return Err(Malformed("inflates to too many bytes"));
            }
            snap::raw::Decoder::new().decompress_vec(record).map(Some).map_err(|_| BROKEN)
        }
        16 => {
            use std::io::Read;
            let mut out = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(record).map_err(|_| BROKEN)?;
            decoder.take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut out).map_err(|_| BROKEN)?;
            if out.len() > RECORD_BYTES_MAX { Err(Malformed("inflates to too many bytes")) } else { Ok(Some(out)) }
        }
        _ => Err(Malformed("has an unknown compression")),
    }
}
