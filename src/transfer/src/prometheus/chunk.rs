//! Chunks: the samples of one series over an hour or two. Here the floats; histograms are next door.

use std::sync::Arc;

use trefoil_model::{FloatHistogram, STALE_NAN};

use super::histogram_chunk;
use crate::bits::{BitReader, XorValue};
use crate::cursor::{Cursor, Malformed};

/// How a chunk is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Floats.
    Xor,
    /// Integer native histograms.
    Histogram,
    /// Float native histograms.
    FloatHistogram,
    /// Floats with joint control bits and optional start timestamps.
    Xor2,
    /// Integer native histograms with start timestamps.
    HistogramStart,
    /// Float native histograms with start timestamps.
    FloatHistogramStart,
}

impl Encoding {
    /// The encoding of a number on disk.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramStart,
            6 => Self::FloatHistogramStart,
            _ => return None,
        })
    }

    /// Its number on disk and in messages.
    pub fn byte(self) -> u8 {
        match self {
            Self::Xor => 1,
            Self::Histogram => 2,
            Self::FloatHistogram => 3,
            Self::Xor2 => 4,
            Self::HistogramStart => 5,
            Self::FloatHistogramStart => 6,
        }
    }
}

/// A sample's value.
#[derive(Debug, Clone)]
pub enum Value {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// Takes time, start timestamp (0: none) and value of each sample.
pub type EachSample<'a> = dyn FnMut(i64, i64, Value) + 'a;

/// Reads all samples of a chunk. What came before an error was handed out.
pub(crate) fn decode(encoding: Encoding, data: &[u8], each: &mut EachSample<'_>) -> Result<(), Malformed> {
    match encoding {
        Encoding::Xor => decode_xor(data, each),
        Encoding::Xor2 => decode_xor2(data, each),
        Encoding::Histogram => histogram_chunk::decode_integers(data, false, each),
        Encoding::HistogramStart => histogram_chunk::decode_integers(data, true, each),
        Encoding::FloatHistogram => histogram_chunk::decode_floats(data, false, each),
        Encoding::FloatHistogramStart => histogram_chunk::decode_floats(data, true, each),
    }
}

fn decode_xor(data: &[u8], each: &mut EachSample<'_>) -> Result<(), Malformed> {
    let mut head = Cursor::new(data);
    let count = head.be16()?;
    let mut from = BitReader::new(head.rest());
    let (mut t, mut delta) = (0i64, 0i64);
    let mut value = XorValue::default();
    for i in 0..count {
        match i {
            0 => {
                t = from.varint()?;
                value = XorValue::new(from.float()?);
            }
            1 => {
                delta = from.uvarint()? as i64;
                t = t.wrapping_add(delta);
                value.read(&mut from)?;
            }
            _ => {
                let change = match from.ones(4)? {
                    0 => 0,
                    1 => from.shifted(14)?,
                    2 => from.shifted(17)?,
                    3 => from.shifted(20)?,
                    _ => from.bits(64)? as i64,
                };
                delta = delta.wrapping_add(change);
                t = t.wrapping_add(delta);
                value.read(&mut from)?;
            }
        }
        each(t, 0, Value::Float(value.value()));
    }
    Ok(())
}

/// Start timestamps that follow samples: whether the first has one, and the index from which on all others have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starts {
    first_known: bool,
    changed_on: u16,
    difference: i64,
    start: i64,
}

impl Starts {
    pub(crate) fn new(header: u8) -> Self {
        Self { first_known: header & 0x80 != 0, changed_on: u16::from(header & 0x7f), difference: 0, start: 0 }
    }

    /// Reads what follows sample `index`, whose time is `t` and that of the one before `before`.
    pub(crate) fn read(&mut self, from: &mut BitReader<'_>, index: u16, t: i64, before: i64) -> Result<i64, Malformed> {
        if index == 0 {
            if self.first_known {
                self.difference = from.varint()?;
                self.start = t.wrapping_sub(self.difference);
            }
        } else if self.changed_on > 0 && index >= self.changed_on {
            let change = from.varbit_int()?;
            self.difference = if index == self.changed_on { change } else { self.difference.wrapping_add(change) };
            self.start = before.wrapping_sub(self.difference);
        }
        Ok(self.start)
    }
}

/// `<varbit_xor2>`; the value, which is not the base of the next one when it is a stale marker.
fn read_xor2_value(from: &mut BitReader<'_>, base: &mut XorValue) -> Result<f64, Malformed> {
    match from.ones(3)? {
        0 => {}
        1 => base.read_same_window(from)?,
        2 => base.read_new_window(from)?,
        _ => return Ok(STALE_NAN),
    }
    Ok(base.value())
}

fn decode_xor2(data: &[u8], each: &mut EachSample<'_>) -> Result<(), Malformed> {
    let mut head = Cursor::new(data);
    let count = head.be16()?;
    let mut starts = Starts::new(head.u8()?);
    let mut from = BitReader::new(head.rest());
    let (mut t, mut delta) = (0i64, 0i64);
    let mut base = XorValue::default();
    for i in 0..count {
        let before = t;
        let value = match i {
            0 => {
                t = from.varint()?;
                let first = from.float()?;
                if !trefoil_model::is_stale_nan(first) {
                    base = XorValue::new(first);
                }
                first
            }
            1 => {
                delta = from.uvarint()? as i64;
                t = t.wrapping_add(delta);
                read_xor2_value(&mut from, &mut base)?
            }
            _ => {
                let control = from.ones(5)?;
                let width = match control {
                    2 => 13,
                    3 => 20,
                    4 => 64,
                    _ => 0,
                };
                if width > 0 {
                    let bits = from.bits(width)?;
                    // Here the range is the usual one of two's complement.
                    let unused = 64 - width;
                    delta = delta.wrapping_add((bits << unused) as i64 >> unused);
                }
                t = t.wrapping_add(delta);
                match control {
                    0 => base.value(),
                    1 => {
                        if from.bit()? {
                            base.read_new_window(&mut from)?;
                        } else {
                            base.read_same_window(&mut from)?;
                        }
                        base.value()
                    }
                    5 => STALE_NAN,
                    _ => read_xor2_value(&mut from, &mut base)?,
                }
            }
        };
        let start = starts.read(&mut from, i, t, before)?;
        each(t, start, Value::Float(value));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
