//! Small durable files: a first line with name, version, checksum and length, then a body.

use std::ops::RangeInclusive;

/// Why a file is not what its first line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// What is wrong.
    Damaged(&'static str),
    /// It is of a version that this build does not read.
    Version(u32),
}

/// Puts the first line before a body.
pub(crate) fn encode(magic: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{magic} {version} {:08x} {}\n", crc32c::crc32c(body), body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Returns version and body, when all is as the first line says.
pub(crate) fn decode<'a>(
    magic: &str,
    versions: RangeInclusive<u32>,
    bytes: &'a [u8],
) -> Result<(u32, &'a [u8]), Fault> {
    let damaged = Fault::Damaged;
    let end = bytes.iter().take(128).position(|byte| *byte == b'\n').ok_or(damaged("no header line"))?;
    let (header, body) = (&bytes[..end], &bytes[end + 1..]);
    let header = std::str::from_utf8(header).map_err(|_| damaged("header is not text"))?;
    let words: Vec<&str> = header.split(' ').collect();
    let [word, version, checksum, len] = words[..] else { return Err(damaged("header has not four words")) };
    if word != magic {
        return Err(damaged("wrong first word"));
    }
    let version: u32 = version.parse().map_err(|_| damaged("version is not a number"))?;
    if !versions.contains(&version) {
        return Err(Fault::Version(version));
    }
    if len != body.len().to_string() {
        return Err(damaged("wrong length"));
    }
    if checksum != format!("{:08x}", crc32c::crc32c(body)) {
        return Err(damaged("checksum mismatch"));
    }
    Ok((version, body))
}
