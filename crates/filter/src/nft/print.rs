//! nftables rules as nft prints them.

use serde_json::Value;

/// A rule without its counters.
pub(super) fn rule(statements: &[Value]) -> String {
    let texts: Vec<String> = statements
        .iter()
        .filter(|statement| statement.get("counter").is_none())
        .map(statement)
        .collect();
    texts.join(" ")
}

/// One statement.
pub(super) fn statement(statement: &Value) -> String {
    let Some((name, value)) = statement
        .as_object()
        .and_then(|object| object.iter().next())
    else {
        return statement.to_string();
    };
    match name.as_str() {
        "match" => comparison(value),
        "jump" | "goto" => format!(
            "{name} {}",
            value.get("target").and_then(Value::as_str).unwrap_or("?")
        ),
        "vmap" => {
            let key = value.get("key").map(expression).unwrap_or_default();
            let data = match value.get("data") {
                Some(Value::String(name)) => name.clone(),
                Some(data) => map(data),
                None => String::new(),
            };
            format!("{key} vmap {data}")
        }
        "ct count" => {
            let over = if value.get("inv").and_then(Value::as_bool) == Some(true) {
                "over "
            } else {
                ""
            };
            let count = value.get("val").map(ToString::to_string);
            format!("ct count {over}{}", count.unwrap_or_default())
        }
        "mangle" => {
            let key = value.get("key").map(expression).unwrap_or_default();
            let to = value.get("value").map(expression).unwrap_or_default();
            format!("{key} set {to}")
        }
        "set" => {
            let text = |key| value.get(key).and_then(Value::as_str).unwrap_or("?");
            let element = value.get("elem").map(expression).unwrap_or_default();
            format!("{} {} {{ {element} }}", text("op"), text("set"))
        }
        "xt" => format!(
            "xt {} {}",
            value.get("type").and_then(Value::as_str).unwrap_or("?"),
            value.get("name").and_then(Value::as_str).unwrap_or("?")
        ),
        name if value.is_null() => name.to_owned(),
        name => format!("{name} {value}"),
    }
}

fn map(data: &Value) -> String {
    let pairs = data.get("set").and_then(Value::as_array);
    let texts: Vec<String> = pairs
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(|pair| {
            let [key, action] = pair.as_array()?.as_slice() else {
                return None;
            };
            Some(format!("{} : {}", expression(key), statement(action)))
        })
        .collect();
    format!("{{ {} }}", texts.join(", "))
}

fn comparison(value: &Value) -> String {
    let (Some(left), Some(right)) = (value.get("left"), value.get("right")) else {
        return value.to_string();
    };
    let operator = value.get("op").and_then(Value::as_str).unwrap_or("==");
    let shown = match operator {
        "in" => " ",
        "==" if left.get("&").is_none() => " ",
        "==" => " == ",
        "!=" => " != ",
        "<" => " < ",
        ">" => " > ",
        "<=" => " <= ",
        _ => " >= ",
    };
    format!("{}{shown}{}", expression(left), on_right(left, right))
}

/// A value; what it is compared with says how it is written.
fn on_right(left: &Value, right: &Value) -> String {
    let field = |value: &Value| {
        let payload = value.get("payload")?;
        Some((
            payload.get("protocol")?.as_str()?.to_owned(),
            payload.get("field")?.as_str()?.to_owned(),
        ))
    };
    if let (Some((_, name)), Some(number)) = (field(left), right.as_u64())
        && matches!(name.as_str(), "type" | "ptype")
        && field(left)
            .is_some_and(|(protocol, _)| matches!(protocol.as_str(), "ether" | "vlan" | "arp"))
    {
        return format!("{number:#06x}");
    }
    let is_name = left
        .get("meta")
        .and_then(|meta| meta.get("key"))
        .and_then(Value::as_str)
        .is_some_and(|key| key.ends_with("name"));
    match right {
        Value::Bool(there) if left.get("tcp option").is_some() => {
            let word = if *there { "exists" } else { "missing" };
            word.to_owned()
        }
        Value::String(name) if is_name && !name.starts_with('@') => format!("\"{name}\""),
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().map(expression).collect();
            texts.join(",")
        }
        _ => expression(right),
    }
}

fn expression(value: &Value) -> String {
    let joined = |list: &[Value], by: &str| {
        let texts: Vec<String> = list.iter().map(expression).collect();
        texts.join(by)
    };
    match value {
        Value::String(text) => return text.clone(),
        Value::Object(_) => {}
        Value::Array(list) => return format!("({})", joined(list, " | ")),
        other => return other.to_string(),
    }
    let text = |object: &Value, key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    if let Some(payload) = value.get("payload") {
        if payload.get("base").is_some() {
            let number = |key| {
                payload
                    .get(key)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            return format!(
                "@{},{},{}",
                text(payload, "base"),
                number("offset"),
                number("len")
            );
        }
        return format!("{} {}", text(payload, "protocol"), text(payload, "field"));
    }
    if let Some(meta) = value.get("meta") {
        let key = text(meta, "key");
        return match key.as_str() {
            "iif" | "oif" | "iifname" | "oifname" | "iifgroup" | "oifgroup" => key,
            _ => format!("meta {key}"),
        };
    }
    if let Some(ct) = value.get("ct") {
        return format!("ct {}", text(ct, "key"));
    }
    if let Some(list) = value.get("concat").and_then(Value::as_array) {
        return joined(list, " . ");
    }
    if let Some([left, right]) = value.get("&").and_then(Value::as_array).map(Vec::as_slice) {
        return format!("{} & {}", expression(left), expression(right));
    }
    if let Some(list) = value.get("|").and_then(Value::as_array) {
        return format!("({})", joined(list, " | "));
    }
    if let Some(prefix) = value.get("prefix") {
        let bits = prefix.get("len").map(ToString::to_string);
        return format!("{}/{}", text(prefix, "addr"), bits.unwrap_or_default());
    }
    if let Some([low, high]) = value
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return format!("{}-{}", expression(low), expression(high));
    }
    if let Some(set) = value.get("set") {
        return match set {
            Value::Array(list) => format!("{{ {} }}", joined(list, ", ")),
            one => format!("{{ {} }}", expression(one)),
        };
    }
    if let Some(element) = value.get("elem").and_then(|elem| elem.get("val")) {
        return expression(element);
    }
    if let Some(option) = value.get("tcp option") {
        let name = text(option, "name");
        return match option.get("field").and_then(Value::as_str) {
            Some(field) => format!("tcp option {name} {field}"),
            None => format!("tcp option {name}"),
        };
    }
    value.to_string()
}
