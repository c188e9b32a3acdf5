//! What a query tells the store to leave out: everything here must hold for each document that satisfies the query.

use trefoil_model::labels::underscored;
use trefoil_model::{Labels, MatchOp, Matcher, NanoRange};

use crate::doc::{Field, ID_ATTRIBUTE, INDEX_ATTRIBUTE, Position};
use crate::query::{Query, Test};

/// Shortest word that is worth a look into the index.
const WORD_BYTES_MIN: usize = 2;

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) range: NanoRange,
    /// Lower-case texts of ASCII that the line holds in either case.
    pub(crate) words: Vec<String>,
    /// Texts that the line holds as they are.
    pub(crate) needles: Vec<String>,
    /// Attributes that are never lists.
    pub(crate) attribute_terms: Vec<(String, String)>,
    /// Fields whose values are texts, as label or attribute.
    pub(crate) terms: Vec<(String, String)>,
}

/// One scan that makes up a part of the answer; the scans of a query have no record in common.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) attribute_terms: Vec<(String, String)>,
}

impl Hints {
    pub(crate) fn of(query: &Query) -> Self {
        let mut hints = Self {
            range: NanoRange::ALL,
            words: Vec::new(),
            needles: Vec::new(),
            attribute_terms: Vec::new(),
            terms: Vec::new(),
        };
        hints.add(query);
        hints.words.sort();
        hints.words.dedup();
        hints
    }

    /// Narrows to `start_ns <= t < end_ns`.
    pub(crate) fn within(&mut self, start_ns: i64, end_ns: i64) {
        self.range.start_ns = self.range.start_ns.max(start_ns);
        self.range.end_ns = self.range.end_ns.min(end_ns);
    }

    fn nothing(&mut self) {
        self.range = NanoRange::new(0, 0);
    }

    fn add(&mut self, query: &Query) {
        match query {
            Query::All => {}
            Query::None => self.nothing(),
            Query::Bool(all) => {
                all.must.iter().for_each(|q| self.add(q));
                if all.should_min >= all.should.len() {
                    all.should.iter().for_each(|q| self.add(q));
                }
                if all.should_min > all.should.len() {
                    self.nothing();
                }
            }
            // An id that looks like ours may be a sender's.
            Query::Ids(ids) => match ids.texts.iter().next() {
                None => self.nothing(),
                Some(id) if ids.texts.len() == 1 && Position::of_id(id).is_none() => {
                    self.attribute_terms.push((ID_ATTRIBUTE.to_owned(), id.clone()));
                }
                Some(_) => {}
            },
            Query::Leaf(leaf) => {
                if let Some(field) = leaf.target.single() {
                    self.add_test(field, &leaf.test);
                }
            }
        }
    }

    fn add_test(&mut self, field: &Field, test: &Test) {
        match (field, test) {
            (Field::Timestamp, Test::Range { time: (start, end), .. }) => self.within(*start, *end),
            (Field::Timestamp, Test::Term { literal, .. } | Test::Words { whole: literal, edits: None, .. }) => {
                if let Some((first, last)) = literal.time {
                    self.within(first, last.saturating_add(1));
                }
            }
            (Field::Message { is_keyword: false }, test) => self.add_words(test),
            (Field::Message { is_keyword: true }, test) => match test {
                Test::Term { literal, ignores_case: false } => self.needles.push(literal.text.clone()),
                Test::Prefix { prefix, ignores_case: false, .. } => self.needles.push(prefix.clone()),
                Test::Wildcard { glob, .. } => self.needles.extend(glob.parts().map(str::to_owned)),
                _ => {}
            },
            (field, Test::Term { literal, ignores_case: false } | Test::Words { whole: literal, edits: None, .. })
            | (field, Test::Phrase { whole: literal, is_prefix: false, .. }) => self.add_term(field, &literal.text),
            _ => {}
        }
    }

    fn add_words(&mut self, test: &Test) {
        let mut word = |text: &str| {
            if text.is_ascii() && text.len() >= WORD_BYTES_MIN {
                self.words.push(text.to_ascii_lowercase());
            }
        };
        match test {
            Test::Term { literal, .. } => word(&literal.text),
            Test::Words { words, min, edits: None, .. } if *min >= words.len() => words.iter().for_each(|w| word(w)),
            Test::Phrase { words, .. } => words.iter().for_each(|w| word(w)),
            Test::Prefix { lowered, .. } => word(lowered),
            Test::Wildcard { lowered, .. } => lowered.parts().for_each(word),
            _ => {}
        }
    }

    fn add_term(&mut self, field: &Field, text: &str) {
        match field {
            Field::TraceId => self.attribute_terms.push(("trace_id".to_owned(), text.to_owned())),
            Field::SpanId => self.attribute_terms.push(("span_id".to_owned(), text.to_owned())),
            // What reads as a number or a boolean may equal a value that is written otherwise.
            Field::Other(name) if crate::doc::number(text).is_none() => {
                self.terms.push((name.clone(), text.to_owned()));
            }
            _ => {}
        }
    }

    /// Whether [`Hints::passes`] needs to know the streams.
    pub(crate) fn wants_streams(&self) -> bool {
        !self.terms.is_empty()
    }

    /// The scans to make, by the streams that there are in the range.
    ///
    /// A term is a condition on streams when every stream has the label, as a label hides an attribute. When only
    /// some have the index as a label, they are one scan and the others another, which look at attributes.
    pub(crate) fn passes(&self, streams: &[Labels]) -> Vec<Pass> {
        let mut all = Pass { matchers: Vec::new(), attribute_terms: self.attribute_terms.clone() };
        let mut split: Option<(String, &str)> = None;
        for (name, value) in &self.terms {
            let plain = underscored(name);
            let is_other = |label: &str| underscored(label) == plain && label != name;
            if streams.iter().any(|labels| labels.iter().any(|(label, _)| is_other(label))) {
                continue;
            }
            let with = streams.iter().filter(|labels| labels.get(name).is_some()).count();
            if !streams.is_empty() && with == streams.len() {
                all.matchers.extend(Matcher::new(MatchOp::Equal, plain, value).ok());
            } else if name == INDEX_ATTRIBUTE && with == 0 {
                all.attribute_terms.push((plain.into_owned(), value.clone()));
            } else if name == INDEX_ATTRIBUTE {
                split = Some((plain.into_owned(), value));
            }
        }
        let Some((name, value)) = split else { return vec![all] };
        let matcher = |value: &str| Matcher::new(MatchOp::Equal, name.clone(), value).ok();
        let (mut with, mut without) = (all.clone(), all);
        with.matchers.extend(matcher(value));
        without.matchers.extend(matcher(""));
        without.attribute_terms.push((name.clone(), value.to_owned()));
        vec![with, without]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hints(query: serde_json::Value) -> Hints {
        Hints::of(&crate::dsl::parse(&query, &mut crate::dsl::Context::new(1_700_000_000_000)).unwrap())
    }

    #[test]
    fn conditions_that_must_hold_narrow() {
        let got = hints(json!({"bool": {
            "filter": [
                {"range": {"@timestamp": {"gte": 1000, "lte": 2000, "format": "epoch_millis"}}},
                {"query_string": {"query": "message:(\"Connection refused\" AND time*t) AND trace.id:abc AND service.name:shop"}},
            ],
            "must_not": [{"match": {"message": "peer"}}],
            "should": [{"match": {"message": "ignored"}}],
        }}));
        assert_eq!(got.range, NanoRange::new(1_000_000_000, 2_001_000_000));
        assert_eq!(got.words, ["connection", "refused", "time"]);
        assert_eq!(got.attribute_terms, [("trace_id".to_owned(), "abc".to_owned())]);
        assert_eq!(got.terms, [("service.name".to_owned(), "shop".to_owned())]);
        let either = hints(json!({"query_string": {"query": "message:a1 OR message:b1"}}));
        assert!(either.words.is_empty());
        assert_eq!(hints(json!({"match_none": {}})).range, NanoRange::new(0, 0));
        assert_eq!(hints(json!({"match": {"message": {"query": "one two", "operator": "and"}}})).words, ["one", "two"]);
    }

    #[test]
    fn labels_of_all_streams_become_matchers() {
        let got = hints(json!({"term": {"service.name": "shop"}}));
        let labels = |name: &str| Labels::from_pairs([(name, "x")]);
        let names =
            |streams: &[Labels]| got.passes(streams)[0].matchers.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&[labels("service.name"), labels("service.name")]), ["service_name"]);
        assert!(names(&[labels("service.name"), labels("job")]).is_empty());
        assert!(names(&[labels("service.name"), labels("service_name")]).is_empty());
        let index = hints(json!({"term": {"_index": "app"}}));
        assert!(index.terms.is_empty(), "the name of an index is handled by the search");
    }
}
