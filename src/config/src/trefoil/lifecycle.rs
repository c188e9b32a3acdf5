//! What becomes of samples as they grow old: retention and downsampling by selector.

use trefoil_model::{MatchOp, Matcher};

use crate::decode::{Decode, Encode, Sink, scalar_text, section};
use crate::duration::PromDuration;
use crate::values::Limit;
use crate::yaml::{Kind, Node, Scalar, Value};

/// A selector of series as in PromQL: `{job="debug", path=~"/api/.*"}`, `up`, `up{job="a"}`. `{}` selects all.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    text: String,
    matchers: Vec<Matcher>,
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Selector {
    /// The selector as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// All must hold.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    /// Reads a selector; the message of an error names the character at which it went wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut from = Text { text, at: 0 };
        let matchers = from.selector().map_err(|what| {
            let column = text[..from.at].chars().count() + 1;
            format!("selector {text:?}, character {column}: {what}")
        })?;
        Ok(Self { text: text.to_owned(), matchers })
    }
}

struct Text<'a> {
    text: &'a str,
    at: usize,
}

impl Text<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn name(&mut self, with_colon: bool) -> Option<String> {
        let fits = |(i, c): &(usize, char)| {
            c.is_ascii_alphabetic() || *c == '_' || (*c == ':' && with_colon) || (*i > 0 && c.is_ascii_digit())
        };
        let length = self.rest().char_indices().take_while(fits).count();
        let name = self.rest()[..length].to_owned();
        self.at += length;
        (length > 0).then_some(name)
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let Some(quote) = quote else { return Err("expected a value in quotes".to_owned()) };
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else { return Err("the value does not end".to_owned()) };
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(out),
                '\\' if quote != '`' => {
                    let escaped = self.rest().chars().next();
                    out.push(match escaped {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some(c @ ('\\' | '"' | '\'')) => c,
                        _ => return Err("unknown escape sequence".to_owned()),
                    });
                    self.at += 1;
                }
                c => out.push(c),
            }
        }
    }

    fn selector(&mut self) -> Result<Vec<Matcher>, String> {
        let mut matchers = Vec::new();
        let equal = |name: &str, value: String| Matcher::new(MatchOp::Equal, name, value).map_err(|e| e.to_string());
        self.skip_space();
        let metric = self.name(true);
        let has_metric = metric.is_some();
        if let Some(metric) = metric {
            matchers.push(equal("__name__", metric)?);
        }
        self.skip_space();
        if self.take("{") {
            self.matchers(&mut matchers, has_metric)?;
            self.skip_space();
        } else if !has_metric {
            return Err("expected a metric name or '{'".to_owned());
        }
        if self.rest().is_empty() { Ok(matchers) } else { Err("expected the end of the selector".to_owned()) }
    }

    fn matchers(&mut self, matchers: &mut Vec<Matcher>, has_metric: bool) -> Result<(), String> {
        loop {
            self.skip_space();
            if self.take("}") {
                return Ok(());
            }
            let is_quoted = self.rest().starts_with(['"', '\'', '`']);
            let name = if is_quoted { Some(self.quoted()?) } else { self.name(false) };
            let name = name.ok_or_else(|| "expected a label name or '}'".to_owned())?;
            self.skip_space();
            if is_quoted && !has_metric && self.rest().starts_with([',', '}']) {
                matchers.push(Matcher::new(MatchOp::Equal, "__name__", name).map_err(|e| e.to_string())?);
            } else {
                let ops = [MatchOp::Regex, MatchOp::NotRegex, MatchOp::NotEqual, MatchOp::Equal];
                let op = ops.into_iter().find(|op| self.take(op.as_str()));
                let op = op.ok_or_else(|| "expected one of = != =~ !~".to_owned())?;
                self.skip_space();
                let before = self.at;
                let value = self.quoted()?;
                matchers.push(Matcher::new(op, name, value).map_err(|e| {
                    self.at = before;
                    e.to_string()
                })?);
            }
            self.skip_space();
            if !self.take(",") && !self.rest().starts_with('}') {
                return Err("expected ',' or '}'".to_owned());
            }
        }
    }
}

impl Decode for Selector {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let text = scalar_text(node, "a selector such as {job=\"debug\"}", sink)?;
        // Taken for empty it would select other series, and those are removed or thinned out.
        if let Kind::Scalar(Scalar { undefined: Some(name), .. }) = &node.kind {
            let message =
                format!("selector: environment variable {name:?} is not defined; a dollar sign is written $$");
            sink.error(node.pos, message);
            return None;
        }
        Self::parse(text).map_err(|message| sink.error(node.pos, message)).ok()
    }
}

impl Encode for Selector {
    fn encode(&self) -> Value {
        Value::Str(self.text.clone())
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

section! {
    /// Keeps the series that a selector selects for another time than `retention.metrics`.
    pub struct RetentionRuleConfig {
        /// Which series, in quotes: `'{job="debug"}'`. Required.
        pub r#match: Selector = Selector::default(),
        /// How long they are kept. Required.
        pub keep: Limit<PromDuration> = Limit::At(PromDuration::ZERO),
    }
    check RetentionRuleConfig::check
}

impl RetentionRuleConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        // One that is wrong was told already.
        let is_given = node.get("match").is_some();
        sink.require(is_given, node.pos, "match is required: a selector such as {job=\"debug\"}");
        let is_given = self.keep.get().is_none_or(|d| !d.is_zero());
        sink.require(is_given, node.pos, "keep is required: a duration or the word unlimited");
    }
}

section! {
    /// Downsamples the older samples of the series that a selector selects.
    pub struct DownsamplingConfig {
        /// Which series, in quotes: `'{__name__=~"node_.*"}'`; `'{}'` for all. Required.
        pub r#match: Selector = Selector::default(),
        /// Age from which on; whole UTC days that ended so long ago. Default 0s.
        pub after: PromDuration = PromDuration::ZERO,
        /// Length of a bucket, 1s to 1d; 0s keeps the series as they were written. Default 0s.
        pub interval: PromDuration = PromDuration::ZERO,
    }
    check DownsamplingConfig::check
}

/// Tells of stages of one selector that are not coarser the older the samples are: of those that are due the coarsest is
/// used, so a finer one would never come into force.
pub(crate) fn check_stages(stages: &[DownsamplingConfig], node: Option<&Node>, sink: &mut Sink) {
    let pos = |i: usize, key: &str| node.and_then(|n| n.item(i)).map(|n| n.key_pos(key)).unwrap_or_default();
    for (i, later) in stages.iter().enumerate() {
        for (k, earlier) in stages.iter().enumerate() {
            if i == k || later.r#match != earlier.r#match {
                continue;
            }
            let selector = later.r#match.as_str();
            if later.after == earlier.after && k < i {
                let message = format!("downsampling of {selector} has two stages after {}", later.after);
                sink.error(pos(i, "after"), message);
            }
            if later.after > earlier.after && later.interval <= earlier.interval {
                let message = format!(
                    "downsampling of {selector} after {} to {} must be coarser than {}, which holds after {}",
                    later.after, later.interval, earlier.interval, earlier.after
                );
                sink.error(pos(i, "interval"), message);
            }
        }
    }
}

/// Warns of stages that begin when the samples of all series that they can select are gone.
pub(crate) fn check_stages_within(
    stages: &[DownsamplingConfig],
    rules: &[RetentionRuleConfig],
    retention: Limit<PromDuration>,
    node: Option<&Node>,
    sink: &mut Sink,
) {
    for (i, stage) in stages.iter().enumerate() {
        if stage.interval.is_zero() {
            continue;
        }
        // A rule with the very selector says it; otherwise any rule may hold for some of the series.
        let own = rules.iter().find(|rule| rule.r#match == stage.r#match).map(|rule| rule.keep);
        let longest = |a: Option<PromDuration>, b: Option<PromDuration>| a.zip(b).map(|(a, b)| a.max(b));
        let any = rules.iter().fold(retention.get(), |most, rule| longest(most, rule.keep.get()));
        let kept = own.map_or(any, |keep| keep.get());
        if let Some(kept) = kept.filter(|kept| *kept <= stage.after) {
            let pos = node.and_then(|n| n.item(i)).map(|n| n.key_pos("after")).unwrap_or_default();
            let selector = stage.r#match.as_str();
            let message = format!(
                "downsampling of {selector} after {} never happens: samples are kept for {kept} at most",
                stage.after
            );
            sink.warn(pos, "trefoil.downsampling", message);
        }
    }
}

impl DownsamplingConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        // One that is wrong was told already.
        let is_given = node.get("match").is_some();
        sink.require(is_given, node.pos, "match is required: a selector such as {job=\"debug\"}");
        let ms = self.interval.as_ms();
        let fits = ms == 0 || (1_000..=86_400_000).contains(&ms);
        sink.require(fits, node.key_pos("interval"), "downsampling interval must be 0s, or 1s to 1d");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<&str, &str>) {
        let got = Selector::parse(text).map(|s| {
            let all: Vec<String> =
                s.matchers().iter().map(|m| format!("{}{}{}", m.name, m.op.as_str(), m.value)).collect();
            all.join(" ")
        });
        match want {
            Ok(want) => assert_eq!(got.as_deref(), Ok(want), "{text}"),
            Err(want) => {
                let message = got.unwrap_err();
                assert!(message.contains(want), "{text}: {message}");
            }
        }
    }

    #[test]
    fn selectors() {
        check("{}", Ok(""));
        check("up", Ok("__name__=up"));
        check(" a:b { job = 'x' , c!~`\\d+`, } ", Ok("__name__=a:b job=x c!~\\d+"));
        check(r#"{"some.metric", "a.b"!="q\"\n", d=~"e|"}"#, Ok("__name__=some.metric a.b!=q\"\n d=~e|"));
        check("", Err("character 1: expected a metric name or '{'"));
        check("{a=\"b\"", Err("character 7: expected ',' or '}'"));
        check("{a=b}", Err("character 4: expected a value in quotes"));
        check("{a=~\"(\"}", Err("character 5: error parsing regexp: missing closing ): `(`"));
        check("{a}", Err("character 3: expected one of"));
        check("up[5m]", Err("character 3: expected the end"));
        check("{ä=\"x\"}", Err("character 2: expected a label name"));
        check("{a=\"x", Err("the value does not end"));
        check("{a=\"\\ä\"}", Err("unknown escape"));
    }
}
