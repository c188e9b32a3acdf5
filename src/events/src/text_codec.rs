//! Lines as they are kept in a block: ids in hexadecimal and the record's own time leave marks behind, so that the
//! rest compresses well and is quick to decompress.
//!
//! The marks are bytes that UTF-8 never has. What stands in their place comes from a list of id bytes, or from the
//! record's time.

use crate::tokens::Run;
use crate::wire::Malformed;

/// 32 lower-case hexadecimal digits, that is 16 bytes.
const LONG_ID: u8 = 0xff;
/// 16 lower-case hexadecimal digits, that is 8 bytes.
const SHORT_ID: u8 = 0xfe;
/// A UUID in lower case, that is 16 bytes.
const UUID: u8 = 0xfd;
/// The record's time as `2026-01-10T00:00:00.123Z`.
const TIME: u8 = 0xfc;
const UUID_LEN: usize = 36;
const TIME_LEN: usize = 24;
const MS_PER_DAY: i64 = 86_400_000;

/// Writes lines.
#[derive(Debug, Default)]
pub(crate) struct TextWriter {
    /// Lines with marks.
    pub(crate) texts: Vec<u8>,
    /// Bytes of ids.
    pub(crate) ids: Vec<u8>,
    clock: Clock,
}

impl TextWriter {
    /// Adds a line; `runs` are its runs of token bytes in order. Returns where its ids begin.
    pub(crate) fn add(&mut self, text: &str, time_ns: i64, runs: &[Run]) -> usize {
        let (bytes, ids_start) = (text.as_bytes(), self.ids.len());
        let mut copied = 0;
        for run in runs {
            let (start, end) = (run.start as usize, run.end as usize);
            if start < copied {
                continue;
            }
            let (mark, len) = match end - start {
                32 if self.take_hex(&bytes[start..end]) => (LONG_ID, 32),
                16 if self.take_hex(&bytes[start..end]) => (SHORT_ID, 16),
                8 if self.take_uuid(&bytes[start..]) => (UUID, UUID_LEN),
                4 if self.clock.stands_at(&bytes[start..], time_ns) => (TIME, TIME_LEN),
                _ => continue,
            };
            self.texts.extend_from_slice(&bytes[copied..start]);
            self.texts.push(mark);
            copied = start + len;
        }
        self.texts.extend_from_slice(&bytes[copied..]);
        ids_start
    }

    fn take_hex(&mut self, digits: &[u8]) -> bool {
        let before = self.ids.len();
        for pair in digits.chunks_exact(2) {
            let (high, low) = (HEX_VALUE[pair[0] as usize], HEX_VALUE[pair[1] as usize]);
            if (high | low) > 15 {
                self.ids.truncate(before);
                return false;
            }
            self.ids.push(high << 4 | low);
        }
        true
    }

    fn take_uuid(&mut self, text: &[u8]) -> bool {
        let Some(text) = text.get(..UUID_LEN) else { return false };
        if [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
            return false;
        }
        let before = self.ids.len();
        let whole =
            [(0, 8), (9, 13), (14, 18), (19, 23), (24, 36)].iter().all(|(from, to)| self.take_hex(&text[*from..*to]));
        if !whole {
            self.ids.truncate(before);
        }
        whole
    }
}

/// Writes times, remembering the last.
#[derive(Debug, Default)]
struct Clock {
    day: Option<i64>,
    /// `2026-01-10T` of `day`.
    date: String,
    text: Vec<u8>,
}

impl Clock {
    fn stands_at(&mut self, text: &[u8], time_ns: i64) -> bool {
        let Some(found) = text.get(..TIME_LEN) else { return false };
        if found[4] != b'-' || found[10] != b'T' || found[23] != b'Z' {
            return false;
        }
        self.text.clear();
        let mut written = std::mem::take(&mut self.text);
        self.write(time_ns, &mut written);
        let same = written == found;
        self.text = written;
        same
    }

    fn write(&mut self, time_ns: i64, out: &mut Vec<u8>) {
        let ms = time_ns.div_euclid(1_000_000);
        let (day, of_day) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
        if self.day != Some(day) {
            let (year, month, date) = civil(day);
            self.date = format!("{year:04}-{month:02}-{date:02}T");
            self.day = Some(day);
        }
        out.extend_from_slice(self.date.as_bytes());
        let digits = |n: i64, place: i64| b'0' + (n / place % 10) as u8;
        let (hour, minute, second, milli) =
            (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
        out.extend_from_slice(&[
            digits(hour, 10),
            digits(hour, 1),
            b':',
            digits(minute, 10),
            digits(minute, 1),
            b':',
            digits(second, 10),
            digits(second, 1),
            b'.',
            digits(milli, 100),
            digits(milli, 10),
            digits(milli, 1),
            b'Z',
        ]);
    }
}

/// Year, month and day of a day since 1970 (days are counted in eras of 400 years that begin in March).
fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, date)
}

/// The lines of a block.
#[derive(Debug)]
pub(crate) struct Texts {
    /// One behind the other.
    text: String,
    /// Ends of the lines within.
    pub(crate) ends: Vec<u32>,
    /// Where the ids of each line begin.
    pub(crate) id_starts: Vec<u32>,
}

impl Texts {
    /// All lines, one behind the other.
    pub(crate) fn all(&self) -> &str {
        &self.text
    }

    /// Where a line begins.
    pub(crate) fn start(&self, row: usize) -> usize {
        match row.checked_sub(1) {
            Some(before) => self.ends[before] as usize,
            None => 0,
        }
    }

    /// A line.
    pub(crate) fn get(&self, row: usize) -> &str {
        &self.text[self.start(row)..self.ends[row] as usize]
    }

    /// Puts ids and times back into what a [`TextWriter`] wrote. `lengths` are those of the lines.
    pub(crate) fn read(marked: &[u8], ids: &[u8], times: &[i64], lengths: &[u64]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("texts");
        let total = lengths.iter().try_fold(0u64, |sum, len| sum.checked_add(*len)).ok_or(BAD)?;
        // A mark stands for at most 36 bytes.
        if total > u64::from(u32::MAX) || total > (marked.len() as u64).saturating_mul(UUID_LEN as u64) {
            return Err(BAD);
        }
        let mut out: Vec<u8> = Vec::with_capacity(usize::try_from(total).map_err(|_| BAD)?);
        let mut ends = Vec::with_capacity(lengths.len());
        let mut id_starts = Vec::with_capacity(lengths.len());
        let (mut at, mut id, mut clock) = (0usize, 0usize, Clock::default());
        let mut end = 0usize;
        for (len, time) in lengths.iter().zip(times) {
            end += usize::try_from(*len).map_err(|_| BAD)?;
            id_starts.push(u32::try_from(id).map_err(|_| BAD)?);
            while out.len() < end {
                let rest = &marked[at..];
                let plain = next_mark(&rest[..rest.len().min(end - out.len())]);
                out.extend_from_slice(&rest[..plain]);
                at += plain;
                if out.len() == end {
                    break;
                }
                let mark = *marked.get(at).ok_or(BAD)?;
                at += 1;
                match mark {
                    LONG_ID => id = put_hex(&mut out, ids, id, 16)?,
                    SHORT_ID => id = put_hex(&mut out, ids, id, 8)?,
                    UUID => {
                        for (index, len) in [4, 2, 2, 2, 6].into_iter().enumerate() {
                            if index > 0 {
                                out.push(b'-');
                            }
                            id = put_hex(&mut out, ids, id, len)?;
                        }
                    }
                    TIME => clock.write(*time, &mut out),
                    _ => return Err(BAD),
                }
            }
            if out.len() != end {
                return Err(BAD);
            }
            ends.push(u32::try_from(end).map_err(|_| BAD)?);
        }
        if at != marked.len() {
            return Err(BAD);
        }
        let text = String::from_utf8(out).map_err(|_| BAD)?;
        let mut starts = ends.iter().map(|end| *end as usize);
        if !starts.all(|at| text.is_char_boundary(at)) {
            return Err(BAD);
        }
        Ok(Self { text, ends, id_starts })
    }
}

/// Index of the first mark, or the length.
fn next_mark(bytes: &[u8]) -> usize {
    // The first three are nearly always what is there.
    let first = memchr::memchr3(LONG_ID, SHORT_ID, TIME, bytes).unwrap_or(bytes.len());
    memchr::memchr(UUID, &bytes[..first]).unwrap_or(first)
}

fn put_hex(out: &mut Vec<u8>, ids: &[u8], at: usize, len: usize) -> Result<usize, Malformed> {
    let bytes = ids.get(at..at + len).ok_or(Malformed("ids of texts"))?;
    for byte in bytes {
        out.extend_from_slice(&HEX_DIGITS[*byte as usize]);
    }
    Ok(at + len)
}

const HEX_DIGITS: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    table
};

/// Values of lower-case hexadecimal digits; 255 for what is none.
const HEX_VALUE: [u8; 256] = {
    let mut table = [255; 256];
    let mut i = 0;
    while i < 10 {
        table[b'0' as usize + i] = i as u8;
        i += 1;
    }
    while i < 16 {
        table[b'a' as usize + i - 10] = i as u8;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::token_runs;

    #[test]
    fn lines_come_back() {
        let time = 1_768_003_200_123_456_789;
        let long = "4bf92f3577b34da6a3ce929d0e0e4736";
        let lines = [
            (String::new(), 0),
            ("plain".to_owned(), 0),
            (format!("{long} a {long}ü"), 1),
            (format!("trace={long} span={}", &long[..16]), 2),
            (long.to_uppercase().to_string(), 0),
            ("id 123e4567-e89b-12d3-a456-426614174000 and 123e4567-e89b-12d3-a456-42661417400".to_owned(), 1),
            ("2026-01-10T00:00:00.123Z hello 2026-01-10T00:00:00.124Z".to_owned(), 1),
            ("2026-01-10T00:00:00.123".to_owned(), 0),
            ("é".repeat(20), 0),
        ];
        let mut writer = TextWriter::default();
        let mut lengths = Vec::new();
        for (line, marks) in &lines {
            let before = writer.texts.len();
            writer.add(line, time, &token_runs(line));
            let found = writer.texts[before..].iter().filter(|b| **b >= TIME).count();
            assert_eq!(found, *marks, "{line}");
            lengths.push(line.len() as u64);
        }
        let times = vec![time; lines.len()];
        let texts = Texts::read(&writer.texts, &writer.ids, &times, &lengths).unwrap();
        for (row, (line, _)) in lines.iter().enumerate() {
            assert_eq!(texts.get(row), line);
        }
        assert_eq!(texts.id_starts[3], 16);
        assert!(Texts::read(&writer.texts, &writer.ids[1..], &times, &lengths).is_err());
        assert!(Texts::read(&writer.texts[1..], &writer.ids, &times, &lengths).is_err());
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(20_463), (2026, 1, 10));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(19_782), (2024, 2, 29));
    }
}
