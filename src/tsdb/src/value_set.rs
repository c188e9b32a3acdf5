//! The values of a label that a pattern accepts, in a form that a sorted dictionary can be walked with.
//!
//! A pattern becomes a deterministic automaton. The dictionary is an automaton too, so the walk follows both at once
//! and leaves a branch of the dictionary out as soon as nothing below it can match (`pre.*`, `(?i)abc`, `[0-9]+-x`).
//! Where the text may stand anywhere (`.*mid.*`, `.*suf`) there is nothing to leave out, but bytes that values share
//! are looked at once, and no regex is called. Patterns whose automaton would be large are tested value by value.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::hir::{Hir, Look};
use trefoil_model::Matcher;

/// Bytes that an automaton, and what it is built with, may take.
const DFA_BYTES_MAX: usize = 2 << 20;
/// Bytes of the program that the automaton is made of.
const NFA_BYTES_MAX: usize = 1 << 20;
/// Automata that are kept: dashboards ask the same again and again, and a query asks every part.
const KEPT_MAX: usize = 64;
/// Bytes of all automata that are kept.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// The values that a pattern matches as a whole, with `.` matching newlines, as [`Matcher`] does.
#[derive(Debug)]
pub(crate) struct ValueSet {
    dfa: dense::DFA<Vec<u32>>,
    start: StateID,
}

type Kept = VecDeque<(String, Option<Arc<ValueSet>>)>;

/// Latest use first. Patterns without an automaton are remembered too.
static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

impl ValueSet {
    /// What the pattern of a `=~` or `!~` matches, whatever the sign. `None` when the automaton would be too large.
    pub(crate) fn of(matcher: &Matcher) -> Option<Arc<Self>> {
        if !matcher.is_pattern() {
            return None;
        }
        {
            let mut kept = KEPT.lock();
            if let Some(at) = kept.iter().position(|(pattern, _)| *pattern == matcher.value) {
                let found = kept.remove(at).expect("the position was just found");
                kept.push_front(found);
                return kept[0].1.clone();
            }
        }
        let set = Self::of_pattern(&matcher.value).map(Arc::new);
        let mut kept = KEPT.lock();
        kept.push_front((matcher.value.clone(), set.clone()));
        let bytes = |kept: &Kept| -> usize {
            kept.iter().map(|(p, set)| p.len() + set.as_ref().map_or(0, |s| s.dfa.memory_usage())).sum()
        };
        while kept.len() > KEPT_MAX || (kept.len() > 1 && bytes(&kept) > KEPT_BYTES_MAX) {
            kept.pop_back();
        }
        set
    }

    fn of_pattern(pattern: &str) -> Option<Self> {
        let hir = trefoil_model::re2::matcher_hir(pattern)?;
        let config =
            thompson::Config::new().which_captures(thompson::WhichCaptures::None).nfa_size_limit(Some(NFA_BYTES_MAX));
        let whole = Hir::concat(vec![hir, Hir::look(Look::End)]);
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&whole).ok()?;
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(DFA_BYTES_MAX))
            .determinize_size_limit(Some(DFA_BYTES_MAX));
        let dfa = dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()?;
        let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        Some(Self { dfa, start })
    }

    /// Whether the pattern matches a value.
    pub(crate) fn contains(&self, value: &str) -> bool {
        let mut state = self.start;
        for byte in value.bytes() {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_dead_state(state) {
                return false;
            }
        }
        self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }
}

impl fst::Automaton for &ValueSet {
    type State = StateID;

    fn start(&self) -> StateID {
        self.start
    }

    fn is_match(&self, state: &StateID) -> bool {
        self.dfa.is_match_state(self.dfa.next_eoi_state(*state))
    }

    fn can_match(&self, state: &StateID) -> bool {
        !self.dfa.is_dead_state(*state)
    }

    fn accept(&self, state: &StateID, byte: u8) -> StateID {
        self.dfa.next_state(*state, byte)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trefoil_model::MatchOp;

    use super::*;

    /// The set, the dictionary walk and the matcher agree on values.
    fn check(pattern: &str, values: &[String]) {
        let Ok(matcher) = Matcher::new(MatchOp::Regex, "l", pattern) else { return };
        let Some(set) = ValueSet::of(&matcher) else { return };
        let mut sorted: Vec<&str> = values.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let want: Vec<&str> = sorted.iter().copied().filter(|v| matcher.matches(v)).collect();
        let got: Vec<&str> = sorted.iter().copied().filter(|v| set.contains(v)).collect();
        assert_eq!(got, want, "{pattern:?}");
        let dictionary = fst::Set::from_iter(&sorted).unwrap();
        let walked = fst::IntoStreamer::into_stream(dictionary.search(&*set)).into_strs().unwrap();
        assert_eq!(walked, want, "{pattern:?}");
    }

    const VALUES: &[&str] = &[
        "",
        "a",
        "b",
        "ab",
        "abc",
        "ABC",
        "aBc",
        "abcd",
        "a\nb",
        "\n",
        "x-abc-y",
        "prefix-1",
        "prefix-22",
        "1-suffix",
        "suffix",
        "größe",
        "Größe",
        "a{",
        "[&&0]",
        "\u{663}",
        "GRÖSSE",
        "日本",
        "日",
        "a.b",
        "aXb",
        "  ",
        "0",
        "12",
        "12-x",
        "k",
        "\u{212a}",
    ];

    #[test]
    fn patterns_of_every_kind() {
        let values: Vec<String> = VALUES.iter().map(|v| (*v).to_owned()).collect();
        for pattern in [
            "",
            ".*",
            ".+",
            "a|b|ab",
            "prefix-.*",
            ".*suffix",
            ".*abc.*",
            "(?i)abc",
            "(?i)k",
            "(?i)größe",
            "[0-9]+",
            "[0-9]+-x",
            "a.b",
            r"a\.b",
            "(a|b)c?",
            "^abc$",
            "^a|b$",
            "a$|^b",
            "(?:)",
            "a{2,3}|b",
            ".",
            "..",
            r"\w+",
            r"\d*",
            r"[^a]*",
            "日.*",
            ".*本",
            "(?-s).*",
            "(?s).*",
            "a*?b",
            r"\babc\b",
            r".*\babc\b.*",
            "$",
            "^",
            "()|a",
            r"(?m)^b$",
            r"a\nb",
            "x*",
            "[[:alpha:]]+",
            "a{",
            "[&&0]+",
            "[\\d&&[^1]]*]",
            r"\Q[&&0]\E",
            r"(?i)\w+",
            r"\W+",
            r"\Bk|a\b.*",
            r"\pL+",
        ] {
            check(pattern, &values);
        }
    }

    #[test]
    fn what_is_too_large_has_no_automaton() {
        let matcher = Matcher::new(MatchOp::Regex, "l", r".*a.{18}b.*").unwrap();
        assert!(ValueSet::of(&matcher).is_none());
        // Remembered, also when others come.
        for i in 0..2 * KEPT_MAX {
            assert!(ValueSet::of(&Matcher::new(MatchOp::Regex, "l", format!("a{i}.*")).unwrap()).is_some());
        }
        assert!(KEPT.lock().len() <= KEPT_MAX);
        assert!(ValueSet::of(&Matcher::equal("l", "x")).is_none());
    }

    proptest! {
        #[test]
        fn any_pattern_over_any_values(
            pattern in "(\\(\\?i\\))?([abA0.é]|\\.\\*|\\.\\+|\\[ab\\]|\\[\\^b\\]|\\(a\\|bb\\)|b\\?|a\\*|\\||\\^|\\$|\\\\d){0,6}",
            values in prop::collection::vec("[abAB0é\n]{0,5}", 0..40),
        ) {
            check(&pattern, &values);
        }
    }
}
