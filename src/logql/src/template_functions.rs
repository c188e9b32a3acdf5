//! The template functions of `line_format` and `label_format`.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::tz::TimeZone;
use trefoil_template::builtins::query_escape;
use trefoil_template::functions::{arity, text};
use trefoil_template::go_time::{self, Time};
use trefoil_template::{FuncMap, Functions, Map, Value};

use crate::json::{self, Kind, Raw};
use crate::units;

/// Longest line or label that a template may make.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// The functions for one line.
pub(crate) struct LineFunctions<'a> {
    pub(crate) line: &'a str,
    pub(crate) time_ns: i64,
}

impl Functions for LineFunctions<'_> {
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        match name {
            "__line__" => Some(Ok(Value::from(self.line))),
            "__timestamp__" => Some(Ok(Time::from_unix_ns(self.time_ns).into_value())),
            _ => FUNCTIONS.call(name, arguments),
        }
    }

    fn has(&self, name: &str) -> bool {
        matches!(name, "__line__" | "__timestamp__") || FUNCTIONS.has(name)
    }
}

static FUNCTIONS: LazyLock<FuncMap> = LazyLock::new(|| {
    let mut map = FuncMap::new();
    texts(&mut map);
    numbers(&mut map);
    times(&mut map);
    map
});

fn texts(map: &mut FuncMap) {
    let one = |map: &mut FuncMap, name: &'static str, f: fn(&str) -> Result<String, String>| {
        map.add(name, move |a| {
            arity(name, a, 1)?;
            f(text(name, a, 0)?).map(Value::from)
        });
    };
    for name in ["ToLower", "lower"] {
        one(map, name, |s| Ok(s.chars().map(lower).collect()));
    }
    for name in ["ToUpper", "upper"] {
        one(map, name, |s| Ok(s.chars().map(upper).collect()));
    }
    for name in ["TrimSpace", "trim"] {
        one(map, name, |s| Ok(s.trim().to_owned()));
    }
    one(map, "title", |s| Ok(trefoil_template::prometheus_funcs::title(s)));
    one(map, "urlencode", |s| Ok(query_escape(s)));
    one(map, "urldecode", url_decode);
    one(map, "b64enc", |s| Ok(BASE64.encode(s)));
    one(map, "b64dec", |s| {
        let bytes = BASE64.decode(s).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    });

    // Go's own order has the text first, sprig's has it last.
    let cut = |map: &mut FuncMap, name: &'static str, text_first: bool, f: fn(&str, &str) -> Value| {
        map.add(name, move |a| {
            arity(name, a, 2)?;
            let (first, second) = (text(name, a, 0)?, text(name, a, 1)?);
            Ok(if text_first { f(first, second) } else { f(second, first) })
        });
    };
    cut(map, "Trim", true, |s, set| Value::from(s.trim_matches(|c| set.contains(c))));
    cut(map, "TrimLeft", true, |s, set| Value::from(s.trim_start_matches(|c| set.contains(c))));
    cut(map, "TrimRight", true, |s, set| Value::from(s.trim_end_matches(|c| set.contains(c))));
    cut(map, "trimAll", false, |s, set| Value::from(s.trim_matches(|c| set.contains(c))));
    for (name, text_first) in [("TrimPrefix", true), ("trimPrefix", false)] {
        cut(map, name, text_first, |s, prefix| Value::from(s.strip_prefix(prefix).unwrap_or(s)));
    }
    for (name, text_first) in [("TrimSuffix", true), ("trimSuffix", false)] {
        cut(map, name, text_first, |s, suffix| Value::from(s.strip_suffix(suffix).unwrap_or(s)));
    }
    cut(map, "contains", false, |s, part| Value::Bool(s.contains(part)));
    cut(map, "hasPrefix", false, |s, part| Value::Bool(s.starts_with(part)));
    cut(map, "hasSuffix", false, |s, part| Value::Bool(s.ends_with(part)));

    map.add("Replace", |a| {
        arity("Replace", a, 4)?;
        let (given, old, new) = (text("Replace", a, 0)?, text("Replace", a, 1)?, text("Replace", a, 2)?);
        let bounded = |out: String| bounded("Replace", out);
        match int("Replace", a, 3)? {
            n if n < 0 => bounded(given.replace(old, new)),
            n => bounded(given.replacen(old, new, usize::try_from(n).unwrap_or(usize::MAX))),
        }
    });
    map.add("replace", |a| {
        arity("replace", a, 3)?;
        bounded("replace", text("replace", a, 2)?.replace(text("replace", a, 0)?, text("replace", a, 1)?))
    });
    map.add("trunc", |a| {
        arity("trunc", a, 2)?;
        let (n, given) = (int("trunc", a, 0)?, text("trunc", a, 1)?);
        let count = given.chars().count();
        let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(Value::from(if n >= 0 {
            given.chars().take(size).collect::<String>()
        } else {
            given.chars().skip(count.saturating_sub(size)).collect()
        }))
    });
    map.add("substr", |a| {
        arity("substr", a, 3)?;
        let (start, end, given) = (int("substr", a, 0)?, int("substr", a, 1)?, text("substr", a, 2)?);
        let start = usize::try_from(start).unwrap_or(0);
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        Ok(Value::from(given.chars().take(end).skip(start).collect::<String>()))
    });
    map.add("repeat", |a| {
        arity("repeat", a, 2)?;
        let (n, given) = (usize::try_from(int("repeat", a, 0)?).unwrap_or(0), text("repeat", a, 1)?);
        if given.len().saturating_mul(n) > OUTPUT_BYTES_MAX {
            return Err(format!("repeat makes more than {OUTPUT_BYTES_MAX} bytes"));
        }
        Ok(Value::from(given.repeat(n)))
    });
    for (name, lead) in [("indent", ""), ("nindent", "\n")] {
        map.add(name, move |a| {
            arity(name, a, 2)?;
            let (n, given) = (usize::try_from(int(name, a, 0)?).unwrap_or(0), text(name, a, 1)?);
            let lines = given.matches('\n').count() + 1;
            if n.saturating_mul(lines) > OUTPUT_BYTES_MAX {
                return Err(format!("{name} makes more than {OUTPUT_BYTES_MAX} bytes"));
            }
            let pad = " ".repeat(n);
            Ok(Value::from(format!("{lead}{pad}{}", given.replace('\n', &format!("\n{pad}")))))
        });
    }
    for (name, left) in [("alignLeft", true), ("alignRight", false)] {
        map.add(name, move |a| {
            arity(name, a, 2)?;
            let (n, given) = (usize::try_from(int(name, a, 0)?).unwrap_or(0), text(name, a, 1)?);
            let length = given.chars().count();
            if n > OUTPUT_BYTES_MAX {
                return Err(format!("{name} makes more than {OUTPUT_BYTES_MAX} bytes"));
            }
            let pad = " ".repeat(n.saturating_sub(length));
            Ok(Value::from(match (left, length > n) {
                (true, true) => given.chars().take(n).collect(),
                (false, true) => given.chars().skip(length - n).collect(),
                (true, false) => format!("{given}{pad}"),
                (false, false) => format!("{pad}{given}"),
            }))
        });
    }
    map.add("regexReplaceAll", |a| {
        arity("regexReplaceAll", a, 3)?;
        let regex = crate::stages::cached_unanchored(text("regexReplaceAll", a, 0)?)?;
        let (given, replacement) = (text("regexReplaceAll", a, 1)?, text("regexReplaceAll", a, 2)?);
        bounded("regexReplaceAll", regex.replace_all(given, replacement).into_owned())
    });
    map.add("regexReplaceAllLiteral", |a| {
        arity("regexReplaceAllLiteral", a, 3)?;
        let regex = crate::stages::cached_unanchored(text("regexReplaceAllLiteral", a, 0)?)?;
        let (given, replacement) = (text("regexReplaceAllLiteral", a, 1)?, text("regexReplaceAllLiteral", a, 2)?);
        bounded("regexReplaceAllLiteral", regex.replace_all_literal(given, replacement).into_owned())
    });
    map.add("count", |a| {
        arity("count", a, 2)?;
        let regex = crate::stages::cached_unanchored(text("count", a, 0)?)?;
        Ok(whole(regex.find_iter(text("count", a, 1)?).count()))
    });
    map.add("default", |a| {
        arity("default", a, 2)?;
        Ok(if a[1].truth() { a[1].clone() } else { a[0].clone() })
    });
    map.add("fromJson", |a| {
        arity("fromJson", a, 1)?;
        let given = text("fromJson", a, 0)?;
        json::value(given).map(|raw| from_json(raw, 0)).map_err(|e| e.to_string())
    });
}

/// Go maps letter by letter: what would become several stays, and the end of a word is not looked at.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    let mut mapped = c.to_lowercase();
    match mapped.len() {
        1 => mapped.next().unwrap_or(c),
        _ if c == '\u{130}' => 'i',
        _ => c,
    }
}

fn numbers(map: &mut FuncMap) {
    let fold = |map: &mut FuncMap, name: &'static str, f: fn(i64, i64) -> Option<i64>| {
        map.add(name, move |a| {
            let mut total = int(name, a, 0)?;
            for i in 1..a.len() {
                total = f(total, int(name, a, i)?).ok_or_else(|| format!("{name}: result out of range"))?;
            }
            Ok(Value::Int(total))
        });
    };
    fold(map, "add", i64::checked_add);
    fold(map, "sub", i64::checked_sub);
    fold(map, "mul", i64::checked_mul);
    fold(map, "div", i64::checked_div);
    fold(map, "mod", i64::checked_rem);
    fold(map, "max", |a, b| Some(a.max(b)));
    fold(map, "min", |a, b| Some(a.min(b)));
    let fold = |map: &mut FuncMap, name: &'static str, f: fn(f64, f64) -> f64| {
        map.add(name, move |a| {
            let mut total = float(name, a, 0)?;
            for i in 1..a.len() {
                total = f(total, float(name, a, i)?);
            }
            Ok(Value::Float(total))
        });
    };
    fold(map, "addf", |a, b| a + b);
    fold(map, "subf", |a, b| a - b);
    fold(map, "mulf", |a, b| a * b);
    fold(map, "divf", |a, b| a / b);
    fold(map, "maxf", f64::max);
    fold(map, "minf", f64::min);
    map.add("ceil", |a| Ok(Value::Float(float("ceil", a, 0)?.ceil())));
    map.add("floor", |a| Ok(Value::Float(float("floor", a, 0)?.floor())));
    map.add("round", |a| {
        let (value, places) = (float("round", a, 0)?, int("round", a, 1)?);
        let on = if a.len() > 2 { float("round", a, 2)? } else { 0.5 };
        let scale = 10f64.powi(i32::try_from(places.clamp(-300, 300)).unwrap_or(0));
        let scaled = value * scale;
        let rounded = if scaled.fract().abs() >= on { scaled.trunc() + scaled.signum() } else { scaled.trunc() };
        Ok(Value::Float(rounded / scale))
    });
    map.add("int", |a| int("int", a, 0).map(Value::Int));
    map.add("float64", |a| float("float64", a, 0).map(Value::Float));
    map.add("bytes", |a| {
        let given = text("bytes", a, 0)?;
        let bytes = units::parse_bytes(given).ok_or_else(|| format!("{given:?} is no size"))?;
        Ok(Value::Float(bytes as f64))
    });
    for name in ["duration", "duration_seconds"] {
        map.add(name, move |a| {
            let given = text(name, a, 0)?;
            let ns = go_time::parse_duration(given).ok_or_else(|| format!("invalid duration {given:?}"))?;
            Ok(Value::Float(ns as f64 / 1e9))
        });
    }
}

fn times(map: &mut FuncMap) {
    map.add("now", |_| Ok(Time(jiff::Timestamp::now().to_zoned(TimeZone::UTC)).into_value()));
    map.add("date", |a| {
        arity("date", a, 2)?;
        let layout = text("date", a, 0)?;
        time(&a[1]).map(|t| Value::from(go_time::format_layout(&t.0, layout)))
    });
    map.add("toDate", |a| {
        arity("toDate", a, 2)?;
        to_date(text("toDate", a, 0)?, &TimeZone::UTC, text("toDate", a, 1)?)
    });
    map.add("toDateInZone", |a| {
        arity("toDateInZone", a, 3)?;
        let zone = text("toDateInZone", a, 1)?;
        let zone = TimeZone::get(zone).map_err(|_| format!("unknown time zone {zone}"))?;
        to_date(text("toDateInZone", a, 0)?, &zone, text("toDateInZone", a, 2)?)
    });
    for (name, unit) in [("unixEpoch", 1_000_000_000), ("unixEpochMillis", 1_000_000), ("unixEpochNanos", 1)] {
        map.add(name, move |a| {
            arity(name, a, 1)?;
            time(&a[0]).map(|t| Value::from(t.unix_ns().div_euclid(unit).to_string()))
        });
    }
    map.add("unixToTime", |a| {
        arity("unixToTime", a, 1)?;
        let given = text("unixToTime", a, 0)?;
        let bad = || format!("unable to parse time {given:?}");
        let n: i64 = given.parse().map_err(|_| bad())?;
        // The number of digits tells the unit.
        let unit = match given.len() {
            5 => 86_400_000_000_000,
            10 => 1_000_000_000,
            13 => 1_000_000,
            16 => 1_000,
            19 => 1,
            _ => return Err(bad()),
        };
        Ok(Time::from_unix_ns(n.checked_mul(unit).ok_or_else(bad)?).into_value())
    });
}

fn to_date(layout: &str, zone: &TimeZone, given: &str) -> Result<Value, String> {
    go_time::parse_layout(layout, given, zone)
        .map(|t| Time(t).into_value())
        .ok_or_else(|| format!("cannot parse {given:?} as {layout:?}"))
}

fn time(value: &Value) -> Result<Time, String> {
    match value {
        Value::Object(object) => object
            .as_any()
            .downcast_ref::<Time>()
            .cloned()
            .ok_or_else(|| format!("expected a time, got {}", object.type_name())),
        Value::Int(seconds) => Ok(Time::from_unix_ns(seconds.saturating_mul(1_000_000_000))),
        other => Err(format!("expected a time, got {}", other.type_name())),
    }
}

fn bounded(name: &str, out: String) -> Result<Value, String> {
    if out.len() > OUTPUT_BYTES_MAX {
        return Err(format!("{name} makes more than {OUTPUT_BYTES_MAX} bytes"));
    }
    Ok(Value::from(out))
}

fn whole(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A number of any value; what is none counts as 0, as in sprig.
fn float(name: &str, arguments: &[Value], at: usize) -> Result<f64, String> {
    match arguments.get(at) {
        Some(Value::Int(i)) => Ok(*i as f64),
        Some(Value::Float(f)) => Ok(*f),
        Some(Value::Bool(b)) => Ok(f64::from(u8::from(*b))),
        Some(other) => Ok(other.as_str().and_then(|s| s.trim().parse().ok()).unwrap_or(0.0)),
        None => Err(format!("wrong number of args for {name}: want at least {}", at + 1)),
    }
}

fn int(name: &str, arguments: &[Value], at: usize) -> Result<i64, String> {
    match arguments.get(at) {
        Some(Value::Int(i)) => Ok(*i),
        _ => float(name, arguments, at).map(|f| f as i64),
    }
}

fn from_json(raw: Raw<'_>, depth: usize) -> Value {
    match raw.kind {
        Kind::Object if depth < 64 => {
            let mut map = Map::default();
            let read = json::members(raw.text, |key, raw| {
                map.entries.insert(key.into_owned(), from_json(raw, depth + 1));
                true
            });
            debug_assert!(read.is_ok(), "the text was read as a value before");
            Value::map(map)
        }
        Kind::Array if depth < 64 => {
            let mut list = Vec::new();
            let read = json::elements(raw.text, |raw| {
                list.push(from_json(raw, depth + 1));
                true
            });
            debug_assert!(read.is_ok(), "the text was read as a value before");
            Value::list(list)
        }
        Kind::String => Value::from(raw.to_text().as_ref()),
        Kind::Number => Value::Float(raw.text.parse().unwrap_or(0.0)),
        Kind::Bool => Value::Bool(raw.text == "true"),
        _ => Value::Nil,
    }
}

fn url_decode(given: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(given.len());
    let mut bytes = given.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|d| char::from(d).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(format!("invalid URL escape in {given:?}"));
                };
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
