use std::io::Write;

use trefoil_model::value::find;

use super::msgpack::MsgpackError;
use super::*;

const NOW_NS: i64 = 1_795_262_400_000_000_000;

/// Writes MessagePack for tests.
#[derive(Default)]
struct Pack(Vec<u8>);

impl Pack {
    fn array(mut self, n: u8) -> Self {
        self.0.push(0x90 | n);
        self
    }
    fn map(mut self, n: u8) -> Self {
        self.0.push(0x80 | n);
        self
    }
    fn str(mut self, text: &str) -> Self {
        self.0.push(0xd9);
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self
    }
    fn bin(mut self, bytes: &[u8]) -> Self {
        self.0.push(0xc6);
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
    fn event_time(self, seconds: u32, nanos: u32) -> Self {
        self.raw(&[0xd7, 0]).raw(&seconds.to_be_bytes()).raw(&nanos.to_be_bytes())
    }
    fn entry(self, seconds: u32, line: &str) -> Self {
        self.array(2).event_time(seconds, 7).map(1).str("log").str(line)
    }
}

fn read(message: &[u8]) -> Result<Message, IngestError> {
    let limits = Limits::default();
    let scanned = Scanner::new(64, 1 << 24).scan(message).unwrap().expect("whole");
    assert_eq!(scanned.bytes, message.len());
    let (labels, accountant) = (Labels::from_pairs([("job", "fluent_forward")]), Accountant::new(1 << 30));
    let options = ForwardOptions { labels: &labels, limits: &limits, accountant: &accountant, now_ns: NOW_NS };
    decode(message, scanned.objects, options)
}

fn events(message: Pack) -> Events {
    match read(&message.0) {
        Ok(Message::Events(events)) => events,
        other => panic!("{other:?}"),
    }
}

fn lines(events: &Events) -> Vec<(i64, &str)> {
    events.records.iter().map(|r| (r.record.time_ns, r.record.text.as_str())).collect()
}

const WANT: [(i64, &str); 2] = [(1_795_262_399_000_000_007, "a"), (1_795_262_398_000_000_007, "b")];

#[test]
fn the_four_modes() {
    let option = |pack: Pack| pack.map(1).str("chunk").str("p8n9gmxTQVC8/nh2wlKKeQ==");
    let chunk = Some("p8n9gmxTQVC8/nh2wlKKeQ==".to_owned());
    let two = Pack::default().entry(1_795_262_399, "a\n").entry(1_795_262_398, "b").0;

    let got = events(option(Pack::default().array(4).str("t").event_time(1_795_262_399, 7).map(1).str("log").str("a")));
    assert_eq!((lines(&got), got.chunk.clone()), (WANT[..1].to_vec(), chunk.clone()));
    let got = events(option(Pack::default().array(3).str("t").array(2).raw(&two)));
    assert_eq!((lines(&got), got.chunk.clone()), (WANT.to_vec(), chunk.clone()));
    let got = events(option(Pack::default().array(3).str("t").bin(&two)));
    assert_eq!((lines(&got), got.chunk.clone()), (WANT.to_vec(), chunk));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&two).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(two.as_slice(), 1).unwrap();
    for (name, packed) in [("gzip", gzip), ("zstd", zstd), ("text", two)] {
        let got = events(Pack::default().array(3).str("t").bin(&packed).map(1).str("compressed").str(name));
        assert_eq!((lines(&got), got.chunk.clone(), got.malformed), (WANT.to_vec(), None, 0), "{name}");
        assert_eq!(got.records[0].stream.to_string(), r#"{fluent_tag="t", job="fluent_forward", service_name="t"}"#);
    }
}

#[test]
fn records_become_text_and_typed_attributes() {
    let got = events(
        Pack::default()
            .array(3)
            .str("app.web")
            .raw(&[0xce, 0x6b, 0x01, 0xa2, 0x80])
            .map(5)
            .str("msg")
            .str("second")
            .str("message")
            .str("first")
            .str("n")
            .raw(&[0xd1, 0xff, 0xfe])
            .str("kubernetes")
            .map(2)
            .str("container_name")
            .str("web")
            .str("labels")
            .map(1)
            .str("app")
            .str("shop")
            .str("ok")
            .raw(&[0xc3]),
    );
    let record = &got.records[0].record;
    assert_eq!((record.text.as_str(), record.time_ns), ("first", 0x6b01_a280 * 1_000_000_000));
    let value = |name| find(&record.attributes, name).cloned();
    assert_eq!(value("msg"), Some(AttributeValue::String("second".to_owned())));
    assert_eq!(value("n"), Some(AttributeValue::Int(-2)));
    assert_eq!(value("ok"), Some(AttributeValue::Bool(true)));
    assert_eq!(value("kubernetes.container_name"), Some(AttributeValue::String("web".to_owned())));
    assert_eq!(got.records[0].stream.get("service_name"), Some("shop"));
    assert_eq!(got.records[0].stream.get("fluent_tag"), Some("app.web"));

    let got = events(Pack::default().array(3).str("t").raw(&[0x00]).map(1).str("path").str("/x"));
    let record = &got.records[0].record;
    assert_eq!((record.text.as_str(), record.time_ns, record.observed_ns), (r#"{"path":"/x"}"#, 0, NOW_NS));
    // Fluent Bit's metadata.
    let entry =
        Pack::default().array(2).array(2).event_time(1, 0).map(1).str("k").str("v").map(1).str("log").str("a").0;
    let got = events(Pack::default().array(2).str("t").bin(&entry));
    assert_eq!(find(&got.records[0].record.attributes, "k").map(|v| v.to_text()).as_deref(), Some("v"));
}

#[test]
fn what_is_bad_costs_itself_only() {
    let mixed = Pack::default().entry(1, "a").raw(&[0xc0]).array(1).raw(&[0x01]).entry(2, "b").0;
    let got = events(Pack::default().array(2).str("t").array(4).raw(&mixed));
    assert_eq!((got.records.len(), got.malformed), (2, 2));
    // Entries that are cut short: those before are kept, and the chunk is answered.
    let cut = &mixed[..mixed.len() - 3];
    let got = events(Pack::default().array(3).str("t").bin(cut).map(1).str("chunk").str("c"));
    assert_eq!((got.records.len(), got.malformed, got.chunk.as_deref()), (1, 3, Some("c")));
    let got = events(Pack::default().array(3).str("t").bin(b"\x1f\x8bno").map(1).str("compressed").str("gzip"));
    assert_eq!((got.records.len(), got.malformed), (0, 1));
    for bad in [Pack::default().array(0), Pack::default().str("x"), Pack::default().array(1).str("t")] {
        assert!(matches!(read(&bad.0), Err(IngestError::Malformed(_))), "{:?}", bad.0);
    }
    assert!(matches!(read(&[0xc0]), Ok(Message::Nothing)));
    let ping = Pack::default().array(6).str("PING").str("h").str("s").str("d").str("").str("");
    assert!(matches!(read(&ping.0), Ok(Message::Ping(p)) if p.hostname == b"h" && p.digest == b"d"));
}

#[test]
fn lengths_that_lie_and_depth_are_seen_before_memory_is_taken() {
    let scan = |bytes: &[u8]| Scanner::new(8, 1000).scan(bytes).map(|s| s.map(|s| s.bytes));
    assert_eq!(scan(&[0xc1]), Err(MsgpackError::NeverUsed(0)));
    assert_eq!(scan(&[0xdb, 0xff, 0xff, 0xff, 0xff]), Err(MsgpackError::TooLarge(1000)));
    assert_eq!(scan(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(MsgpackError::TooLarge(1000)));
    assert_eq!(scan(&[0xdf, 0xff, 0xff, 0xff, 0xff]), Err(MsgpackError::TooLarge(1000)));
    assert_eq!(scan(&[0x91; 9]), Err(MsgpackError::TooDeep(8)));
    assert_eq!(scan(&[0x91; 8]), Ok(None));
    assert_eq!(scan(&[0x92, 0xdb, 0, 0, 3, 0xe6]), Err(MsgpackError::TooLarge(1000)));
    assert_eq!(scan(&[0x91, 0x90, 0xc0]), Ok(Some(2)));
    assert!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff]).value().is_err());
}

#[test]
fn a_scanner_goes_on_where_it_was() {
    let whole = Pack::default().array(3).str("t").bin(&[1; 300]).map(1).str("chunk").str("c").0;
    let mut scanner = Scanner::new(8, 1000);
    for end in 0..whole.len() {
        assert_eq!(scanner.scan(&whole[..end]), Ok(None), "{end}");
    }
    assert_eq!(scanner.scan(&whole), Ok(Some(Scanned { bytes: whole.len(), objects: 6 })));
    assert_eq!(scanner.scan(&[0xc0]), Ok(Some(Scanned { bytes: 1, objects: 1 })));
}

#[test]
fn every_kind_of_object_is_read() {
    for (bytes, want) in [
        (&[0x7f][..], Value::Int(127)),
        (&[0xe0], Value::Int(-32)),
        (&[0xa1, b'a'], Value::Str(b"a")),
        (&[0xc4, 1, b'a'], Value::Bin(b"a")),
        (&[0xc5, 0, 1, b'a'], Value::Bin(b"a")),
        (&[0xc7, 1, 5, b'a'], Value::Ext(5, b"a")),
        (&[0xca, 0x3f, 0x80, 0, 0], Value::Float(1.0)),
        (&[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0], Value::Float(1.0)),
        (&[0xcc, 200], Value::Int(200)),
        (&[0xcd, 1, 0], Value::Int(256)),
        (&[0xcf, 255, 255, 255, 255, 255, 255, 255, 255], Value::Uint(u64::MAX)),
        (&[0xd0, 0xff], Value::Int(-1)),
        (&[0xd2, 255, 255, 255, 255], Value::Int(-1)),
        (&[0xd3, 255, 255, 255, 255, 255, 255, 255, 255], Value::Int(-1)),
        (&[0xd4, 1, b'a'], Value::Ext(1, b"a")),
        (&[0xda, 0, 1, b'a'], Value::Str(b"a")),
        (&[0xdc, 0, 1, 0xc0], Value::Array(vec![Value::Nil])),
        (&[0xde, 0, 1, 0xc0, 0xc2], Value::Map(vec![(Value::Nil, Value::Bool(false))])),
    ] {
        assert_eq!(Scanner::new(8, 1000).scan(bytes).unwrap().map(|s| s.bytes), Some(bytes.len()), "{bytes:?}");
        assert_eq!(Reader::new(bytes).value(), Ok(want), "{bytes:?}");
    }
}
