use std::net::SocketAddr;
use std::time::Duration;

use trefoil_model::value::find;

use super::*;

const NOW_NS: i64 = 1_790_000_000_000_000_000;

fn decoded(json: &str) -> Received {
    decode(json.as_bytes(), &Labels::from_pairs([("job", "gelf")]), 16, NOW_NS)
        .unwrap_or_else(|e| panic!("{json}: {e}"))
}

#[test]
fn fields_become_labels_text_and_attributes() {
    let got = decoded(
        r#"{"version":"1.1","host":"h1","short_message":"down","full_message":"down\n at x","timestamp":1789999999.123456789,
            "level":3,"_user_id":9001,"_ratio":0.5,"_container_name":"api","facility":"f","_x":{"y":[1,{"z":null}]}}"#,
    );
    assert_eq!(got.stream.to_string(), r#"{host="h1", job="gelf", service_name="api"}"#);
    assert_eq!(got.record.text, "down\n at x");
    assert_eq!((got.record.time_ns, got.record.severity_number), (1_789_999_999_123_456_789, 17));
    assert_eq!(got.record.severity_text, "err");
    let attribute = |name: &str| find(&got.record.attributes, name).map(|v| v.to_text());
    assert_eq!(attribute("user_id").as_deref(), Some("9001"));
    assert_eq!(attribute("ratio").as_deref(), Some("0.5"));
    assert_eq!(attribute("x.y").as_deref(), Some(r#"[1,{"z":null}]"#));
    assert_eq!(attribute("detected_level").as_deref(), Some("error"));
    assert_eq!(attribute("facility").as_deref(), Some("f"));
}

#[test]
fn what_senders_leave_out_costs_nothing() {
    let got = decoded(r#" {"message":"m","timestamp":"1789999999.5","level":"6"} "#);
    assert_eq!((got.record.text.as_str(), got.record.time_ns), ("m", 1_789_999_999_500_000_000));
    assert_eq!(got.record.severity_text, "info");
    let got = decoded(r#"{"short_message":"a","full_message":"b","timestamp":"soon","level":9}"#);
    assert_eq!((got.record.text.as_str(), got.record.time_ns, got.record.observed_ns), ("a", 0, NOW_NS));
    assert_eq!(find(&got.record.attributes, "full_message").map(|v| v.to_text()).as_deref(), Some("b"));
    assert_eq!(find(&got.record.attributes, "level").map(|v| v.to_text()).as_deref(), Some("9"));
    let got = decode(b"{\"short_message\":\"a\xff\"}", &Labels::empty(), 16, NOW_NS).unwrap();
    assert_eq!(got.record.text, "a\u{fffd}");
}

#[test]
fn no_message_is_an_error() {
    let deep = format!("{{\"_x\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    for bad in ["", "x", "[]", "{}", r#"{"short_message":""}"#, r#"{"short_message":"a""#, deep.as_str()] {
        assert!(decode(bad.as_bytes(), &Labels::empty(), 64, NOW_NS).is_err(), "{bad:.40}");
    }
}

#[test]
fn compressions_are_told_by_their_first_bytes() {
    for (bytes, want) in [
        (&b"\x1f\x8b\x08"[..], Encoding::Gzip),
        (b"\x78\x9c", Encoding::Deflate),
        (b"\x78\x01", Encoding::Deflate),
        (b"\x28\xb5\x2f\xfd", Encoding::Zstd),
        (b"{\"a\":1}", Encoding::Identity),
        (b"", Encoding::Identity),
    ] {
        assert_eq!(compression(bytes), want, "{bytes:?}");
    }
}

fn sender(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn chunk(id: u8, number: u8, count: u8, piece: &[u8]) -> Chunk<'_> {
    Chunk { id: [id; 8], number, count, piece }
}

const fn options() -> ChunksOptions {
    ChunksOptions { messages_max: 3, bytes_max: 20, message_bytes_max: 12 }
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn chunks_are_read() {
    assert_eq!(Chunk::parse(b"{}"), Ok(None));
    assert_eq!(
        Chunk::parse(b"\x1e\x0f12345678\x01\x02ab"),
        Ok(Some(Chunk { id: *b"12345678", number: 1, count: 2, piece: b"ab" }))
    );
    for bad in [
        &b"\x1e\x0f1234567"[..],
        b"\x1e\x0f12345678\x02\x02a",
        b"\x1e\x0f12345678\x00\x00a",
        b"\x1e\x0f12345678\x00\x81a",
    ] {
        assert_eq!(Chunk::parse(bad), Err(ChunkError::Malformed), "{bad:?}");
    }
}

#[test]
fn chunks_come_in_any_order_and_twice() {
    let mut chunks = Chunks::new(options());
    assert_eq!(chunks.add(sender(1), chunk(1, 1, 2, b"b"), at(0)), Ok(None));
    assert_eq!(chunks.add(sender(1), chunk(1, 1, 2, b"b"), at(0)), Ok(None));
    // The same id from another sender is another message, and a count that changed is none.
    assert_eq!(chunks.add(sender(2), chunk(1, 0, 2, b"x"), at(1)), Ok(None));
    assert_eq!(chunks.add(sender(1), chunk(1, 0, 3, b"x"), at(1)), Err(ChunkError::Malformed));
    assert_eq!(chunks.add(sender(1), chunk(1, 0, 2, b"a"), at(2)), Ok(Some(b"ab".to_vec())));
    assert_eq!((chunks.len(), chunks.take_given_up()), (1, 0));
    chunks.expire(at(6));
    assert_eq!((chunks.len(), chunks.take_given_up(), chunks.bytes), (0, 1, 0));
}

#[test]
fn floods_of_chunks_are_bounded() {
    let mut chunks = Chunks::new(options());
    for i in 0..200 {
        assert_eq!(chunks.add(sender(i), chunk(1, 0, 128, b"0123456789"), at(0)), Ok(None));
        assert!(chunks.len() <= 3 && chunks.bytes <= 20 && chunks.order.len() <= 100, "{i}");
    }
    assert_eq!(chunks.take_given_up(), 198);
    assert_eq!(chunks.add(sender(199), chunk(1, 1, 128, b"0123456789"), at(0)), Err(ChunkError::TooLarge));
    assert_eq!(chunks.len(), 1);
}
