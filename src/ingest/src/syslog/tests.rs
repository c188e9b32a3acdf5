use std::net::{IpAddr, Ipv4Addr};

use trefoil_model::value::find;

use super::frames::{Ended, Frames};
use super::*;

/// 2026-11-21T12:00:00Z
const NOW_NS: i64 = 1_795_262_400_000_000_000;

fn options(format: Format, zone: &str) -> SyslogOptions {
    let timezone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::fixed(jiff::tz::offset(2)) };
    SyslogOptions { format, timezone, labels: Labels::from_pairs([("job", "syslog")]) }
}

fn decoded_at(message: &[u8], options: &SyslogOptions, now_ns: i64) -> Received {
    let sender = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)));
    decode(message, message.len(), sender, options, &Limits::default(), now_ns)
}

/// One line that shows what was read: seconds from now, severity, host, service, other attributes, text.
fn shown(got: &Received) -> String {
    let time = match got.record.time_ns {
        0 => "-".to_owned(),
        t => format!("{}", (t - NOW_NS) as f64 / 1e9),
    };
    let others: Vec<String> = got
        .record
        .attributes
        .iter()
        .filter(|(n, _)| n != "detected_level")
        .map(|(n, v)| format!("{n}={}", v.to_text()))
        .collect();
    let label = |name| got.stream.get(name).unwrap_or("-");
    format!(
        "{time} {} {} {} {{{}}} {:?}",
        got.record.severity_text,
        label("host"),
        label("service_name"),
        others.join(","),
        got.record.text
    )
}

fn check(message: &str, want: &str) {
    let got = decoded_at(message.as_bytes(), &options(Format::Auto, "UTC"), NOW_NS);
    assert_eq!(shown(&got), want, "{message:?}");
}

#[test]
fn rfc5424() {
    check(
        "<34>1 2026-11-21T11:59:59.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
        "-0.997 crit mymachine.example.com su {facility=auth,msg_id=ID47} \"'su root' failed\"",
    );
    check(
        "<165>1 2026-11-21T05:00:00.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time.",
        "0.000003 notice 192.0.2.1 myproc {facility=local4,proc_id=8710} \"%% It's time.\"",
    );
    check(
        r#"<165>1 - - - - - [a@1 x="1" y="q\"\\\]\z"][b][c@2 ip="1" ip="2"] m [x]"#,
        r#"- notice 10.0.0.9 - {facility=local4,a@1.x=1,a@1.y=q"\]\z,b=,c@2.ip=["1","2"]} "m [x]""#,
    );
    check("<13>1 - h a p m -", "- notice h a {facility=user,proc_id=p,msg_id=m} \"\"");
    check("<13>1 - h a p m", "- notice h a {facility=user,proc_id=p,msg_id=m} \"\"");
    check("<13>1 - h a p m [x y=\"1\"]", "- notice h a {facility=user,proc_id=p,msg_id=m,x.y=1} \"\"");
    // What rsyslog makes of `a: m`.
    check("<13>1 - h a - - -  m", "- notice h a {facility=user} \"m\"");
    check("<13>1 - h a - - -    m", "- notice h a {facility=user} \"   m\"");
    // Structured data that is none is text.
    check("<13>1 - h a - - [not sd] m", "- notice h a {facility=user} \"[not sd] m\"");
    check("<13>1 - h a - - hello", "- notice h a {facility=user} \"hello\"");
    check(
        "<13>1 2026-99-21T12:00:00Z h a - - - m",
        "- notice h a {facility=user,timestamp=2026-99-21T12:00:00Z} \"m\"",
    );
    check("<13>1 2026-11-21T12:00:60+00:00 h a - - - m", "59 notice h a {facility=user} \"m\"");
    // A header that is none: whole.
    check("<13>1 - h", "- notice 10.0.0.9 - {facility=user} \"<13>1 - h\"");
}

#[test]
fn rfc3164() {
    let base = "-1 crit mymachine su {facility=auth} \"'su root' failed\"";
    check("<34>Nov 21 11:59:59 mymachine su: 'su root' failed", base);
    check("<34>Nov 21 11:59:59 mymachine su: 'su root' failed\n\0", base);
    check("<34>2026-11-21T11:59:59+00:00 mymachine su: 'su root' failed", base);
    check("<34>2026-11-21T13:59:59.000000+02:00 mymachine su: 'su root' failed", base);
    check("<34>Nov 21 2026 11:59:59 mymachine su: 'su root' failed", base);
    check("<34>Nov 21 11:59:59 2026 mymachine su: 'su root' failed", base);
    check("<38>Nov 21 12:00:00 h sshd[77]: ok", "0 info h sshd {facility=auth,proc_id=77} \"ok\"");
    check("<38>Nov  1 12:00:00 h sshd[77] ok", "-1728000 info h sshd {facility=auth,proc_id=77} \"ok\"");
    check("<13>Nov 21 12:00:00 logger: no host", "0 notice 10.0.0.9 logger {facility=user} \"no host\"");
    check("<13>Nov 21 12:00:00 h just words here", "0 notice h - {facility=user} \"just words here\"");
    check("<13>Nov 21 12:00:00 word", "0 notice 10.0.0.9 - {facility=user} \"word\"");
    check(
        "<13>Nov 21 12:00:00 h postfix/smtpd[1]: a: b",
        "0 notice h postfix/smtpd {facility=user,proc_id=1} \"a: b\"",
    );
    check("<13>tag: no time", "- notice 10.0.0.9 tag {facility=user} \"no time\"");
    check("<13>only words", "- notice 10.0.0.9 - {facility=user} \"only words\"");
    check("<13>", "- notice 10.0.0.9 - {facility=user} \"\"");
    check("<13>5 apples", "- notice 10.0.0.9 - {facility=user} \"5 apples\"");
    check(r#"<13>Nov 21 12:00:00 h {"a": 1}"#, r#"0 notice h - {facility=user} "{\"a\": 1}""#);
    let cef = "CEF:0|Sec|tm|1.0|100|worm stopped|10|src=10.0.0.1";
    check(&format!("<13>Nov 21 12:00:00 h {cef}"), &format!("0 notice h - {{facility=user}} {cef:?}"));
    check("<13>Nov 21 12:00:00 Message forwarded from aix1: su: x", "0 notice aix1 su {facility=user} \"x\"");
    check("<13>Nov 21 12:00:00 fe80::1 su: x", "0 notice fe80::1 su {facility=user} \"x\"");
}

#[test]
fn cisco() {
    let text = "%SYS-5-CONFIG_I: Configured";
    let want = |time: &str, host: &str, more: &str| {
        format!("{time} notice {host} - {{facility=local7{more},msg_id=SYS-5-CONFIG_I}} {text:?}")
    };
    check(&format!("<189>42: Nov 21 11:59:59.125: {text}"), &want("-0.875", "10.0.0.9", ",sequence=42"));
    check(&format!("<189>42: *Nov 21 11:59:59.125 UTC: {text}"), &want("-0.875", "10.0.0.9", ",sequence=42"));
    check(&format!("<189>42: r1: .Nov 21 11:59:59: {text}"), &want("-1", "r1", ",sequence=42"));
    check(&format!("<189>r1: Nov 21 11:59:59: {text}"), &want("-1", "r1", ""));
    check(&format!("<189>42: {text}"), &want("-", "10.0.0.9", ",sequence=42"));
    check(&format!("<189>Nov 21 2026 11:59:59: {text}"), &want("-1", "10.0.0.9", ""));
    check(&format!("<189>Nov 21 2026 11:59:59 asa : {text}"), &want("-1", "asa", ""));
    check(&format!("<189>Nov 21 2026 11:59:59 asa {text}"), &want("-1", "asa", ""));
}

#[test]
fn what_is_neither_is_kept_whole() {
    for text in ["", "plain", "<999>x", "<1x>y", "<", "<>", "13>x", "<192>x", "Nov 21 12:00:00 h a: b", "<+1>x"] {
        check(text, &format!("-  10.0.0.9 - {{}} {text:?}"));
    }
    let got = decoded_at(b"<13>a: \xff\xfe", &options(Format::Auto, "UTC"), NOW_NS);
    assert_eq!(got.record.text, "\u{fffd}\u{fffd}");
    let got = decoded_at(b"<13>Nov 21 12:00:00 h a: b", &options(Format::Rfc5424, "UTC"), NOW_NS);
    assert_eq!(got.record.text, "<13>Nov 21 12:00:00 h a: b");
    let got = decoded_at(b"<13>1 - h a - - - m", &options(Format::Rfc3164, "UTC"), NOW_NS);
    assert_eq!(got.record.text, "1 - h a - - - m");
}

#[test]
fn years_are_the_nearest_and_zones_the_configured_ones() {
    let check = |message: &str, now: &str, zone: &str, want: &str| {
        let now_ns = time::rfc3339(now).unwrap();
        let got = decoded_at(message.as_bytes(), &options(Format::Auto, zone), now_ns);
        assert_eq!(got.record.time_ns, time::rfc3339(want).unwrap(), "{message} at {now}");
    };
    check("<13>Dec 31 23:59:59 h a: b", "2027-01-01T00:00:01Z", "UTC", "2026-12-31T23:59:59Z");
    check("<13>Jan  1 00:00:01 h a: b", "2026-12-31T23:59:59Z", "UTC", "2027-01-01T00:00:01Z");
    check("<13>Feb 29 12:00:00 h a: b", "2028-03-01T00:00:00Z", "UTC", "2028-02-29T12:00:00Z");
    check("<13>Feb 29 12:00:00 h a: b", "2029-01-02T00:00:00Z", "UTC", "2028-02-29T12:00:00Z");
    check("<13>Nov 21 14:00:00 h a: b", "2026-11-21T12:00:01Z", "+02:00", "2026-11-21T12:00:00Z");
    check("<13>2026-11-21T14:00:00 h a: b", "2026-11-21T12:00:01Z", "+02:00", "2026-11-21T12:00:00Z");
    check("<13>Nov 21 14:00:00 UTC: a: b", "2026-11-21T12:00:01Z", "+02:00", "2026-11-21T14:00:00Z");
    check("<13>1 2200-01-01T00:00:00Z h a - - - b", "2026-11-21T12:00:00Z", "UTC", "2200-01-01T00:00:00Z");
}

#[test]
fn configured_labels_go_first_and_levels_are_exact() {
    let mut options = options(Format::Auto, "UTC");
    options.labels = Labels::from_pairs([("service_name", "fw"), ("host", "edge")]);
    let got = decoded_at(b"<8>Nov 21 12:00:00 h a: b", &options, NOW_NS);
    assert_eq!(got.stream.to_string(), r#"{host="edge", service_name="fw"}"#);
    assert_eq!(find(&got.record.attributes, "hostname").map(AttributeValue::to_text).as_deref(), Some("h"));
    assert_eq!(find(&got.record.attributes, "app_name").map(AttributeValue::to_text).as_deref(), Some("a"));
    for (severity, level, number) in [
        (0, "fatal", 21),
        (1, "critical", 19),
        (2, "critical", 18),
        (3, "error", 17),
        (4, "warn", 13),
        (5, "info", 10),
        (6, "info", 9),
        (7, "debug", 5),
    ] {
        let got = decoded_at(format!("<{}>x", 184 + severity).as_bytes(), &options, NOW_NS);
        let found = find(&got.record.attributes, "detected_level").and_then(AttributeValue::as_str);
        assert_eq!((found, got.record.severity_number), (Some(level), number), "{severity}");
    }
}

#[test]
fn a_message_that_was_cut_says_so() {
    let limits = Limits { log_line_cut_bytes: 4, ..Limits::default() };
    let got = decode(b"<13>a: 12345678", 9_000_000, None, &options(Format::Auto, "UTC"), &limits, NOW_NS);
    assert_eq!(got.record.text, "1234");
    assert_eq!(find(&got.record.attributes, CUT_LINE), Some(&AttributeValue::Int(9_000_000)));
}

/// The messages of a stream, read in pieces of every size.
fn frames(stream: &[u8], want: &[(&str, usize)], ended: Ended) {
    for step in (1..=stream.len().max(1)).rev() {
        let mut got = Vec::new();
        let mut frames = Frames::new(16);
        let mut keep = |message: &[u8], full: usize| got.push((String::from_utf8_lossy(message).into_owned(), full));
        for piece in stream.chunks(step) {
            frames.push(piece, &mut keep);
        }
        let end = frames.finish(&mut keep);
        let got: Vec<_> = got.iter().map(|(m, n)| (m.as_str(), *n)).collect();
        assert_eq!((got.as_slice(), end), (want, ended), "{:?} in pieces of {step}", String::from_utf8_lossy(stream));
    }
}

#[test]
fn framing_is_seen_for_each_message() {
    frames(b"", &[], Ended::Whole);
    frames(b"<1>a\n<2>b\0\n<3>c", &[("<1>a", 4), ("<2>b", 4), ("<3>c", 4)], Ended::Whole);
    frames(b"4 <1>a6 <2>b\nc<3>d\n4 <4>e", &[("<1>a", 4), ("<2>b\nc", 6), ("<3>d", 4), ("<4>e", 4)], Ended::Whole);
    frames(b"12 monkeys\n7\n4 <1>a\n", &[("12 monkeys", 10), ("7", 1), ("<1>a", 4)], Ended::Whole);
    frames(b"1 <4 <1>a", &[("<", 1), ("<1>a", 4)], Ended::Whole);
    frames(b"123", &[("123", 3)], Ended::Whole);
    frames(b"9 <1>a", &[], Ended::Incomplete);
    frames(b"19 <1>0123456789abcdefx\n", &[("<1>0123456789abc", 19), ("x", 1)], Ended::Whole);
    frames(b"<1>0123456789abcdef\n<2>b\n", &[("<1>0123456789abc", 19), ("<2>b", 4)], Ended::Whole);
    // A length that cannot be one.
    frames(b"1234567890 <1>a\n", &[("1234567890 <1>a", 15)], Ended::Whole);
    // One that is too short leaves a rest that is a message of its own.
    frames(b"4 <1>abc\n4 <2>d", &[("<1>a", 4), ("bc", 2), ("<2>d", 4)], Ended::Whole);
}
