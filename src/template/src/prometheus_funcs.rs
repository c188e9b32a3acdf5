//! The functions of Prometheus' alert templates (prometheus `template/template.go`).

use std::sync::Arc;

use trefoil_model::re2::Regex;

use crate::alert::{QueryFn, QuerySample};
use crate::builtins::query_escape;
use crate::format::float;
use crate::functions::{FuncMap, arity, text};
use crate::go_time::{Duration, Time};
use crate::value::{Map, Value};

/// The functions that need nothing of their surroundings.
pub fn pure_functions() -> FuncMap {
    let mut map = FuncMap::new();
    map.add("first", |a| {
        let items = list("first", a)?;
        items.first().cloned().ok_or_else(|| "first() called on vector with no elements".to_owned())
    });
    map.add("label", |a| Ok(member(a.get(1), "Labels")?.get(text("label", a, 0)?)));
    map.add("value", |a| sample_value(a.first()));
    map.add("strvalue", |a| Ok(member(a.first(), "Labels")?.get("__value__")));
    map.add("sortByLabel", |a| {
        let label = text("sortByLabel", a, 0)?.to_owned();
        let mut items = list("sortByLabel", &a[1..])?;
        items.sort_by_key(|item| {
            member(Some(item), "Labels")
                .map(|l| l.get(&label).as_str().unwrap_or_default().to_owned())
                .unwrap_or_default()
        });
        Ok(Value::list(items))
    });
    map.add("args", |a| Ok(Value::map(Map::any(a.iter().enumerate().map(|(i, v)| (format!("arg{i}"), v.clone()))))));
    map.add("reReplaceAll", |a| {
        arity("reReplaceAll", a, 3)?;
        let regex = must_compile(text("reReplaceAll", a, 0)?)?;
        Ok(Value::from(&*regex.replace_all(text("reReplaceAll", a, 2)?, text("reReplaceAll", a, 1)?)))
    });
    map.add("match", |a| {
        arity("match", a, 2)?;
        Ok(Value::Bool(Regex::new(text("match", a, 0)?).map_err(|e| e.to_string())?.is_match(text("match", a, 1)?)))
    });
    map.add("safeHtml", |a| Ok(Value::Safe(Arc::from(text("safeHtml", a, 0)?))));
    map.add("title", |a| Ok(Value::from(title(text("title", a, 0)?))));
    map.add("toUpper", |a| Ok(Value::from(text("toUpper", a, 0)?.to_uppercase())));
    map.add("toLower", |a| Ok(Value::from(text("toLower", a, 0)?.to_lowercase())));
    map.add("graphLink", |a| Ok(Value::from(link(text("graphLink", a, 0)?, 0))));
    map.add("tableLink", |a| Ok(Value::from(link(text("tableLink", a, 0)?, 1))));
    map.add("urlQueryEscape", |a| Ok(Value::from(query_escape(text("urlQueryEscape", a, 0)?))));
    map.add("stripPort", |a| Ok(Value::from(strip_port(text("stripPort", a, 0)?))));
    map.add("stripDomain", |a| Ok(Value::from(strip_domain(text("stripDomain", a, 0)?))));
    map.add("humanize", |a| number("humanize", a).map(|v| Value::from(humanize(v))));
    map.add("humanize1024", |a| number("humanize1024", a).map(|v| Value::from(humanize1024(v))));
    map.add("humanizeDuration", |a| number("humanizeDuration", a).map(|v| Value::from(humanize_duration(v))));
    map.add("humanizePercentage", |a| {
        number("humanizePercentage", a).map(|v| Value::from(format!("{}%", short(v * 100.0))))
    });
    map.add("humanizeTimestamp", |a| {
        let v = number("humanizeTimestamp", a)?;
        if v.is_nan() || v.is_infinite() {
            return Ok(Value::from(short(v)));
        }
        Ok(Value::from(crate::value::Object::text(&to_time(v)?)))
    });
    map.add("toTime", |a| to_time(number("toTime", a)?).map(Time::into_value));
    map.add("toDuration", |a| {
        let ns = number("toDuration", a)? * 1e9;
        if ns.is_nan() || ns.abs() >= 9.2e18 {
            return Err(format!("{ns} cannot be represented as a nanoseconds timestamp"));
        }
        Ok(Value::object(Duration(ns as i64)))
    });
    map.add("parseDuration", |a| {
        let given = text("parseDuration", a, 0)?;
        parse_prometheus_duration(given)
            .map(|ms| Value::Float(ms as f64 / 1000.0))
            .ok_or_else(|| format!("not a valid duration string: {given:?}"))
    });
    map
}

/// All functions for one evaluation: `query` asks at the time of the evaluation, `now_ms` is that time.
pub fn functions(external_url: &str, now_ms: i64, query: Option<QueryFn>) -> FuncMap {
    let mut map = pure_functions();
    let url = external_url.to_owned();
    map.add("externalURL", move |_| Ok(Value::from(url.as_str())));
    let path = external_url
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|i| rest[i..].to_owned()))
        .unwrap_or_default();
    map.add("pathPrefix", move |_| Ok(Value::from(path.as_str())));
    map.add("now", move |_| Ok(Value::Float(now_ms as f64 / 1000.0)));
    map.add("query", move |a| {
        let Some(query) = &query else {
            return Err("queries are not available here".to_owned());
        };
        let samples = query(text("query", a, 0)?)?;
        Ok(Value::list(samples.into_iter().map(sample).collect()))
    });
    map
}

fn sample(sample: QuerySample) -> Value {
    let labels = Map::strings(sample.labels);
    Value::map(Map::any([("Labels", Value::map(labels)), ("Value", Value::Float(sample.value))]))
}

fn list(name: &str, arguments: &[Value]) -> Result<Vec<Value>, String> {
    match arguments.first() {
        Some(Value::List(list)) => Ok(list.to_vec()),
        Some(other) => Err(format!("{name} needs a query result, got {}", other.type_name())),
        None => Err(format!("wrong number of args for {name}: want 1 got 0")),
    }
}

fn member(value: Option<&Value>, name: &str) -> Result<Arc<Map>, String> {
    if let Some(Value::Map(map)) = value
        && let Value::Map(inner) = map.get(name)
    {
        return Ok(inner);
    }
    Err("value is no sample".to_owned())
}

fn sample_value(value: Option<&Value>) -> Result<Value, String> {
    match value {
        Some(Value::Map(map)) => Ok(map.get("Value")),
        _ => Err("value is no sample".to_owned()),
    }
}

fn number(name: &str, arguments: &[Value]) -> Result<f64, String> {
    arity(name, arguments, 1)?;
    match &arguments[0] {
        Value::Float(f) => Ok(*f),
        Value::Int(i) => Ok(*i as f64),
        Value::Object(o) => match o.as_any().downcast_ref::<Duration>() {
            Some(Duration(ns)) => Ok(*ns as f64 / 1e9),
            None => Err(format!("can't convert {} to float", o.type_name())),
        },
        other => match other.as_str() {
            Some(s) => s.trim().parse().map_err(|_| format!("strconv.ParseFloat: parsing {s:?}: invalid syntax")),
            None => Err(format!("can't convert {} to float", other.type_name())),
        },
    }
}

/// As Go's `MustCompile` words what is wrong.
fn must_compile(pattern: &str) -> Result<Regex, String> {
    let shown = |p: &str| {
        if p.contains(|c: char| c == '`' || c == '\u{feff}' || (c.is_control() && c != '\t')) {
            format!("{p:?}")
        } else {
            format!("`{p}`")
        }
    };
    Regex::new(pattern).map_err(|e| format!("regexp: Compile({}): {e}", shown(pattern)))
}

fn short(v: f64) -> String {
    float(v, 'g', Some(4))
}

/// The first letter of every word in upper case, as Go's `strings.Title`.
pub fn title(given: &str) -> String {
    let mut out = String::with_capacity(given.len());
    let mut inside = false;
    for c in given.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

/// A number with an SI prefix and four significant digits.
pub fn humanize(v: f64) -> String {
    if v == 0.0 || v.is_nan() || v.is_infinite() {
        return short(v);
    }
    let (scaled, prefix) = scale(v);
    format!("{}{prefix}", short(scaled))
}

fn scale(mut v: f64) -> (f64, &'static str) {
    let mut prefix = "";
    if v.abs() >= 1.0 {
        for p in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
            if v.abs() < 1000.0 {
                break;
            }
            prefix = p;
            v /= 1000.0;
        }
    } else {
        for p in ["m", "u", "n", "p", "f", "a", "z", "y"] {
            if v.abs() >= 1.0 {
                break;
            }
            prefix = p;
            v *= 1000.0;
        }
    }
    (v, prefix)
}

/// A number with a binary prefix.
pub fn humanize1024(mut v: f64) -> String {
    if v.abs() <= 1.0 || v.is_nan() || v.is_infinite() {
        return short(v);
    }
    let mut prefix = "";
    for p in ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] {
        if v.abs() < 1024.0 {
            break;
        }
        prefix = p;
        v /= 1024.0;
    }
    format!("{}{prefix}", short(v))
}

/// Seconds as days, hours, minutes and seconds.
pub fn humanize_duration(v: f64) -> String {
    if v.is_nan() || v.is_infinite() {
        return short(v);
    }
    if v == 0.0 {
        return "0s".to_owned();
    }
    if v.abs() < 1.0 {
        let (scaled, prefix) = scale(v);
        return format!("{}{prefix}s", short(scaled));
    }
    let sign = if v < 0.0 { "-" } else { "" };
    let v = v.abs();
    let whole = v as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", short(v))
    }
}

fn to_time(seconds: f64) -> Result<Time, String> {
    let ns = seconds * 1e9;
    if ns.is_nan() || ns.abs() >= 9.2e18 {
        return Err(format!("{seconds} cannot be represented as a nanoseconds timestamp since it overflows int64"));
    }
    // Milliseconds are what samples carry; beyond them a float of seconds has only noise.
    Ok(Time::from_unix_ns((seconds * 1000.0).round() as i64 * 1_000_000))
}

fn link(expression: &str, tab: u8) -> String {
    format!("/graph?g0.expr={}&g0.tab={tab}", query_escape(expression))
}

/// Host and port as Go's `net.SplitHostPort` sees them.
fn split_host_port(given: &str) -> Option<(&str, &str)> {
    if let Some(rest) = given.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return Some((host, port));
    }
    let (host, port) = given.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

fn strip_port(given: &str) -> &str {
    split_host_port(given).map_or(given, |(host, _)| host)
}

fn strip_domain(given: &str) -> String {
    let (host, port) = split_host_port(given).map_or((given, ""), |(h, p)| (h, p));
    if host.parse::<std::net::IpAddr>().is_ok() {
        return given.to_owned();
    }
    let host = host.split('.').next().unwrap_or(host);
    if port.is_empty() { host.to_owned() } else { format!("{host}:{port}") }
}

/// Milliseconds of a Prometheus duration such as `1d12h`.
pub fn parse_prometheus_duration(given: &str) -> Option<i64> {
    if given == "0" {
        return Some(0);
    }
    const UNITS: [(&str, i64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let (mut rest, mut total, mut last) = (given, 0i64, None);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let n: i64 = rest[..end].parse().ok()?;
        let after = &rest[end..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let at = UNITS.iter().position(|(unit, _)| *unit == &after[..unit_end])?;
        if last.is_some_and(|l| l >= at) {
            return None;
        }
        last = Some(at);
        total = total.checked_add(n.checked_mul(UNITS[at].1)?)?;
        rest = &after[unit_end..];
    }
    last.map(|_| total)
}
