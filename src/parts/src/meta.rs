//! What a part is.

use std::collections::BTreeMap;
use std::fmt;

use trefoil_model::TenantId;

/// Identifies a part within one set; grows and is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartId(pub u64);

impl fmt::Display for PartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Attribute of a part whose files lie in an object store: where.
pub const LOCATION: &str = "location";

/// A file of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Its name within the part.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32C of all its bytes.
    pub crc32c: u32,
}

/// An immutable set of files that holds the items of one tenant and one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartMeta {
    /// Its id.
    pub id: PartId,
    /// Whose items it holds.
    pub tenant: TenantId,
    /// The UTC day that all its items lie in: days since 1970-01-01.
    pub partition: i64,
    /// How often its items were merged; 0 when they came from a memtable.
    pub level: u8,
    /// Time of the first item, in the unit of the store.
    pub min_t: i64,
    /// Time of the last item, in the unit of the store, inclusive.
    pub max_t: i64,
    /// Number of items, in the sense of the store.
    pub items: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Version of the format of its files.
    pub format: u16,
    /// What its files are, in the store's words.
    pub kind: String,
    /// Its files, sorted by name.
    pub files: Vec<FileMeta>,
    /// Further values of the store.
    pub attributes: BTreeMap<String, String>,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl PartMeta {
    /// Returns a file by name.
    pub fn file(&self, name: &str) -> Option<&FileMeta> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Returns where its files lie in an object store (`<url of the store>/<folder>`); `None` when they lie here.
    pub fn location(&self) -> Option<&str> {
        self.attributes.get(LOCATION).map(String::as_str)
    }

    /// Returns whether its files lie in an object store.
    pub fn is_remote(&self) -> bool {
        self.location().is_some()
    }

    /// Returns the URL of the object store and the folder in it where its files lie; `None` when they lie here.
    pub fn place(&self) -> Option<(&str, &str)> {
        // <url>/<store>/<tenant>/<partition>/<folder>
        let location = self.location()?;
        let (at, _) = location.rmatch_indices('/').nth(3)?;
        Some((&location[..at], &location[at + 1..]))
    }

    /// Returns what the list of parts is sorted by.
    pub fn order(&self) -> (TenantId, i64, i64, PartId) {
        (self.tenant, self.partition, self.min_t, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::tests::part;

    #[test]
    fn a_location_has_a_place() {
        let check = |location: Option<&str>, expected: Option<(&str, &str)>| {
            let mut meta = PartMeta::clone(&part(1, 2, 3));
            meta.attributes = location.map(|l| (LOCATION.to_owned(), l.to_owned())).into_iter().collect();
            assert_eq!(meta.place(), expected);
        };
        check(None, None);
        check(Some("s3://b/p/q/metrics/0/19700/7-00"), Some(("s3://b/p/q", "metrics/0/19700/7-00")));
        check(Some("file:///store/metrics/0/-1/7-00"), Some(("file:///store", "metrics/0/-1/7-00")));
        check(Some("x/y"), None);
    }
}
