//! What comes by a socket is anything: no decoder panics, and none makes more of it than it is.

use proptest::collection::vec;
use proptest::prelude::*;
use trefoil_ingest::forward::msgpack::{Reader, Scanner};
use trefoil_ingest::forward::{self, ForwardOptions};
use trefoil_ingest::gelf::{self, Chunk, Chunks, ChunksOptions};
use trefoil_ingest::syslog::frames::Frames;
use trefoil_ingest::syslog::{self, Format, SyslogOptions};
use trefoil_model::Labels;
use trefoil_runtime::{Accountant, Limits};

const NOW_NS: i64 = 1_795_262_400_000_000_000;

/// Pieces of messages, so that random ones get far.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "<13>",
        "<191>",
        "1 ",
        "- ",
        "2026-11-21T12:00:00Z ",
        "Nov 21 12:00:00 ",
        "Feb 29 23:59:60 ",
        "host ",
        "tag[1]: ",
        "[a@1 b=\"c\\\"\"]",
        "\u{feff}",
        "%ASA-6-1: ",
        "42: ",
        "*",
        "=\"",
        "]",
        "\n",
        "\0",
        " ",
        "7 <1>abcde",
        "é",
    ];
    prop_oneof![proptest::sample::select(known.to_vec()).prop_map(|t| t.as_bytes().to_vec()), vec(any::<u8>(), 0..6),]
}

proptest! {
    #[test]
    fn syslog_messages(pieces in vec(piece(), 0..12), zone in -11i8..12) {
        let message = pieces.concat();
        let timezone = jiff::tz::TimeZone::fixed(jiff::tz::offset(zone));
        for format in [Format::Auto, Format::Rfc5424, Format::Rfc3164] {
            let options = SyslogOptions { format, timezone: timezone.clone(), labels: Labels::empty() };
            let got = syslog::decode(&message, message.len(), None, &options, &Limits::default(), NOW_NS);
            // Never more than three bytes for one that is no UTF-8.
            prop_assert!(got.record.text.len() <= 3 * message.len());
        }
    }

    /// A stream gives the same messages however it is cut.
    #[test]
    fn syslog_streams(pieces in vec(piece(), 0..20), step in 1usize..9) {
        let stream = pieces.concat();
        let read = |step: usize| {
            let (mut frames, mut got) = (Frames::new(16), Vec::new());
            let mut keep = |message: &[u8], full: usize| got.push((message.to_vec(), full));
            for piece in stream.chunks(step) {
                frames.push(piece, &mut keep);
            }
            let ended = frames.finish(&mut keep);
            (got, ended)
        };
        let whole = read(stream.len().max(1));
        prop_assert!(whole.0.iter().all(|(m, full)| m.len() <= 16 && m.len() <= *full));
        prop_assert!(whole.0.iter().map(|(_, full)| full).sum::<usize>() <= stream.len());
        prop_assert_eq!(read(step), whole);
    }

    #[test]
    fn msgpack(bytes in vec(prop_oneof![any::<u8>(), 0x80u8..0xa3, 0xc0u8..=0xdf], 0..64)) {
        let (limits, accountant) = (Limits::default(), Accountant::new(1 << 30));
        // Not scanned: an error perhaps, no panic.
        drop(Reader::new(&bytes).value());
        if let Ok(Some(scanned)) = Scanner::new(16, 1000).scan(&bytes) {
            let message = &bytes[..scanned.bytes];
            prop_assert!(Reader::new(message).value().is_ok());
            let labels = Labels::empty();
            let options = ForwardOptions { labels: &labels, limits: &limits, accountant: &accountant, now_ns: NOW_NS };
            drop(forward::decode(message, scanned.objects, options));
        }
    }

    #[test]
    fn gelf_messages(text in "[{}\\[\\]\":,a-f0-9 _]{0,40}", pieces in vec(any::<u8>(), 0..40)) {
        drop(gelf::decode(text.as_bytes(), &Labels::empty(), 8, NOW_NS));
        drop(gelf::decode(&pieces, &Labels::empty(), 8, NOW_NS));
        gelf::compression(&pieces);
        let options = ChunksOptions { messages_max: 2, bytes_max: 50, message_bytes_max: 40 };
        let mut chunks = Chunks::new(options);
        for (i, at) in pieces.iter().enumerate() {
            let mut datagram = b"\x1e\x0f0000000".to_vec();
            datagram.extend([at % 3, at % 5, at % 7]);
            datagram.extend(&pieces[..i]);
            if let Ok(Some(chunk)) = Chunk::parse(&datagram) {
                drop(chunks.add(([127, 0, 0, 1], 1).into(), chunk, std::time::Duration::from_secs(u64::from(*at))));
            }
            prop_assert!(chunks.len() <= 2);
        }
    }
}
