//! How long log records are kept, by their stream.

use trefoil_model::Matcher;

use crate::decode::{Decode, Encode, Sink, section};
use crate::duration::PromDuration;
use crate::trefoil::lifecycle::Selector;
use crate::values::Limit;
use crate::yaml::{Node, Value};

/// A selector of log streams as in LogQL: `{app="debug", env=~"dev|test"}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamSelector(Selector);

impl StreamSelector {
    /// The selector as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// All must hold.
    pub fn matchers(&self) -> &[Matcher] {
        self.0.matchers()
    }

    /// Returns what makes a selector of series none of streams.
    fn check(selector: &Selector) -> Result<(), String> {
        let text = selector.as_str();
        let fault = if !text.trim_start().starts_with('{') {
            "a stream selector begins with '{'"
        } else if selector.matchers().is_empty() {
            "it selects all streams, for which there is retention.logs"
        } else if selector.matchers().iter().any(|matcher| matcher.name == "__name__") {
            "streams have no metric name"
        } else {
            return Ok(());
        };
        Err(format!("selector {text:?}: {fault}"))
    }
}

impl Decode for StreamSelector {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let selector = Selector::decode(node, sink)?;
        Self::check(&selector).map_err(|message| sink.error(node.pos, message)).ok()?;
        Some(Self(selector))
    }
}

impl Encode for StreamSelector {
    fn encode(&self) -> Value {
        self.0.encode()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

section! {
    /// Keeps the log streams that a selector selects for another time than `retention.logs`.
    pub struct LogRetentionRuleConfig {
        /// Which streams, in quotes: `'{service_name="debug"}'`. Required.
        pub r#match: StreamSelector = StreamSelector::default(),
        /// How long they are kept. Required.
        pub keep: Limit<PromDuration> = Limit::At(PromDuration::ZERO),
    }
    check LogRetentionRuleConfig::check
}

impl LogRetentionRuleConfig {
    fn check(&mut self, node: &Node, sink: &mut Sink) {
        // One that is wrong was told already.
        let is_given = node.get("match").is_some();
        sink.require(is_given, node.pos, "match is required: a stream selector such as {service_name=\"debug\"}");
        let is_given = self.keep.get().is_none_or(|d| !d.is_zero());
        sink.require(is_given, node.pos, "keep is required: a duration or the word unlimited");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        let got = Selector::parse(text).and_then(|selector| StreamSelector::check(&selector)).err();
        match (got, want) {
            (None, None) => {}
            (Some(message), Some(want)) if message.contains(want) => {}
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn stream_selectors() {
        check(r#"{app="a", env=~"dev|test", level!="x"}"#, None);
        check(" {app=`a`}", None);
        check("{}", Some("selects all"));
        check("up", Some("begins with"));
        check(r#"up{app="a"}"#, Some("begins with"));
        check(r#"{"up"}"#, Some("no metric name"));
        check(r#"{app="a"} |= "x""#, Some("end of the selector"));
    }
}
