//! Ids of scrolls and points in time, which say themselves what they stand for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};
use trefoil_elastic::Error;

/// Longest id that an error shows.
const SHOWN_BYTES_MAX: usize = 100;

/// A search that goes on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scroll {
    /// Names of the indices as they were asked for.
    pub(super) index: String,
    /// The body of the search.
    pub(super) body: Json,
    /// Sort values of the last hit.
    pub(super) after: Option<Json>,
    /// What `now` means on all pages.
    pub(super) now_ms: i64,
    /// The total that the first page counted.
    pub(super) total: Option<Json>,
}

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pit {
    /// Names of the indices.
    pub(super) index: String,
    /// When it was opened.
    pub(super) now_ms: i64,
}

fn write(json: &Json) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn read(id: &str, kind: &str) -> Result<Json, Error> {
    let shown: String = id.chars().take(SHOWN_BYTES_MAX).collect();
    let bytes = URL_SAFE_NO_PAD.decode(id).ok();
    let json: Option<Json> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
    json.filter(|j| j["kind"] == kind).ok_or_else(|| Error::no_context(&shown))
}

fn text(json: &Json, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}

impl Scroll {
    pub(super) fn id(&self) -> String {
        let Self { index, body, after, now_ms, total } = self;
        write(&json!({ "kind": "scroll", "index": index, "body": body, "after": after, "now": now_ms, "total": total }))
    }

    pub(super) fn read(id: &str) -> Result<Self, Error> {
        let mut json = read(id, "scroll")?;
        let [after, total] = ["after", "total"].map(|name| Some(json[name].take()).filter(|a| !a.is_null()));
        let now_ms = json["now"].as_i64().unwrap_or_default();
        Ok(Self { index: text(&json, "index"), body: json["body"].take(), after, now_ms, total })
    }
}

impl Pit {
    pub(super) fn id(&self) -> String {
        write(&json!({ "kind": "pit", "index": self.index, "now": self.now_ms }))
    }

    pub(super) fn read(id: &str) -> Result<Self, Error> {
        let json = read(id, "pit")?;
        Ok(Self { index: text(&json, "index"), now_ms: json["now"].as_i64().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back() {
        let scroll = Scroll {
            index: "a,b*".into(),
            body: json!({"size": 1}),
            after: Some(json!([1, "x"])),
            now_ms: 5,
            total: Some(json!({"value": 3})),
        };
        assert_eq!(Scroll::read(&scroll.id()).unwrap(), scroll);
        let pit = Pit { index: "logs".into(), now_ms: 7 };
        assert_eq!(Pit::read(&pit.id()).unwrap(), pit);
        for bad in ["", "x", "%%", &pit.id()] {
            assert_eq!(Scroll::read(bad).unwrap_err().status(), 404, "{bad}");
        }
    }
}
