//! Templates against tables and against the rule files of the conformance set.

use std::path::PathBuf;
use std::sync::Arc;

use trefoil_template::{
    AlertTemplateInput, Escape, FuncMap, Limits, Map, QuerySample, Template, Value, check_alert_template,
    expand_alert_template,
};

fn data() -> Value {
    let labels = Map::strings([("job", "api"), ("instance", "db.example.org:9100")]);
    Value::map(Map::any([
        ("Labels", Value::map(labels)),
        ("N", Value::Int(7)),
        ("F", Value::Float(0.25)),
        ("List", Value::list(vec![Value::from("a"), Value::from("b"), Value::from("c")])),
        ("Empty", Value::list(vec![])),
    ]))
}

fn check(source: &str, want: &str) {
    let template = Template::parse("t", source).unwrap_or_else(|e| panic!("{source}: {e}"));
    let got = template.render(&data(), &FuncMap::new(), Limits::default());
    assert_eq!(got.as_deref(), Ok(want), "{source}");
}

fn check_fails(source: &str, want: &str) {
    let functions = FuncMap::new();
    let error = Template::parse("t", source)
        .and_then(|t| t.check_functions(&functions).and_then(|()| t.render(&data(), &functions, Limits::default())))
        .expect_err(source);
    assert!(error.to_string().contains(want), "{source}: {error}");
}

#[test]
fn language() {
    check("plain", "plain");
    check("a {{- 1 -}} b {{ .N }}", "a1b 7");
    check("{{/* note */}}x{{- /* trims */ -}} y", "xy");
    check("{{ .Labels.job }}|{{ .Labels.nope }}|{{ .Missing }}", "api||<no value>");
    check("{{ $x := .Labels }}{{ $x.job }}{{ $x = .N }}{{ $x }}", "api7");
    check("{{ if eq .Labels.job \"x\" \"api\" }}y{{ else }}n{{ end }}", "y");
    check("{{ if .Empty }}a{{ else if gt .N 6 }}b{{ else }}c{{ end }}", "b");
    check("{{ with .Labels.nope }}x{{ else with .N }}{{ . }}{{ end }}", "7");
    check("{{ range $i, $x := .List }}{{ if eq $i 2 }}{{ break }}{{ end }}{{ $i }}={{ $x }} {{ end }}", "0=a 1=b ");
    check("{{ range .List }}{{ if eq . \"b\" }}{{ continue }}{{ end }}{{ . }}{{ end }}", "ac");
    check("{{ range .Empty }}x{{ else }}none{{ end }}{{ range 3 }}{{ . }}{{ end }}", "none012");
    check("{{ range $k, $v := .Labels }}{{ $k }}={{ $v }},{{ end }}", "instance=db.example.org:9100,job=api,");
    check(
        "{{ define \"d\" }}<{{ . }}>{{ end }}{{ template \"d\" .N }}{{ block \"e\" .F }}[{{ . }}]{{ end }}",
        "<7>[0.25]",
    );
    check("{{ (index .List 1) | printf \"%s-%s\" \"x\" }} {{ len .List }} {{ slice \"hello\" 1 3 }}", "x-b 3 el");
    check("{{ and .N .F }} {{ or .Empty \"d\" }} {{ not .N }}", "0.25 d false");
    check(
        "{{ printf \"%5.2f|%-5s|%05d|%q|%x|%v|%t\" 3.14159 \"ab\" 42 \"q\\\"\" 255 1.5 true }}",
        " 3.14|ab   |00042|\"q\\\"\"|ff|1.5|true",
    );
    check("{{ printf \"%d %s\" \"a\" }}", "%!d(string=a) %!s(MISSING)");
    check("{{ print 1 2 \"x\" 3 }}{{ println \"a\" 1 }}", "1 2x3a 1\n");
    check(
        "{{ 1e6 }} {{ 123456789.0 }} {{ 0.00001 }} {{ 21.5 }} {{ 0x1F }} {{ 'a' }}",
        "1e+06 1.23456789e+08 1e-05 21.5 31 97",
    );
    check(
        "{{ html \"<a b='c'>\" }} {{ urlquery \"a b&c\" }} {{ js \"it's\" }}",
        "&lt;a b=&#39;c&#39;&gt; a+b%26c it\\'s",
    );
    check("{{ `raw \\n` }}{{ \"tab\\tA\\u0041\" }}", "raw \\ntab\tAA");
    check("{{ with $x := 3 }}{{ $x }}{{ end }}{{ .Labels }}", "3map[instance:db.example.org:9100 job:api]");
}

#[test]
fn failures_have_positions() {
    check_fails("{{ .a ", "1:1: unclosed action");
    check_fails("x\n {{ nofunc 1 }}", "2:5: function \"nofunc\" not defined");
    check_fails("{{ if 1 }}", "unexpected");
    check_fails("{{ end }}", "unexpected {{end}}");
    check_fails("{{ $x }}", "undefined variable \"$x\"");
    check_fails("{{ eq 1 1.0 }}", "incompatible types");
    check_fails("{{ .N.x }}", "can't evaluate field x in type int");
    check_fails("{{ \"a\" | 3 }}", "non executable command");
    check_fails("{{ 3 4 }}", "can't give argument to non-function");
    check_fails("{{ template \"nope\" }}", "template \"nope\" not defined");
    check_fails("{{ index .List 9 }}", "out of range");
    check_fails("{{ break }}", "outside");
    check_fails("{{ printf \"%99999999d\" 1 }}", "width");
    check_fails("{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}", "deeper than");
    check_fails("{{ range 1000000 }}x{{ end }}", "bytes");
    check_fails("{{ range 1000000 }}{{ end }}", "steps");
    check_fails(&format!("{}1{}", "{{ (".to_owned() + &"(".repeat(300), ")".repeat(301) + " }}"), "nested deeper");
    check_fails("{{ $x := \"aaaaaaaaaaaaaaaa\" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}", "bytes");
}

#[test]
fn text_of_strange_input_never_panics() {
    let seeds = [
        "{{ . }}",
        "{{- \"a\\",
        "{{ 'x",
        "{{ $a, $b := 1 }}",
        "{{ range $a, }}",
        "{{/*",
        "{{ é.ü }}",
        "{{ 0x }}{{ 1e }}",
    ];
    for seed in seeds {
        for end in 0..=seed.len() {
            if let Some(part) = seed.get(..end) {
                drop(Template::parse("t", part).map(|t| t.render(&data(), &FuncMap::new(), Limits::default())));
            }
        }
    }
}

#[test]
fn html_escaping_and_sets() {
    let base = Template::parse("base", "{{ define \"title\" }}T:{{ . }}{{ end }}").unwrap();
    let page = base.with("page", "{{ template \"title\" .Labels.job }} {{ \"<b>\" }}").unwrap();
    let out = page.render_with(&data(), &[], &FuncMap::new(), Limits::default(), Escape::Html).unwrap();
    assert_eq!(out, "T:api &lt;b&gt;");
}

fn alert(source: &str) -> Result<String, String> {
    let labels = [("instance".to_owned(), "db.example.org:9100".to_owned()), ("job".to_owned(), "node".to_owned())];
    let external = [("region".to_owned(), "eu".to_owned())];
    let input = AlertTemplateInput {
        labels: &labels,
        value: 1234.5678,
        external_labels: &external,
        external_url: "http://trefoil.example:9090/base",
        now_ms: 1_700_000_000_500,
    };
    let query: trefoil_template::QueryFn = Arc::new(|expr: &str| {
        if expr == "bad" {
            return Err("no such thing".to_owned());
        }
        let sample = |n: &str, v| QuerySample { labels: vec![("instance".into(), n.into())], value: v };
        Ok(vec![sample("b", 2.0), sample("a", 1.0)])
    });
    expand_alert_template(source, &input, Some(query))
}

#[test]
fn alert_functions() {
    let table = [
        (
            "{{ $labels.instance }} of {{ $labels.job }}{{ $labels.x }} {{ $value }}",
            "db.example.org:9100 of node 1234.5678",
        ),
        (
            "{{ .Labels.job }} {{ .Value }} {{ $externalLabels.region }} {{ $externalURL }}",
            "node 1234.5678 eu http://trefoil.example:9090/base",
        ),
        ("{{ humanize $value }} {{ humanize 0.0123 }} {{ humanize 0 }} {{ humanize \"1e9\" }}", "1.235k 12.3m 0 1G"),
        ("{{ humanize1024 2048 }} {{ humanize1024 1 }}", "2ki 1"),
        (
            "{{ humanizeDuration 0.12345 }} {{ humanizeDuration 42.5 }} {{ humanizeDuration 3601 }} {{ humanizeDuration -90061 }}",
            "123.5ms 42.5s 1h 0m 1s -1d 1h 1m 1s",
        ),
        (
            "{{ humanizePercentage 0.98765 }} {{ humanizeTimestamp 1435065584.128 }}",
            "98.77% 2015-06-23 13:19:44.128 +0000 UTC",
        ),
        (
            "{{ query \"up\" | first | value }} {{ query \"up\" | sortByLabel \"instance\" | first | label \"instance\" }}",
            "2 a",
        ),
        ("{{ range query \"up\" }}{{ .Labels.instance }}={{ .Value }};{{ end }}", "b=2;a=1;"),
        ("{{ title \"aa bB\" }} {{ toUpper \"x\" }} {{ toLower \"X\" }}", "Aa BB X x"),
        ("{{ match \"a.*\" \"xab\" }} {{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }}", "true xa"),
        (
            "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }} {{ stripDomain \"10.0.0.1:80\" }}",
            "db.example.org db:9100 10.0.0.1:80",
        ),
        (
            "{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }}",
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        ),
        (
            "{{ parseDuration \"1h30m\" }} {{ toTime 1435065584.128 }} {{ (toTime 0.0).Year }} {{ toDuration 90 }}",
            "5400 2015-06-23 13:19:44.128 +0000 UTC 1970 1m30s",
        ),
        ("{{ pathPrefix }} {{ externalURL }} {{ now }}", "/base http://trefoil.example:9090/base 1.7000000005e+09"),
        (
            "{{ define \"t\" }}{{ .arg0 }}-{{ .arg1 }}{{ end }}{{ tmpl \"t\" (args 1 \"b\") }}{{ template \"t\" (args 2 3) }}",
            "1-b2-3",
        ),
        (
            "{{ $value | printf \"%.1f\" }} {{ with $labels.job }}{{ . }}{{ end }} {{ safeHtml \"<b>\" }}",
            "1234.6 node <b>",
        ),
        ("{{ (query \"up\" | first).Labels.instance }}", "b"),
    ];
    for (source, want) in table {
        assert_eq!(alert(source).as_deref(), Ok(want), "{source}");
    }
    assert!(alert("{{ query \"bad\" }}").unwrap_err().contains("no such thing"));
    assert!(alert("a {{ nofunc }}").unwrap_err().contains("col 6"));
}

fn conformance(path: &str) -> Option<PathBuf> {
    let root = std::env::var("TREFOIL_CONFORMANCE")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/conformance").to_owned());
    let path = PathBuf::from(root).join(path);
    if path.exists() {
        return Some(path);
    }
    #[expect(clippy::print_stdout, reason = "a skipped test must say so")]
    {
        println!("skipped: {}", path.display());
    }
    None
}

#[test]
fn awesome_alert_templates_parse_and_render() {
    let Some(directory) = conformance("rules/awesome-prometheus-alerts") else { return };
    let mut templates = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let document: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for group in document["groups"].as_array().into_iter().flatten() {
            for rule in group["rules"].as_array().into_iter().flatten() {
                for part in ["labels", "annotations"] {
                    for (name, text) in rule[part].as_object().into_iter().flatten() {
                        let text = text.as_str().unwrap_or_default();
                        check_alert_template(text)
                            .unwrap_or_else(|e| panic!("{} {} {name}: {e}\n{text}", path.display(), rule["alert"]));
                        alert(text)
                            .unwrap_or_else(|e| panic!("{} {} {name}: {e}\n{text}", path.display(), rule["alert"]));
                        templates += 1;
                    }
                }
            }
        }
    }
    assert!(templates > 500, "{templates}");
}

#[test]
fn go_times() {
    use trefoil_template::go_time::{Time, format_duration, format_layout, parse_duration, parse_layout};
    let time = Time::from_unix_ns(1_709_251_217_120_000_000).0;
    for (layout, want) in [
        ("2006-01-02T15:04:05Z07:00", "2024-03-01T00:00:17Z"),
        ("Mon, 02 Jan 2006 15:04:05 MST", "Fri, 01 Mar 2024 00:00:17 UTC"),
        ("Monday January _2 3:04PM .000 -0700", "Friday March  1 12:00AM .120 +0000"),
        ("06/1/2 15:04:05.999999999", "24/3/1 00:00:17.12"),
    ] {
        assert_eq!(format_layout(&time, layout), want);
    }
    let utc = jiff_utc();
    let parsed = parse_layout("2006-01-02 15:04:05", "2024-03-01 00:00:17.12", &utc).unwrap();
    assert_eq!(parsed.timestamp(), time.timestamp());
    assert!(parse_layout("2006-01-02", "2024-13-01", &utc).is_none());
    for (text, ns) in [
        ("1h15m30.918s", 4_530_918_000_000),
        ("-1.5h", -5_400_000_000_000),
        ("1m2s", 62_000_000_000),
        ("0", 0),
        ("100ms", 100_000_000),
    ] {
        assert_eq!(parse_duration(text), Some(ns), "{text}");
    }
    for bad in ["", "1", "1d", "h", "1.2.3s", "-"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
    assert_eq!(format_duration(3_723_500_000_000), "1h2m3.5s");
    assert_eq!(format_duration(1_500), "1.5µs");
}

fn jiff_utc() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::UTC
}

/// Labels as Alertmanager's templates see them: a map with methods.
#[derive(Debug)]
struct KeyValues(Vec<(&'static str, &'static str)>);

impl trefoil_template::Object for KeyValues {
    fn field(&self, name: &str) -> Option<Value> {
        Some(Value::from(self.0.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| *v)))
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let list = |texts: Vec<&'static str>| Value::list(texts.into_iter().map(Value::from).collect());
        Some(Ok(match name {
            "Names" => list(self.0.iter().map(|(n, _)| *n).collect()),
            "Values" => list(self.0.iter().map(|(_, v)| *v).collect()),
            "Remove" => {
                let Some(Value::List(names)) = arguments.first() else { return Some(Err("no names".to_owned())) };
                let kept = |n: &str| !names.iter().any(|r| r.as_str() == Some(n));
                Value::object(Self(self.0.iter().copied().filter(|(n, _)| kept(n)).collect()))
            }
            _ => return None,
        }))
    }

    fn text(&self) -> String {
        format!("{:?}", self.0)
    }

    fn truth(&self) -> bool {
        !self.0.is_empty()
    }

    fn items(&self) -> Option<Value> {
        Some(Value::map(Map::strings(self.0.iter().map(|(n, v)| (*n, *v)))))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn type_name(&self) -> &'static str {
        "template.KV"
    }
}

#[test]
fn objects_have_methods_members_and_items() {
    let data = Value::map(Map::any([
        ("Status", Value::from("firing")),
        ("GroupLabels", Value::object(KeyValues(vec![("alertname", "Down")]))),
        ("CommonLabels", Value::object(KeyValues(vec![("alertname", "Down"), ("job", "node")]))),
    ]));
    let mut functions = FuncMap::new();
    functions.add("join", |a| {
        let Some(Value::List(items)) = a.get(1) else { return Err("no list".to_owned()) };
        let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        Ok(Value::from(texts.join(a[0].as_str().unwrap_or_default())))
    });
    functions.extend(&trefoil_template::prometheus_funcs::pure_functions());
    let source = concat!(
        "{{ define \"__subject\" }}[{{ .Status | toUpper }}{{ if eq .Status \"firing\" }}:{{ .CommonLabels | len }}",
        "{{ end }}] {{ .GroupLabels.Values | join \" \" }} {{ if gt (len .CommonLabels) (len .GroupLabels) }}",
        "({{ with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join \" \" }}{{ end }}){{ end }}{{ end }}",
        "{{ template \"__subject\" . }}|{{ range $n, $v := .CommonLabels }}{{ $n }}={{ $v }} {{ end }}|{{ .CommonLabels.job }}",
    );
    let template = Template::parse("t", source).unwrap();
    template.check_functions(&functions).unwrap();
    let out = template.render(&data, &functions, Limits::default());
    assert_eq!(out.as_deref(), Ok("[FIRING:2] Down (node)|alertname=Down job=node |node"));
}
