//! Decompression under caps.

use bytes::Bytes;
use http::StatusCode;
use trefoil_ingest::body::{Encoding, check_json_depth, inflate};
use trefoil_ingest::{Answer, IngestError};
use trefoil_runtime::limits::Limits;
use trefoil_runtime::memory::{Accountant, Pool};

use crate::support::{gzip, headers, raw_deflate, snappy, zlib};

type Encode = fn(&[u8]) -> Bytes;

fn encoders() -> Vec<(&'static str, Encoding, Encode)> {
    vec![
        ("gzip", Encoding::Gzip, gzip),
        ("zlib", Encoding::Deflate, zlib),
        ("deflate", Encoding::Deflate, raw_deflate),
        ("zstd", Encoding::Zstd, |b| zstd::encode_all(b, 3).unwrap().into()),
        ("snappy", Encoding::Snappy, snappy),
    ]
}

fn status(encoding: Encoding, body: Bytes, limits: &Limits) -> Result<Bytes, StatusCode> {
    inflate(encoding, body, limits, &Accountant::new(1 << 30)).map(|i| i.bytes).map_err(|e| e.status())
}

#[test]
fn bodies_come_back_whole_and_truncation_is_seen_at_every_length() {
    let text: Vec<u8> = (0..3000u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    for (name, encoding, encode) in encoders() {
        let body = encode(&text);
        assert_eq!(status(encoding, body.clone(), &Limits::default()).unwrap(), text, "{name}");
        for cut in 0..body.len() {
            let got = status(encoding, body.slice(..cut), &Limits::default());
            // An empty zstd or gzip stream is an empty body; nothing else that is cut may pass as whole.
            match got {
                Err(code) => assert_eq!(code, StatusCode::BAD_REQUEST, "{name} cut to {cut}"),
                Ok(bytes) => assert!(bytes.is_empty() && cut == 0, "{name} cut to {cut} gave {} bytes", bytes.len()),
            }
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let text = vec![7u8; 5000];
    for (_, encoding, encode) in encoders() {
        let body = encode(&text);
        for i in 0..body.len() {
            for bit in 0..8 {
                let mut flipped = body.to_vec();
                flipped[i] ^= 1 << bit;
                drop(status(encoding, flipped.into(), &Limits::default()));
            }
        }
    }
}

#[test]
fn bombs_are_refused_while_they_inflate() {
    let zeros = vec![0u8; 100 << 20];
    for (name, encoding, encode) in encoders() {
        let body = encode(&zeros);
        let accountant = Accountant::new(4 << 30);
        let got = inflate(encoding, body, &Limits::default(), &accountant).map(|i| i.bytes.len());
        let code = got.map_err(|e| e.status());
        assert_eq!(code, Err(StatusCode::PAYLOAD_TOO_LARGE), "{name}");
        assert_eq!(accountant.used(Pool::Ingest), 0, "{name}");
    }
    // Two megabytes out of some kilobytes: small, but beyond the ratio.
    let body = gzip(&vec![0u8; 2 << 20]);
    let error = inflate(Encoding::Gzip, body, &Limits::default(), &Accountant::unlimited()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "body inflates to more than 1048576 bytes, which its size and inflate_ratio_max allow"
    );
}

#[test]
fn size_caps_hold_at_the_byte() {
    let limits = Limits { body_inflated_bytes_max: 1000, body_bytes_max: 600, ..Limits::default() };
    for (name, encoding, encode) in encoders() {
        assert!(status(encoding, encode(&[1; 1000]), &limits).is_ok(), "{name}");
        assert_eq!(status(encoding, encode(&[1; 1001]), &limits), Err(StatusCode::PAYLOAD_TOO_LARGE), "{name}");
    }
    assert!(status(Encoding::Identity, vec![1; 1000].into(), &limits).is_ok());
    assert_eq!(status(Encoding::Identity, vec![1; 1001].into(), &limits), Err(StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(status(Encoding::Gzip, vec![1; 601].into(), &limits), Err(StatusCode::PAYLOAD_TOO_LARGE));
}

#[test]
fn a_snappy_body_that_claims_too_much_reserves_nothing() {
    // Declared length 0xffffffff and nothing else.
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]);
    assert_eq!(status(Encoding::Snappy, body, &Limits::default()), Err(StatusCode::PAYLOAD_TOO_LARGE));
    // 60 MiB out of 7 bytes is below the size cap and beyond the ratio.
    let mut body = Vec::new();
    prost::encoding::encode_varint(60 << 20, &mut body);
    body.push(0);
    assert_eq!(status(Encoding::Snappy, body.into(), &Limits::default()), Err(StatusCode::PAYLOAD_TOO_LARGE));
}

#[test]
fn without_memory_the_sender_is_told_to_come_back() {
    let accountant = Accountant::new(8_000_000);
    let _others = accountant.try_reserve(Pool::Ingest, 1_500_000).unwrap();
    let error = inflate(Encoding::Gzip, gzip(&[1; 900_000]), &Limits::default(), &accountant).unwrap_err();
    let answer = Answer::error(&error);
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds));
    assert_eq!(accountant.used(Pool::Ingest), 1_500_000);
    // What could never fit is not told to come back.
    let accountant = Accountant::new(400_000);
    let error = inflate(Encoding::Gzip, gzip(&[1; 900_000]), &Limits::default(), &accountant).unwrap_err();
    assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(accountant.used(Pool::Ingest), 0);
}

#[test]
fn one_encoding_layer() {
    let check = |value: &str| Encoding::from_headers(&headers(&[("content-encoding", value)]));
    assert_eq!(check("gzip").unwrap(), Encoding::Gzip);
    assert_eq!(check("identity, GZIP").unwrap(), Encoding::Gzip);
    assert_eq!(check("").unwrap(), Encoding::Identity);
    assert!(matches!(check("gzip, gzip"), Err(IngestError::Malformed(_))));
    assert!(matches!(check("br"), Err(IngestError::Unsupported(_))));
}

#[test]
fn json_depth() {
    assert!(check_json_depth(br#"[["[[[[",{"a\"[":1}]]"#, 3).is_ok());
    assert!(check_json_depth(br#"[["[[[[",{"a\"[":1}]]"#, 2).is_err());
    assert!(check_json_depth(&vec![b'['; 1_000_000], 64).is_err());
}
