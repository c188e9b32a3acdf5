//! Damaged queries and damaged lines: whatever comes out, nothing panics.

use std::sync::Arc;

use trefoil_logql::{Engine, RangeQuery};
use trefoil_model::{Direction, Labels, LogGroup, LogRecord, TenantId, Unlimited};

use trefoil_logql::testing::GroupsReader;

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// Removes, doubles or replaces a few characters.
    fn damage(&mut self, text: &str) -> String {
        const SPICE: [char; 24] = [
            '"', '`', '{', '}', '(', ')', '[', ']', '|', '=', '\\', '<', '>', '_', '.', '-', '0', '9', 'e', 'é', '\n',
            '\u{0}', ',', ':',
        ];
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(3) {
            if chars.is_empty() {
                break;
            }
            let at = self.below(chars.len());
            match self.below(4) {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, SPICE[self.below(SPICE.len())]),
                2 => chars[at] = SPICE[self.below(SPICE.len())],
                _ => chars.truncate(at),
            }
        }
        chars.into_iter().collect()
    }
}

#[test]
fn damaged_queries() {
    let seeds = [
        r#"sum by (a) (rate({a="é\n", b!~`x`}[1h30m] offset -5m |= ip("1.1.1.1") or "y" | json q="w[0]" | v >= 1.5KiB))"#,
        r#"topk(3, label_replace(vector(1), "a", "$1", "b", "(.*)")) * on (a) group_left (c) vector(-2.5e3) > bool 1"#,
        r#"quantile_over_time(0.9, {a="b"} | logfmt --strict c="d" | unwrap duration(e) | __error__="" [5m]) without (x)"#,
        r#"{a="b"} |> `<_> x <_>` !~ "(?i)z" | pattern `<a> <b>` | regexp "(?P<c>.)" | drop a, b=~"c" | keep d | unpack"#,
        r#"{a="b"} | line_format `{{ if eq .x "1" }}{{ .y | trunc -3 | default "d" }}{{ end }}` | label_format k=l, m="{{ add 1 .n }}""#,
    ];
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for i in 0..20_000 {
        let query = dice.damage(seeds[i % seeds.len()]);
        if let Ok(text) = trefoil_logql::format_query(&query) {
            assert!(trefoil_logql::parse(&text).is_ok(), "{query:?} became {text:?}");
        }
        drop(Engine::check(&query));
    }
}

#[test]
fn damaged_lines() {
    let seeds = [
        r#"{"a":{"b":[1,{"c":"x\u00e9\ud83d\ude00"}]},"n":-1.5e3,"t":true,"z":null,"_entry":"e"}"#,
        r#"level=info msg="a \"b\" c" dur=1h2m3.5s size=1.5MiB n=-3 bare = "#,
        "2001:db8::7 - 10.1.2.3:80 \u{1b}[31mERROR\u{1b}[0m GET /é?x=%20+ 1,024B",
    ];
    let mut dice = Dice(0xdead_beef_1234_5678);
    let mut records = Vec::new();
    for i in 0..600 {
        records.push(LogRecord {
            time_ns: i,
            observed_ns: 0,
            severity_number: 0,
            severity_text: String::new(),
            text: dice.damage(seeds[i as usize % seeds.len()]),
            attributes: Vec::new(),
            trace_id: None,
            span_id: None,
        });
    }
    let stream = Labels::from_pairs([("app", "x")]);
    let reader = GroupsReader { groups: vec![LogGroup { stream, shared: Arc::default(), records }] };
    for query in [
        r#"{app="x"} | json | logfmt | a_b > 1 or dur > 1s or size > 1KB | line_format "{{.n | int}}{{ __line__ | urldecode }}""#,
        r#"{app="x"} | json q="a.b[1].c", r="n" | unpack | decolorize | pattern "<x> - <y> <z>" | x = ip("10.0.0.0/8")"#,
        r#"{app="x"} |= ip("2001:db8::/32") or ip("10.1.2.0-10.1.2.9") | logfmt --strict | label_format d="{{ duration .dur }}""#,
        r#"{app="x"} |> "<_>:<_> - <_>" | line_format `{{ range $k, $v := fromJson __line__ }}{{ $k }}{{ $v }}{{ end }}` | regexp "(?P<u>\\w+)""#,
        r#"sum by (t) (sum_over_time({app="x"} | json | logfmt | unwrap bytes(size) | __error__="" [100ns]))"#,
    ] {
        let request = RangeQuery {
            query,
            start_ns: 0,
            end_ns: 1000,
            step_ns: 50,
            direction: Direction::Backward,
            limit: 0,
            tenant: TenantId(0),
        };
        Engine::range(&request, &reader, &Unlimited).unwrap_or_else(|e| panic!("{query}: {e}"));
    }
}
