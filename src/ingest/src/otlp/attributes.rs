//! `AnyValue` and `KeyValue` as model attributes.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use trefoil_model::{AttributeValue, Attributes, Scope};
use trefoil_runtime::limits;

/// Stands for a value that nests deeper than the limit.
pub const TOO_DEEP: &str = "<nested too deep>";

/// Converts a value; what nests deeper than `depth_max` lists and maps becomes [`TOO_DEEP`].
pub fn value(value: Option<AnyValue>, depth_max: usize) -> AttributeValue {
    let Some(value) = value.and_then(|v| v.value) else {
        return AttributeValue::Null;
    };
    match value {
        Value::StringValue(s) => AttributeValue::String(s),
        Value::BoolValue(b) => AttributeValue::Bool(b),
        Value::IntValue(i) => AttributeValue::Int(i),
        Value::DoubleValue(d) => AttributeValue::Double(d),
        Value::BytesValue(b) => AttributeValue::Bytes(b),
        // An index into the table of profiles; there is no table here.
        Value::StringValueStrindex(_) => AttributeValue::Null,
        Value::ArrayValue(_) | Value::KvlistValue(_) if depth_max == 0 => {
            limits::hit("attribute_depth_max");
            AttributeValue::String(TOO_DEEP.to_owned())
        }
        Value::ArrayValue(a) => {
            AttributeValue::Array(a.values.into_iter().map(|v| self::value(Some(v), depth_max - 1)).collect())
        }
        Value::KvlistValue(m) => AttributeValue::Map(attributes(m.values, depth_max - 1)),
    }
}

/// Converts attributes in their order; those without a name are left out.
pub fn attributes(pairs: Vec<KeyValue>, depth_max: usize) -> Attributes {
    pairs.into_iter().filter(|kv| !kv.key.is_empty()).map(|kv| (kv.key, value(kv.value, depth_max))).collect()
}

/// Converts a scope; an absent one is the empty scope.
pub fn scope(scope: Option<InstrumentationScope>, depth_max: usize) -> Scope {
    scope.map_or_else(Scope::default, |s| Scope {
        name: s.name,
        version: s.version,
        attributes: attributes(s.attributes, depth_max),
    })
}
