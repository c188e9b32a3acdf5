//! JSON objects as flat lists of fields, borrowed from the body where nothing is escaped.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use trefoil_model::AttributeValue;
use trefoil_runtime::limits;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldValue<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Numbers, booleans, null, lists.
    Other(AttributeValue),
}

impl FieldValue<'_> {
    /// The value as text: lists as JSON, null as "".
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Other(value) => Cow::Owned(value.to_text()),
        }
    }

    pub(crate) fn into_attribute(self) -> AttributeValue {
        match self {
            Self::Text(text) => AttributeValue::String(text.into_owned()),
            Self::Other(value) => value,
        }
    }
}

/// A field of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<'a> {
    /// Dotted name.
    pub(crate) name: Cow<'a, str>,
    /// Its value.
    pub(crate) value: FieldValue<'a>,
    /// It has found its place and is no attribute.
    pub(crate) is_taken: bool,
}

impl<'a> Field<'a> {
    pub(crate) fn new(name: impl Into<Cow<'a, str>>, value: FieldValue<'a>) -> Self {
        Self { name: name.into(), value, is_taken: false }
    }

    pub(crate) fn text(name: impl Into<Cow<'a, str>>, text: impl Into<Cow<'a, str>>) -> Self {
        Self::new(name, FieldValue::Text(text.into()))
    }
}

/// Reads one object and appends its fields. Errors: what is wrong with the text; what was appended is not to be used then.
pub(crate) fn parse_object<'a>(text: &'a str, depth_max: usize, fields: &mut Vec<Field<'a>>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // Bounded by our own limit; the parser's is 128 levels.
    let walk = Object { fields, prefix: "", depth_left: depth_max };
    deserializer.deserialize_map(walk).and_then(|()| deserializer.end()).map_err(|e| e.to_string())
}

fn too_deep<E: Error>() -> E {
    limits::hit("json_depth_max");
    E::custom("JSON nests deeper than json_depth_max allows")
}

/// The members of an object, under the name of what holds it.
struct Object<'f, 'p, 'de> {
    fields: &'f mut Vec<Field<'de>>,
    prefix: &'p str,
    depth_left: usize,
}

impl<'de> Visitor<'de> for Object<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else { return Err(too_deep()) };
        while let Some(key) = map.next_key_seed(Text)? {
            let name = if self.prefix.is_empty() {
                key
            } else {
                let mut name = String::with_capacity(self.prefix.len() + 1 + key.len());
                name.push_str(self.prefix);
                name.push('.');
                name.push_str(&key);
                Cow::Owned(name)
            };
            map.next_value_seed(Member { fields: self.fields, name, depth_left })?;
        }
        Ok(())
    }
}

/// A text that is borrowed when it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A value, appended under its name.
struct Member<'f, 'de> {
    fields: &'f mut Vec<Field<'de>>,
    name: Cow<'de, str>,
    depth_left: usize,
}

impl<'de> Member<'_, 'de> {
    fn put(self, value: FieldValue<'de>) {
        self.fields.push(Field { name: self.name, value, is_taken: false });
    }

    fn put_other<E>(self, value: AttributeValue) -> Result<(), E> {
        self.put(FieldValue::Other(value));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.put(FieldValue::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.put(FieldValue::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put_other(AttributeValue::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put_other(AttributeValue::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put_other(whole(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put_other(AttributeValue::Double(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put_other(AttributeValue::Null)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        Object { fields: self.fields, prefix: &self.name, depth_left: self.depth_left }.visit_map(map)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, seq: S) -> Result<(), S::Error> {
        let list = Value { depth_left: self.depth_left }.visit_seq(seq)?;
        self.put_other(list)
    }
}

/// A whole number; one beyond 63 bits stays the text that it was.
fn whole(value: u64) -> AttributeValue {
    i64::try_from(value).map_or_else(|_| AttributeValue::String(value.to_string()), AttributeValue::Int)
}

/// A value inside a list.
#[derive(Clone, Copy)]
struct Value {
    depth_left: usize,
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = AttributeValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AttributeValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = AttributeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AttributeValue, E> {
        Ok(AttributeValue::String(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<AttributeValue, E> {
        Ok(whole(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Double(value))
    }

    fn visit_unit<E: Error>(self) -> Result<AttributeValue, E> {
        Ok(AttributeValue::Null)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<AttributeValue, S::Error> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else { return Err(too_deep()) };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self { depth_left })? {
            items.push(item);
        }
        Ok(AttributeValue::Array(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<AttributeValue, M::Error> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else { return Err(too_deep()) };
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Text)? {
            members.push((name.into_owned(), map.next_value_seed(Self { depth_left })?));
        }
        Ok(AttributeValue::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Result<&[&str], &str>) {
        let mut fields = Vec::new();
        let got = parse_object(text, 4, &mut fields);
        let shown: Vec<String> = fields
            .iter()
            .map(|f| match &f.value {
                FieldValue::Text(t) => format!("{}={t}", f.name),
                FieldValue::Other(o) => format!("{}:{o}", f.name),
            })
            .collect();
        match want {
            Ok(want) => {
                assert_eq!(got, Ok(()), "{text}");
                assert_eq!(shown, want, "{text}");
            }
            Err(part) => assert!(got.as_ref().unwrap_err().contains(part), "{text}: {got:?}"),
        }
    }

    #[test]
    fn objects_become_dotted_fields() {
        check("{}", Ok(&[]));
        check(
            r#"{"a":"x","b":{"c":1,"d":{"e":true}},"f.g":-2.5,"h":null,"i":[1,"z",{"k":[2]}],"j":{},"n":18446744073709551615}"#,
            Ok(&[
                "a=x",
                "b.c:1",
                "b.d.e:true",
                "f.g:-2.5",
                "h:null",
                r#"i:[1,"z",{"k":[2]}]"#,
                "n:\"18446744073709551615\"",
            ]),
        );
        check(r#"{"a\n":"x\u00fc\ud83d\ude00"}"#, Ok(&["a\n=xü😀"]));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("[]", "invalid type"),
            ("\"x\"", "invalid type"),
            ("{\"a\":1", "EOF"),
            ("{\"a\":1} x", "trailing"),
            ("{\"a\":01}", "invalid number"),
            (r#"{"a":"\ud800"}"#, "lone leading surrogate"),
            (r#"{"a":{"b":{"c":{"d":1}}}}"#, ""),
            (r#"{"a":{"b":{"c":{"d":{}}}}}"#, "deeper"),
            (r#"{"a":[[[[1]]]]}"#, "deeper"),
        ] {
            if why.is_empty() {
                check(text, Ok(&["a.b.c.d:1"]));
            } else {
                check(text, Err(why));
            }
        }
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        check(&deep, Err("deeper"));
    }
}
