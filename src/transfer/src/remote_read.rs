//! Remote read as a client: the request, and what comes back as a stream of chunks
//! (<https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>). Floats come back bit for bit; start
//! timestamps have no place in it.

use prost::Message;
use trefoil_model::{Labels, StoreError, TimeRange};

use crate::cursor::{Cursor, Malformed};
use crate::prometheus::chunk::{EachSample, Encoding, decode};
use crate::prompb::{ChunkedReadResponse, LabelMatcher, Query, ReadRequest, STREAMED_XOR_CHUNKS};

/// Content type of an answer in chunks, up to its parameters.
pub const STREAMED: &str = "application/x-streamed-protobuf";
/// Longest frame that is read.
const FRAME_BYTES_MAX: u64 = 64 << 20;

/// The body of a request, to be sent as `application/x-protobuf` in snappy: the samples of the series that have these
/// labels, and maybe others, in a half-open range.
pub fn request(labels: &Labels, range: TimeRange) -> Result<Vec<u8>, StoreError> {
    let matcher =
        |(name, value): (&str, &str)| LabelMatcher { r#type: 0, name: name.to_owned(), value: value.to_owned() };
    let query = Query {
        start_timestamp_ms: range.start_ms,
        end_timestamp_ms: range.end_ms.saturating_sub(1),
        matchers: labels.iter().map(matcher).collect(),
    };
    let request = ReadRequest { queries: vec![query], accepted_response_types: vec![STREAMED_XOR_CHUNKS] };
    let compressed = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec());
    compressed.map_err(|error| StoreError::Unsupported(format!("remote read request: {error}")))
}

/// Reads an answer: `series` says for the labels of each series whether it is wanted, then its samples go to `each`, in
/// order of time. What came before an error was handed out.
pub fn read(body: &[u8], series: &mut dyn FnMut(&Labels) -> bool, each: &mut EachSample<'_>) -> Result<(), StoreError> {
    read_frames(body, series, each)
        .map_err(|Malformed(what)| StoreError::Corrupt(format!("the server's answer to a remote read {what}")))
}

fn read_frames(
    body: &[u8],
    series: &mut dyn FnMut(&Labels) -> bool,
    each: &mut EachSample<'_>,
) -> Result<(), Malformed> {
    let mut from = Cursor::new(body);
    while !from.is_empty() {
        let len = from.uvarint()?;
        if len > FRAME_BYTES_MAX {
            return Err(Malformed("has a frame that is too long"));
        }
        let checksum = from.be32()?;
        let message = from.bytes(len as usize)?;
        if crc32c::crc32c(message) != checksum {
            return Err(Malformed("fails its checksum"));
        }
        let frame =
            ChunkedReadResponse::decode(message).map_err(|_| Malformed("is not the message that it should be"))?;
        for found in frame.chunked_series {
            let labels = Labels::from_pairs(found.labels.into_iter().map(|label| (label.name, label.value)));
            if !series(&labels) {
                continue;
            }
            for chunk in found.chunks {
                let encoding = u8::try_from(chunk.r#type).ok().and_then(Encoding::from_byte);
                decode(encoding.ok_or(Malformed("has a chunk of an unknown encoding"))?, &chunk.data, each)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use trefoil_model::{STALE_NAN, SampleBuffer};

    use super::*;
    use crate::prometheus::chunk::Value;
    use crate::prometheus::chunk_writer::write_chunks;
    use crate::prompb::{Chunk, ChunkedSeries, Label};

    fn labels(job: &str) -> Labels {
        Labels::from_pairs([("__name__", "x"), ("job", job)])
    }

    fn frame(job: &str, buffer: &SampleBuffer) -> Vec<u8> {
        let pair = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        let chunks = write_chunks(buffer)
            .into_iter()
            .map(|chunk| Chunk { r#type: 1, data: chunk.data, ..Chunk::default() })
            .collect();
        let series = ChunkedSeries { labels: labels(job).iter().map(pair).collect(), chunks };
        let message = ChunkedReadResponse { chunked_series: vec![series], query_index: 0 }.encode_to_vec();
        let mut out = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut out);
        out.extend(crc32c::crc32c(&message).to_be_bytes());
        out.extend(message);
        out
    }

    #[test]
    fn every_bit_of_a_float_comes_back_and_damage_is_an_error() {
        let values = [1.5, -0.0, f64::INFINITY, STALE_NAN, f64::from_bits(0x7ff8_0000_dead_beef)];
        let mut buffer = SampleBuffer::default();
        (0..300).for_each(|i: i64| buffer.push_float(i * 15_000, 0, values[i as usize % values.len()]));
        let body = [frame("other", &buffer), frame("wanted", &buffer), frame("wanted", &buffer)].concat();
        let found = |body: &[u8]| {
            let mut found = Vec::new();
            let result = read(body, &mut |series| *series == labels("wanted"), &mut |t, _, value| {
                if let Value::Float(value) = value {
                    found.push((t, value.to_bits()));
                }
            });
            result.map(|()| found)
        };
        let one: Vec<(i64, u64)> =
            buffer.times.iter().copied().zip(buffer.values.iter().map(|v| v.to_bits())).collect();
        assert_eq!(found(&body).unwrap(), [one.clone(), one].concat());
        for at in (0..body.len()).step_by(7) {
            let mut flipped = body.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(found(&flipped).is_err(), "byte {at}");
        }
        let whole = frame("wanted", &buffer);
        assert!((1..whole.len()).all(|len| found(&whole[..len]).is_err()));
        assert!(found(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_request_names_every_label() {
        let body = request(&labels("a"), TimeRange::new(5, 10)).unwrap();
        let request = ReadRequest::decode(&*snap::raw::Decoder::new().decompress_vec(&body).unwrap()).unwrap();
        assert_eq!(request.accepted_response_types, [1]);
        let query = &request.queries[0];
        assert_eq!((query.start_timestamp_ms, query.end_timestamp_ms, query.matchers.len()), (5, 9, 2));
    }
}
