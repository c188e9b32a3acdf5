//! Random queries whose types fit.

use rand::RngExt;
use rand::rngs::StdRng;

fn pick<'a>(rng: &mut StdRng, items: &[&'a str]) -> &'a str {
    items[rng.random_range(0..items.len())]
}

fn attribute(rng: &mut StdRng) -> String {
    let scope = pick(rng, &["span.", "span.", "resource.", ".", "event.", "link.", "instrumentation."]);
    format!("{scope}{}", pick(rng, &["a", "b", "c"]))
}

fn number(rng: &mut StdRng, depth: u32) -> String {
    match rng.random_range(0..if depth == 0 { 5 } else { 8 }) {
        0 => rng.random_range(-3..6).to_string(),
        1 => format!("{:.1}", f64::from(rng.random_range(-6..8)) / 2.0),
        2 => pick(rng, &["duration", "traceDuration", "event:timeSinceStart", "span:childCount"]).to_owned(),
        3 => pick(rng, &["nestedSetParent", "nestedSetLeft", "nestedSetRight", "1s", "500ms"]).to_owned(),
        4 => attribute(rng),
        5 => format!("-({})", number(rng, depth - 1)),
        _ => {
            let op = pick(rng, &["+", "-", "*", "/", "%", "+", "-"]);
            format!("({} {op} {})", number(rng, depth - 1), number(rng, depth - 1))
        }
    }
}

fn text(rng: &mut StdRng) -> String {
    let all = ["name", "statusMessage", "rootName", "rootServiceName", "event:name", "resource.service.name"];
    match rng.random_range(0..3) {
        0 => attribute(rng),
        _ => pick(rng, &all).to_owned(),
    }
}

fn boolean(rng: &mut StdRng, depth: u32) -> String {
    match rng.random_range(0..if depth == 0 { 12 } else { 17 }) {
        0 => pick(rng, &["true", "status = error", "status != ok", "kind = client", "kind != server"]).to_owned(),
        1 | 2 => {
            let op = pick(rng, &["=", "!=", "<", "<=", ">", ">="]);
            format!("{} {op} {}", number(rng, 1), number(rng, 1))
        }
        3 | 4 => {
            let op = pick(rng, &["=", "!=", "<", ">="]);
            format!("{} {op} \"{}\"", text(rng), pick(rng, &["x", "y", "n1", "s2", "e1", ""]))
        }
        5 => format!("{} {} \"{}\"", text(rng), pick(rng, &["=~", "!~"]), pick(rng, &["x.*", "n[12]", "s2|s3", ".*"])),
        6 => format!("{} {} nil", attribute(rng), pick(rng, &["=", "!="])),
        7 => format!("name = \"{}\"", pick(rng, &["n1", "n2"])),
        8 => format!("resource.service.name = \"{}\"", pick(rng, &["s1", "s2"])),
        9 => format!("duration {} {}ms", pick(rng, &["=", "<", "<=", ">", ">="]), 250 * rng.random_range(0..9)),
        10 => attribute(rng),
        11 => format!("{} {} {}", attribute(rng), pick(rng, &["=", "!=", "<"]), attribute(rng)),
        12 => format!("!({})", boolean(rng, depth - 1)),
        13 => format!("({} || {})", boolean(rng, depth - 1), boolean(rng, depth - 1)),
        _ => format!("{} {} {}", boolean(rng, depth - 1), pick(rng, &["&&", "&&", "||"]), boolean(rng, depth - 1)),
    }
}

fn filter(rng: &mut StdRng) -> String {
    if rng.random_bool(0.2) { "{}".to_owned() } else { format!("{{ {} }}", boolean(rng, 2)) }
}

fn set(rng: &mut StdRng, depth: u32) -> String {
    if depth == 0 || rng.random_bool(0.4) {
        return filter(rng);
    }
    let ops = ["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"];
    let op = pick(rng, &ops);
    let side = |rng: &mut StdRng| match rng.random_range(0..4) {
        0 => format!("({})", set(rng, depth - 1)),
        1 if rng.random_bool(0.3) => format!("({} | count() > 1)", filter(rng)),
        _ => filter(rng),
    };
    let (lhs, rhs) = (side(rng), side(rng));
    let more = if rng.random_bool(0.2) { format!(" {} {}", pick(rng, &ops), filter(rng)) } else { String::new() };
    format!("{lhs} {op} {rhs}{more}")
}

fn stage(rng: &mut StdRng) -> String {
    match rng.random_range(0..7) {
        0 => filter(rng),
        1 => format!("count() {} {}", pick(rng, &[">", "=", "<=", "!="]), rng.random_range(0..5)),
        2 | 3 => {
            let aggregate = pick(rng, &["avg", "min", "max", "sum"]);
            let value = pick(rng, &["1", "500ms", "0", "2.5", "-1"]);
            format!("{aggregate}({}) {} {value}", measured(rng), pick(rng, &[">", "<", ">=", "!="]))
        }
        4 => format!("by({})", by(rng)),
        5 => "coalesce()".to_owned(),
        _ => format!("select({})", attribute(rng)),
    }
}

fn by(rng: &mut StdRng) -> String {
    match rng.random_range(0..3) {
        0 => pick(rng, &["name", "status", "kind", "duration", "resource.service.name"]).to_owned(),
        1 => format!("span.a > {}", rng.random_range(0..3)),
        _ => attribute(rng),
    }
}

fn measured(rng: &mut StdRng) -> String {
    match rng.random_range(0..3) {
        0 => "duration".to_owned(),
        1 => format!("{} + 1", attribute(rng)),
        _ => attribute(rng),
    }
}

fn pipeline(rng: &mut StdRng) -> String {
    let mut out = if rng.random_bool(0.05) { "count() > 2".to_owned() } else { set(rng, 2) };
    for _ in 0..rng.random_range(0..3) {
        out.push_str(" | ");
        out.push_str(&stage(rng));
    }
    out
}

pub(crate) fn search(rng: &mut StdRng) -> String {
    let hint = if rng.random_bool(0.1) { " with (most_recent=true)" } else { "" };
    format!("{}{hint}", pipeline(rng))
}

fn leaf(rng: &mut StdRng) -> String {
    let attribute = if rng.random_bool(0.5) { "duration".to_owned() } else { attribute(rng) };
    let function = match rng.random_range(0..8) {
        0 => "rate()".to_owned(),
        1 => "count_over_time()".to_owned(),
        2 => format!("min_over_time({attribute})"),
        3 => format!("max_over_time({attribute})"),
        4 => format!("avg_over_time({attribute})"),
        5 => format!("sum_over_time({attribute})"),
        6 => format!("histogram_over_time({attribute})"),
        _ => format!("quantile_over_time({attribute}, 0.5, 0.9)"),
    };
    let groups = ["name", "status", "resource.service.name", "span.a", "span.b", "kind", "event.c"];
    let grouping = match rng.random_range(0..3) {
        0 => String::new(),
        1 => format!(" by ({})", pick(rng, &groups)),
        _ => format!(" by ({}, {})", pick(rng, &groups[..3]), pick(rng, &groups[3..])),
    };
    format!("{} | {function}{grouping}", if rng.random_bool(0.7) { filter(rng) } else { pipeline(rng) })
}

pub(crate) fn metrics(rng: &mut StdRng) -> String {
    match rng.random_range(0..10) {
        0..=6 => leaf(rng),
        7 => format!("{} {} {}", leaf(rng), pick(rng, &[">", "<=", "!="]), pick(rng, &["1", "500ms", "0.1"])),
        8 => format!("({}) {} {}", leaf(rng), pick(rng, &["+", "-", "*", "/"]), pick(rng, &["2", "0.5", "0"])),
        _ => {
            let group = pick(rng, &["", " by (name)", " by (span.a)"]);
            let other = pick(rng, &["", group]);
            let op = pick(rng, &["+", "-", "*", "/"]);
            format!("({} | rate(){group}) {op} ({} | count_over_time(){other})", filter(rng), filter(rng))
        }
    }
}
