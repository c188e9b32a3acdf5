//! Go's `fmt`: `%v` of values, `Sprint`, `Sprintln`, `Sprintf`, and the number formats behind them.

use crate::value::Value;

/// Widest field and longest precision that a format may ask for.
const WIDTH_MAX: usize = 10_000;

/// A value as `%v` prints it; nil is `<nil>`.
pub fn display(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) => float(*f, 'g', None),
        Value::String(s) | Value::Safe(s) => s.to_string(),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(display).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(map) => {
            let items: Vec<String> = map.entries.iter().map(|(k, v)| format!("{k}:{}", display(v))).collect();
            format!("map[{}]", items.join(" "))
        }
        Value::Object(object) => object.text(),
    }
}

/// `fmt.Sprint`: a space between operands when neither is a text.
pub fn sprint(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut before_is_text = true;
    for value in arguments {
        let is_text = value.as_str().is_some();
        if !is_text && !before_is_text {
            out.push(' ');
        }
        out.push_str(&display(value));
        before_is_text = is_text;
    }
    out
}

/// `fmt.Sprintln`: spaces between all operands and a newline behind.
pub fn sprintln(arguments: &[Value]) -> String {
    let items: Vec<String> = arguments.iter().map(display).collect();
    format!("{}\n", items.join(" "))
}

/// A float as `strconv.FormatFloat` writes it; `verb` is one of `eEfFgG`, without a precision the shortest text
/// that reads back equal.
pub fn float(f: f64, verb: char, precision: Option<usize>) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let text = match verb.to_ascii_lowercase() {
        'e' => exponential(f, precision),
        'f' => match precision {
            Some(p) => format!("{f:.p$}"),
            None => format!("{f}"),
        },
        _ => general(f, precision),
    };
    if verb.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

fn exponential(f: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(p) => format!("{f:.p$e}"),
        None => format!("{f:e}"),
    };
    let (mantissa, exponent) = text.split_once('e').expect("LowerExp always writes an e");
    let exponent: i32 = exponent.parse().expect("LowerExp writes a whole exponent");
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn general(f: f64, precision: Option<usize>) -> String {
    let precision = precision.map(|p| p.max(1));
    let scientific = exponential(f, precision.map(|p| p - 1));
    let (mantissa, exponent) = scientific.split_once('e').expect("exponential always writes an e");
    let exponent: i32 = exponent.parse().expect("exponential writes a whole exponent");
    let digits = if precision.is_some() && mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let limit = match precision {
        // Go decides as if six digits were wanted when it writes the shortest text.
        None => 6,
        Some(p) if p > count && i32::try_from(count).unwrap_or(i32::MAX) > exponent => count,
        Some(p) => p,
    };
    if exponent < -4 || exponent >= i32::try_from(limit).unwrap_or(i32::MAX) {
        let tail = scientific.rsplit_once('e').map_or("", |(_, t)| t);
        return format!("{digits}e{tail}");
    }
    match precision {
        None => format!("{f}"),
        Some(p) => {
            let decimals = i32::try_from(p).unwrap_or(i32::MAX).saturating_sub(1 + exponent).max(0);
            let text = format!("{f:.*}", usize::try_from(decimals).unwrap_or(0));
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    }
}

/// A text in Go's double quotes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`. Errors only when a width or precision is beyond reason.
pub fn sprintf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0usize;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        flags.width = number(&mut chars, arguments, &mut next)?;
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = Some(number(&mut chars, arguments, &mut next)?.unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.get(next) {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => {
                    next += 1;
                    out.push_str(&pad(formatted(verb, value, &flags), &flags, value));
                }
            },
        }
    }
    if next < arguments.len() {
        let extra: Vec<String> =
            arguments[next..].iter().map(|v| format!("{}={}", v.type_name(), display(v))).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn number(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &[Value],
    next: &mut usize,
) -> Result<Option<usize>, String> {
    let mut n = None;
    if chars.peek() == Some(&'*') {
        chars.next();
        if let Some(Value::Int(i)) = arguments.get(*next) {
            n = usize::try_from(*i).ok();
        }
        *next += 1;
    }
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        chars.next();
        n = Some(n.unwrap_or(0) * 10 + digit as usize);
        if n > Some(WIDTH_MAX) {
            break;
        }
    }
    if n > Some(WIDTH_MAX) {
        return Err(format!("width or precision above {WIDTH_MAX}"));
    }
    Ok(n)
}

fn formatted(verb: char, value: &Value, flags: &Flags) -> String {
    let bad = || format!("%!{verb}({}={})", value.type_name(), display(value));
    match (verb, value) {
        ('v', Value::Float(f)) => signed(float(*f, 'g', flags.precision), flags),
        ('v', Value::Int(i)) => signed(i.to_string(), flags),
        ('v', v) => match v.as_str() {
            Some(s) if flags.sharp => quote(s),
            _ => display(v),
        },
        ('T', v) => v.type_name().to_owned(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('d', Value::Int(i)) => signed(i.to_string(), flags),
        ('b', Value::Int(i)) => signed_radix(*i, |n| format!("{n:b}")),
        ('o', Value::Int(i)) => signed_radix(*i, |n| format!("{n:o}")),
        ('x', Value::Int(i)) if flags.sharp => signed_radix(*i, |n| format!("{n:#x}")),
        ('x', Value::Int(i)) => signed_radix(*i, |n| format!("{n:x}")),
        ('X', Value::Int(i)) => signed_radix(*i, |n| format!("{n:X}")),
        ('U', Value::Int(i)) => format!("U+{i:04X}"),
        ('c', Value::Int(i)) => u32::try_from(*i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        ('e' | 'E' | 'f' | 'F', Value::Float(f)) => signed(float(*f, verb, Some(flags.precision.unwrap_or(6))), flags),
        ('g' | 'G', Value::Float(f)) => signed(float(*f, verb, flags.precision), flags),
        ('s' | 'q' | 'x' | 'X', Value::List(list)) => {
            let items: Vec<String> = list.iter().map(|v| formatted(verb, v, flags)).collect();
            format!("[{}]", items.join(" "))
        }
        ('s' | 'q' | 'x' | 'X', v) => {
            let text = match v {
                Value::String(s) | Value::Safe(s) => s.to_string(),
                Value::Object(o) => o.text(),
                Value::Map(_) => display(v),
                _ => return bad(),
            };
            let text = match flags.precision {
                Some(p) => text.chars().take(p).collect(),
                None => text,
            };
            match verb {
                's' => text,
                'q' if flags.sharp && !text.contains('`') => format!("`{text}`"),
                'q' => quote(&text),
                'x' => text.bytes().map(|b| format!("{b:02x}")).collect(),
                _ => text.bytes().map(|b| format!("{b:02X}")).collect(),
            }
        }
        _ => bad(),
    }
}

fn signed(text: String, flags: &Flags) -> String {
    if text.starts_with(['-', '+']) {
        return text;
    }
    if flags.plus {
        format!("+{text}")
    } else if flags.space {
        format!(" {text}")
    } else {
        text
    }
}

fn signed_radix(i: i64, digits: impl Fn(u64) -> String) -> String {
    let text = digits(i.unsigned_abs());
    if i < 0 { format!("-{text}") } else { text }
}

fn pad(text: String, flags: &Flags, value: &Value) -> String {
    let Some(width) = flags.width else { return text };
    let length = text.chars().count();
    if length >= width {
        return text;
    }
    let missing = width - length;
    if flags.minus {
        return text + &" ".repeat(missing);
    }
    if flags.zero {
        let zeros = "0".repeat(missing);
        let numeric = matches!(value, Value::Int(_) | Value::Float(_));
        return match text.strip_prefix(['-', '+']) {
            Some(rest) if numeric => format!("{}{zeros}{rest}", &text[..1]),
            _ => zeros + &text,
        };
    }
    " ".repeat(missing) + &text
}

/// Resolves Go's escapes in the inside of a double-quoted text.
pub fn unquote(body: &str) -> Result<String, String> {
    crate::lexer::unescape(body)
}
