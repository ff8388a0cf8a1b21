//! Reads fields of the JSON that programs print, whatever else is in it.

use std::net::IpAddr;

use serde_json::Value;

/// A field's text.
pub(crate) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

/// A field's number, if it fits.
pub(crate) fn number<T: TryFrom<u64>>(value: &Value, name: &str) -> Option<T> {
    T::try_from(value.get(name)?.as_u64()?).ok()
}

/// A field that says yes or no, as a boolean, a number, or "on" and "off".
pub(crate) fn flag(value: &Value, name: &str) -> Option<bool> {
    match value.get(name)? {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => Some(number.as_u64()? != 0),
        Value::String(text) => match text.as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A field that is an address.
pub(crate) fn address(value: &Value, name: &str) -> Option<IpAddr> {
    value.get(name)?.as_str()?.parse().ok()
}

/// The members of a field that is an array.
pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The texts of a field that is an array of them.
pub(crate) fn texts(value: &Value, name: &str) -> Vec<String> {
    list(value, name)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
