//! What a scrape loop remembers from page to page: which series a line names, and which series must be ended.
//!
//! A steady page costs one look-up per line by the line's own bytes; labels are read and relabelled only when a
//! series text is seen for the first time.

use rustc_hash::FxHashMap;
use trefoil_model::Labels;

/// How many pages a series text that is no longer seen stays in the cache.
const KEEP_PAGES: u64 = 10;

/// A series text of the page and what became of it.
#[derive(Debug)]
struct Entry {
    /// Final labels; `None` when relabelling dropped the series.
    labels: Option<Labels>,
    last_page: u64,
    /// True when the last sample had no timestamp of its own, so that its end must be marked.
    marks_end: bool,
    /// Labels and bits of the last exemplar, when that had no timestamp of its own.
    exemplar: Option<Box<(Labels, u64)>>,
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Not seen before: make the labels and [`SeriesCache::insert`] them.
    Unknown,
    /// Dropped by relabelling.
    Dropped,
    /// Occurs a second time on this page without a timestamp.
    Duplicate,
    /// Known labels.
    Known(Labels),
}

/// The cache of one target.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    entries: FxHashMap<Box<str>, Entry>,
    page: u64,
}

impl SeriesCache {
    /// Begins a page.
    pub(crate) fn begin_page(&mut self) {
        self.page += 1;
    }

    /// Finds a series text and marks it as seen; `has_time` says that the line carries its own timestamp.
    pub(crate) fn look_up(&mut self, series: &str, marks_end: bool) -> Lookup {
        let Some(entry) = self.entries.get_mut(series) else { return Lookup::Unknown };
        let again = entry.last_page == self.page && entry.marks_end && marks_end;
        entry.last_page = self.page;
        entry.marks_end = marks_end;
        match &entry.labels {
            None => Lookup::Dropped,
            Some(_) if again => Lookup::Duplicate,
            Some(labels) => Lookup::Known(labels.clone()),
        }
    }

    /// Remembers what a series text means; true when the series is new since the page before.
    pub(crate) fn insert(&mut self, series: &str, labels: Option<Labels>, marks_end: bool) {
        self.entries.insert(series.into(), Entry { labels, last_page: self.page, marks_end, exemplar: None });
    }

    /// False when the series had this exemplar on the page before as well: without a timestamp it is the same one.
    pub(crate) fn is_new_exemplar(&mut self, series: &str, labels: &Labels, value: f64, has_time: bool) -> bool {
        let Some(entry) = self.entries.get_mut(series) else { return true };
        if has_time {
            entry.exemplar = None;
            return true;
        }
        let is_same = entry.exemplar.as_ref().is_some_and(|e| e.1 == value.to_bits() && e.0 == *labels);
        if !is_same {
            entry.exemplar = Some(Box::new((labels.clone(), value.to_bits())));
        }
        !is_same
    }

    /// Ends a page: the series that the page before had and this one has not, sorted, to be marked as ended.
    pub(crate) fn end_page(&mut self) -> Vec<Labels> {
        let page = self.page;
        let mut ended: Vec<Labels> = self
            .entries
            .values()
            .filter(|e| e.last_page + 1 == page && e.marks_end)
            .filter_map(|e| e.labels.clone())
            .collect();
        ended.sort_unstable();
        // Two texts may mean one series (`a{}` and `a`).
        ended.dedup();
        self.entries.retain(|_, e| e.last_page + KEEP_PAGES > page);
        ended
    }

    /// All series of the last page that must be marked as ended when the target goes away.
    pub(crate) fn live(&self) -> Vec<Labels> {
        let mut live: Vec<Labels> = self
            .entries
            .values()
            .filter(|e| e.last_page == self.page && e.marks_end)
            .filter_map(|e| e.labels.clone())
            .collect();
        live.sort_unstable();
        live.dedup();
        live
    }

    /// True when the text was on the page before this one.
    pub(crate) fn was_on_last_page(&self, series: &str) -> bool {
        self.entries.get(series).is_some_and(|e| e.last_page + 1 >= self.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn l(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    #[test]
    fn vanished_series_end_once() {
        let mut cache = SeriesCache::default();
        cache.begin_page();
        assert_eq!(cache.look_up("a", true), Lookup::Unknown);
        cache.insert("a", Some(l("a")), true);
        cache.insert("b", Some(l("b")), true);
        cache.insert("t", Some(l("t")), false);
        cache.insert("d", None, true);
        assert_eq!(cache.end_page(), []);
        cache.begin_page();
        assert_eq!(cache.look_up("a", true), Lookup::Known(l("a")));
        assert_eq!(cache.look_up("a", true), Lookup::Duplicate);
        assert_eq!(cache.look_up("d", true), Lookup::Dropped);
        assert_eq!(cache.end_page(), [l("b")]);
        cache.begin_page();
        assert_eq!(cache.end_page(), [l("a")]);
        cache.begin_page();
        assert_eq!(cache.end_page(), []);
    }

    #[test]
    fn an_exemplar_that_stays_is_one() {
        let mut cache = SeriesCache::default();
        cache.insert("a", Some(l("a")), true);
        let asked = [(1.0, false), (1.0, false), (2.0, false), (1.0, false), (1.0, true), (1.0, true), (1.0, false)];
        let new: Vec<bool> =
            asked.iter().map(|(v, has_time)| cache.is_new_exemplar("a", &l("e"), *v, *has_time)).collect();
        assert_eq!(new, [true, false, true, true, true, true, true]);
        assert!(!cache.is_new_exemplar("a", &l("e"), 1.0, false) && cache.is_new_exemplar("a", &l("f"), 1.0, false));
    }
}
