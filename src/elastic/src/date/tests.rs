use super::*;

const NOW: i64 = 1_700_000_000_000;

fn read(text: &str, up: bool) -> Option<String> {
    let (format, zone) = (Format::default(), TimeZone::UTC);
    Reader { now_ms: NOW, format: &format, zone: &zone }.read(text, up).ok().map(print_time)
}

#[track_caller]
fn check(text: &str, down: &str, up: &str) {
    assert_eq!(read(text, false).as_deref(), Some(down), "{text}");
    assert_eq!(read(text, true).as_deref(), Some(up), "{text} up");
}

#[test]
fn dates_are_read_down_and_up() {
    check("now", "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.000Z");
    check("now-1h/d", "2023-11-14T00:00:00.000Z", "2023-11-14T23:59:59.999999999Z");
    check("now/M", "2023-11-01T00:00:00.000Z", "2023-11-30T23:59:59.999999999Z");
    check("now/w", "2023-11-13T00:00:00.000Z", "2023-11-19T23:59:59.999999999Z");
    check("now+1d-30m", "2023-11-15T21:43:20.000Z", "2023-11-15T21:43:20.000Z");
    check("2023-11", "2023-11-01T00:00:00.000Z", "2023-11-30T23:59:59.999999999Z");
    check("2023", "2023-01-01T00:00:00.000Z", "2023-12-31T23:59:59.999999999Z");
    check("2023-11-14T10:00:00+02:00", "2023-11-14T08:00:00.000Z", "2023-11-14T08:00:00.999999999Z");
    check("2023-11-14T10:00:00.123Z", "2023-11-14T10:00:00.123Z", "2023-11-14T10:00:00.123999999Z");
    check("2023-11-14T10:00:00.1234567Z", "2023-11-14T10:00:00.123456700Z", "2023-11-14T10:00:00.123456700Z");
    check("2023-11-14||+1M/d", "2023-12-14T00:00:00.000Z", "2023-12-14T23:59:59.999999999Z");
    check("1700000000000", "2023-11-14T22:13:20.000Z", "2023-11-14T22:13:20.000999999Z");
    for bad in ["", "yesterday", "now-1", "now-1q", "now*1d", "2023-13-01", "now/2d", "now-99999999999999999999y"] {
        assert_eq!(read(bad, false), None, "{bad}");
    }
}

#[test]
fn formats_print_and_read() {
    let berlin = zone("Europe/Berlin").unwrap();
    for (format, want) in [
        ("epoch_millis", "1700000000123"),
        ("epoch_second", "1700000000"),
        ("strict_date_optional_time", "2023-11-14T23:13:20.123+01:00"),
        ("yyyy-MM-dd HH:mm:ss", "2023-11-14 23:13:20"),
        ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2023-11-14T23:13:20.123+01:00"),
        ("EEE, d MMM yy h:mm a", "Tue, 14 Nov 23 11:13 PM"),
        ("basic_date", "20231114"),
    ] {
        let format = Format::parse(format).unwrap();
        assert_eq!(format.print(1_700_000_000_123, &berlin), want);
        let back = format.read(want, &berlin, false).unwrap();
        assert_eq!(format.print_ns(back, &berlin), want);
    }
    assert!(Format::parse("yyyy-bb").is_err() && Format::parse("").is_err() && zone("Mars/Base").is_err());
    assert!(zone("+05:30").is_ok() && zone("-5").is_ok() && zone("+").is_err() && zone("+99").is_err());
}

#[test]
fn keys_stand_on_the_interval() {
    let rounding = |interval, offset_ms, name: &str| Rounding { interval, offset_ms, zone: zone(name).unwrap() };
    let show = |ms: i64| print_time(ms_to_ns(ms));
    let six = rounding(Interval::fixed("6h").unwrap(), 0, "UTC");
    assert_eq!(show(six.floor(NOW)), "2023-11-14T18:00:00.000Z");
    assert_eq!(show(six.next(six.floor(NOW))), "2023-11-15T00:00:00.000Z");
    let moved = rounding(Interval::fixed("1d").unwrap(), 3_600_000, "UTC");
    assert_eq!(show(moved.floor(NOW)), "2023-11-14T01:00:00.000Z");
    let local = rounding(Interval::fixed("1d").unwrap(), 0, "+02:00");
    assert_eq!(show(local.floor(NOW)), "2023-11-14T22:00:00.000Z");
    let month = rounding(Interval::calendar("1M").unwrap(), 0, "Europe/Berlin");
    let key = month.floor(NOW);
    assert_eq!(show(key), "2023-10-31T23:00:00.000Z");
    assert_eq!(show(month.next(key)), "2023-11-30T23:00:00.000Z");
    // A day of 25 hours.
    let day = rounding(Interval::calendar("day").unwrap(), 0, "Europe/Berlin");
    let key = day.floor(1_698_530_400_000);
    assert_eq!(
        (show(key), show(day.next(key))),
        ("2023-10-28T22:00:00.000Z".into(), "2023-10-29T23:00:00.000Z".into())
    );
    assert!(Interval::fixed("0s").is_err() && Interval::fixed("1M").is_err() && Interval::calendar("2d").is_err());
    assert_eq!((duration_ms("-1h"), duration_ms("1.5s"), duration_ms("x")), (Some(-3_600_000), Some(1500), None));
}
