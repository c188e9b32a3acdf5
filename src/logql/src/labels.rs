//! The labels of one line on its way through a pipeline, kept apart by where they came from.

use std::borrow::Cow;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use trefoil_model::labels::underscored;
use trefoil_model::log::level_of_severity;
use trefoil_model::{Attributes, Labels, LogEntry, LogRecord};

/// Set when a stage could not do its work.
pub const ERROR_LABEL: &str = "__error__";
/// The reason behind [`ERROR_LABEL`].
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";
const DUPLICATE_SUFFIX: &str = "_extracted";

/// Where a label came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Category {
    Stream = 0,
    Metadata = 1,
    Parsed = 2,
}

/// Labels of a stream with names as LogQL sees them.
#[derive(Debug, Default)]
pub(crate) struct StreamLabels {
    /// Sorted by name, names unique.
    pairs: Vec<(String, String)>,
}

impl StreamLabels {
    pub(crate) fn new(labels: &Labels) -> Self {
        let mut pairs: Vec<(String, String)> =
            labels.iter().map(|(n, v)| (underscored(n).into_owned(), v.to_owned())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|b, a| a.0 == b.0);
        Self { pairs }
    }

    /// Whether there is a label of the name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.pairs.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok()
    }
}

/// The labels of the line at hand. Buffers are reused from line to line.
#[derive(Debug, Default)]
pub(crate) struct LineLabels {
    base: Arc<StreamLabels>,
    /// Per base label: removed or replaced.
    hidden: Vec<bool>,
    /// By category.
    added: [Vec<(String, String)>; 3],
    /// Names that parsers gave a value, whether or not it is still there.
    extracted: Vec<String>,
    error: Option<&'static str>,
    error_details: String,
    /// When set, no other label needs to be kept.
    wanted: Option<FxHashSet<String>>,
}

impl LineLabels {
    /// Labels of lines for a result that depends on these alone; `None` for all.
    pub(crate) fn wanting(wanted: Option<FxHashSet<String>>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Whether metadata of the name must be kept: also to tell whether a parsed label gets the suffix.
    fn wants_metadata(&self, name: &str) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        let suffixed = || wanted.iter().any(|w| w.strip_suffix(DUPLICATE_SUFFIX).is_some_and(|w| w == name));
        wanted.contains(name) || suffixed()
    }

    /// Starts a line: stream labels only.
    pub(crate) fn start(&mut self, base: &Arc<StreamLabels>) {
        if !Arc::ptr_eq(&self.base, base) {
            self.base = Arc::clone(base);
        }
        self.hidden.clear();
        self.hidden.resize(self.base.pairs.len(), false);
        for list in &mut self.added {
            list.clear();
        }
        self.extracted.clear();
        self.error = None;
        self.error_details.clear();
    }

    /// Adds the structured metadata of a record; returns the bytes of what was kept.
    pub(crate) fn add_metadata(&mut self, entry: &LogEntry<'_>) -> u64 {
        self.add_attributes(entry.shared, entry.record)
    }

    /// Adds the attributes of a group and of a record of it, likewise.
    pub(crate) fn add_attributes(&mut self, shared: &Attributes, record: &LogRecord) -> u64 {
        for (name, value) in &record.attributes {
            self.add_one_metadata(name, || value.to_text());
        }
        for (name, value) in shared {
            self.add_one_metadata(name, || value.to_text());
        }
        if let Some(id) = &record.trace_id {
            self.add_one_metadata("trace_id", || id.to_string());
        }
        if let Some(id) = &record.span_id {
            self.add_one_metadata("span_id", || id.to_string());
        }
        if !record.severity_text.is_empty() {
            self.add_one_metadata("severity_text", || record.severity_text.clone());
            if record.severity_number > 0 {
                self.add_one_metadata("severity_number", || record.severity_number.to_string());
            }
        }
        if let Some(level) = level_of_severity(record.severity_number) {
            self.add_one_metadata("detected_level", || level.to_owned());
        }
        self.added[Category::Metadata as usize].iter().map(|(n, v)| (n.len() + v.len()) as u64).sum()
    }

    /// The first value of a name wins.
    fn add_one_metadata(&mut self, name: &str, value: impl FnOnce() -> String) {
        let mut name = underscored(name);
        if !self.wants_metadata(&name) {
            return;
        }
        if self.base.position(&name).is_some() {
            if name == "detected_level" {
                return;
            }
            name = Cow::Owned(format!("{name}{DUPLICATE_SUFFIX}"));
        }
        let metadata = &mut self.added[Category::Metadata as usize];
        if !metadata.iter().any(|(n, _)| *n == name) {
            metadata.push((name.into_owned(), value()));
        }
    }

    /// Sets what a parser found; a name that the stream or the metadata has gets a suffix, the first value of a name
    /// stays.
    pub(crate) fn extract(&mut self, name: &str, value: impl Into<String>) {
        let taken = self.base.position(name).is_some()
            || self.added[Category::Metadata as usize].iter().any(|(n, _)| n == name);
        let name = if taken { Cow::Owned(format!("{name}{DUPLICATE_SUFFIX}")) } else { Cow::Borrowed(name) };
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&*name)) {
            return;
        }
        if self.extracted.iter().any(|n| *n == name) {
            return;
        }
        self.extracted.push(name.clone().into_owned());
        self.set(Category::Parsed, &name, value.into());
    }

    /// Sets a label of a category. What was parsed wins over metadata, metadata over the stream.
    pub(crate) fn set(&mut self, category: Category, name: &str, value: String) {
        for higher in &self.added[category as usize + 1..] {
            if higher.iter().any(|(n, _)| n == name) {
                return;
            }
        }
        for lower in &mut self.added[..category as usize] {
            lower.retain(|(n, _)| n != name);
        }
        if let Some(at) = self.base.position(name) {
            self.hidden[at] = true;
        }
        let list = &mut self.added[category as usize];
        match list.iter_mut().find(|(n, _)| n == name) {
            Some(pair) => pair.1 = value,
            None => list.push((name.to_owned(), value)),
        }
    }

    /// Removes a label.
    pub(crate) fn remove(&mut self, name: &str) {
        match name {
            ERROR_LABEL => self.error = None,
            ERROR_DETAILS_LABEL => self.error_details.clear(),
            _ => {
                for list in &mut self.added {
                    list.retain(|(n, _)| n != name);
                }
                if let Some(at) = self.base.position(name) {
                    self.hidden[at] = true;
                }
            }
        }
    }

    /// Keeps what `keep` says; errors stay.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        for list in &mut self.added {
            list.retain(|(n, v)| keep(n, v));
        }
        for ((name, value), hidden) in self.base.pairs.iter().zip(&mut self.hidden) {
            *hidden |= !keep(name, value);
        }
    }

    /// The value of a label and where it came from.
    pub(crate) fn find(&self, name: &str) -> Option<(&str, Category)> {
        for category in [Category::Stream, Category::Metadata, Category::Parsed] {
            if let Some((_, value)) = self.added[category as usize].iter().find(|(n, _)| n == name) {
                return Some((value, category));
            }
        }
        let at = self.base.position(name)?;
        (!self.hidden[at]).then(|| (self.base.pairs[at].1.as_str(), Category::Stream))
    }

    /// The value of a label, the error labels included.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        match name {
            ERROR_LABEL => self.error,
            ERROR_DETAILS_LABEL => (!self.error_details.is_empty()).then_some(self.error_details.as_str()),
            _ => self.find(name).map(|(value, _)| value),
        }
    }

    pub(crate) fn set_error(&mut self, error: &'static str, details: impl Into<String>) {
        self.error = Some(error);
        self.error_details = details.into();
    }

    pub(crate) fn error(&self) -> Option<&'static str> {
        self.error
    }

    /// All labels of a category, in no particular order; the error labels count as parsed.
    pub(crate) fn of(&self, category: Category) -> impl Iterator<Item = (&str, &str)> {
        let added = self.added[category as usize].iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let base = (category == Category::Stream).then(|| {
            let shown = self.base.pairs.iter().zip(&self.hidden).filter(|(_, hidden)| !**hidden);
            shown.map(|((n, v), _)| (n.as_str(), v.as_str()))
        });
        let errors = (category == Category::Parsed).then(|| {
            let details =
                (!self.error_details.is_empty()).then_some((ERROR_DETAILS_LABEL, self.error_details.as_str()));
            self.error.map(|e| (ERROR_LABEL, e)).into_iter().chain(details)
        });
        base.into_iter().flatten().chain(added).chain(errors.into_iter().flatten())
    }

    /// All labels, in no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        [Category::Stream, Category::Metadata, Category::Parsed].into_iter().flat_map(|c| self.of(c))
    }

    /// The labels of a category, sorted; values may be empty.
    pub(crate) fn sorted(&self, category: Category) -> Vec<(String, String)> {
        let mut pairs: Vec<(String, String)> = self.of(category).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        pairs.sort();
        pairs
    }
}
