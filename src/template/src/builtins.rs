//! Go's own template functions (text/template `builtins`), except `and` and `or`, which the interpreter has.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::format;
use crate::functions::{arity, text};
use crate::value::Value;

const NAMES: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice", "tmpl", "urlquery",
];

pub(crate) fn has(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
}

pub(crate) fn call(name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
    Some(match name {
        "not" => arity(name, arguments, 1).map(|()| Value::Bool(!arguments[0].truth())),
        "eq" => eq(arguments).map(Value::Bool),
        "ne" => {
            arity(name, arguments, 2).and_then(|()| equal(&arguments[0], &arguments[1])).map(|same| Value::Bool(!same))
        }
        "lt" => ordered(name, arguments, |o| o == Ordering::Less),
        "le" => ordered(name, arguments, |o| o != Ordering::Greater),
        "gt" => ordered(name, arguments, |o| o == Ordering::Greater),
        "ge" => ordered(name, arguments, |o| o != Ordering::Less),
        "len" => arity(name, arguments, 1).and_then(|()| len(&arguments[0])),
        "index" => index(arguments),
        "slice" => slice(arguments),
        "print" => Ok(Value::from(format::sprint(arguments))),
        "println" => Ok(Value::from(format::sprintln(arguments))),
        "printf" => text(name, arguments, 0).and_then(|f| format::sprintf(f, &arguments[1..])).map(Value::from),
        "html" => Ok(Value::from(html_escape(&joined(arguments)))),
        "js" => Ok(Value::from(js_escape(&joined(arguments)))),
        "urlquery" => Ok(Value::from(query_escape(&joined(arguments)))),
        "call" => Err("call of a value that is no function".to_owned()),
        _ => return None,
    })
}

fn joined(arguments: &[Value]) -> String {
    match arguments {
        [one] => one.as_str().map_or_else(|| format::display(one), str::to_owned),
        many => format::sprint(many),
    }
}

fn eq(arguments: &[Value]) -> Result<bool, String> {
    let [first, others @ ..] = arguments else {
        return Err("missing argument for comparison".to_owned());
    };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Object(a), Value::Object(b)) => Ok(a.text() == b.text()),
        (a, b) => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => Ok(a == b),
            _ => Err("incompatible types for comparison".to_owned()),
        },
    }
}

fn ordered(name: &str, arguments: &[Value], holds: impl Fn(Ordering) -> bool) -> Result<Value, String> {
    arity(name, arguments, 2)?;
    let order = match (&arguments[0], &arguments[1]) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Bool(_) | Value::Nil | Value::List(_) | Value::Map(_) | Value::Object(_), _) => {
            return Err("invalid type for comparison".to_owned());
        }
        (a, b) => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => Some(a.cmp(b)),
            _ => return Err("incompatible types for comparison".to_owned()),
        },
    };
    Ok(Value::Bool(order.is_some_and(holds)))
}

/// The collection behind an object.
fn collection(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.items().unwrap_or_else(|| value.clone()),
        other => other.clone(),
    }
}

fn len(value: &Value) -> Result<Value, String> {
    let n = match collection(value) {
        Value::String(s) | Value::Safe(s) => s.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.entries.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

fn position(value: &Value, most: usize) -> Result<usize, String> {
    match value {
        Value::Int(i) => {
            usize::try_from(*i).ok().filter(|i| *i <= most).ok_or_else(|| format!("index out of range: {i}"))
        }
        Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let [first, keys @ ..] = arguments else {
        return Err("wrong number of args for index: want at least 1 got 0".to_owned());
    };
    let mut value = first.clone();
    for key in keys {
        value = match collection(&value) {
            Value::List(list) => {
                let i = position(key, list.len())?;
                list.get(i).cloned().ok_or_else(|| format!("index out of range: {i}"))?
            }
            Value::Map(map) => {
                let key =
                    key.as_str().ok_or_else(|| format!("value has type {}; should be string", key.type_name()))?;
                map.get(key)
            }
            Value::String(s) | Value::Safe(s) => {
                let i = position(key, s.len())?;
                let byte = s.as_bytes().get(i).ok_or_else(|| format!("index out of range: {i}"))?;
                Value::Int(i64::from(*byte))
            }
            Value::Nil => return Err("index of untyped nil".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let [first, bounds @ ..] = arguments else {
        return Err("wrong number of args for slice: want at least 1 got 0".to_owned());
    };
    if bounds.len() > 3 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let cut = |length: usize| -> Result<(usize, usize), String> {
        let from = bounds.first().map_or(Ok(0), |b| position(b, length))?;
        let to = bounds.get(1).map_or(Ok(length), |b| position(b, length))?;
        if from > to {
            return Err(format!("invalid slice index: {from} > {to}"));
        }
        Ok((from, to))
    };
    match collection(first) {
        Value::String(s) | Value::Safe(s) => {
            let (from, to) = cut(s.len())?;
            Ok(Value::from(String::from_utf8_lossy(&s.as_bytes()[from..to]).into_owned()))
        }
        Value::List(list) => {
            let (from, to) = cut(list.len())?;
            Ok(Value::List(Arc::new(list[from..to].to_vec())))
        }
        other => Err(format!("can't slice item of type {}", other.type_name())),
    }
}

/// Escapes as Go's `HTMLEscapeString`.
pub(crate) fn html_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn js_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            other => out.push(other),
        }
    }
    out
}

/// Escapes as Go's `url.QueryEscape`: a space becomes `+`.
pub fn query_escape(text: &str) -> String {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');
    percent_encoding::utf8_percent_encode(text, &KEPT).to_string().replace(' ', "+")
}
