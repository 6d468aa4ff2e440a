//! `nullable` beside a `type`, as 3.0.3 asks: without one it says nothing.
//!
//! A reference takes the type of what it names. A choice hands the word to its variants, and a
//! schema that takes any value takes null anyway.

use serde_json::{Map, Value, json};

/// References followed before a schema counts as one without a type.
const MAX_REFERENCES: usize = 8;

/// Corrects every schema under `value`; `components` are the schemas that references name.
pub(super) fn typed(value: &mut Value, components: &Value) {
    match value {
        Value::Object(object) => {
            if object.get("nullable") == Some(&json!(true)) && !object.contains_key("type") {
                add_type(object, components);
            }
            for (key, value) in object {
                if !matches!(key.as_str(), "example" | "examples") {
                    typed(value, components);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| typed(value, components)),
        _ => {}
    }
}

fn add_type(object: &mut Map<String, Value>, components: &Value) {
    flatten(object);
    if let Some(name) = type_of(object, components, MAX_REFERENCES) {
        object.insert("type".to_owned(), name);
        return;
    }
    object.remove("nullable");
    for key in ["anyOf", "oneOf"] {
        let Some(Value::Array(list)) = object.get_mut(key) else { continue };
        for variant in list.iter_mut().filter_map(Value::as_object_mut) {
            if variant.contains_key("type") {
                variant.insert("nullable".to_owned(), json!(true));
            }
        }
    }
}

/// An `allOf` of a schema that only describes an `allOf` is the inner one with the description.
fn flatten(object: &mut Map<String, Value>) {
    let Some(Value::Array(list)) = object.get_mut("allOf") else { return };
    let [Value::Object(only)] = list.as_mut_slice() else { return };
    if !only.contains_key("allOf") || only.keys().any(|key| key != "allOf" && key != "description")
    {
        return;
    }
    let inner = std::mem::take(only);
    for (key, value) in inner {
        if key == "allOf" {
            object.insert(key, value);
        } else {
            object.entry(key).or_insert(value);
        }
    }
}

fn type_of(object: &Map<String, Value>, components: &Value, left: usize) -> Option<Value> {
    let left = left.checked_sub(1)?;
    if let Some(name) = object.get("type") {
        return Some(name.clone());
    }
    if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
        let named = components.get(reference.strip_prefix("#/components/schemas/")?)?;
        return type_of(named.as_object()?, components, left);
    }
    let all = object.get("allOf")?.as_array()?;
    all.iter().find_map(|part| type_of(part.as_object()?, components, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(mut value: Value) -> Value {
        let components = json!({
            "S": { "type": "string" }, "T": { "allOf": [{ "$ref": "#/components/schemas/S" }] },
            "Loop": { "$ref": "#/components/schemas/Loop" },
        });
        typed(&mut value, &components);
        value
    }

    #[test]
    fn references_take_the_type_of_what_they_name() {
        let reference = json!([{ "$ref": "#/components/schemas/T" }]);
        let property = json!({ "properties": { "a": {
            "nullable": true, "allOf": [{ "description": "d", "allOf": reference }],
        } } });
        let expected = json!({ "properties": { "a": {
            "nullable": true, "allOf": reference, "description": "d", "type": "string",
        } } });
        assert_eq!(corrected(property), expected);
    }

    #[test]
    fn what_has_no_type_is_not_called_nullable() {
        assert_eq!(corrected(json!({ "nullable": true })), json!({}));
        let unknown = json!([{ "$ref": "#/components/schemas/Loop" }]);
        let looping = json!({ "nullable": true, "allOf": unknown });
        assert_eq!(corrected(looping), json!({ "allOf": unknown }));
        let choice = json!({ "nullable": true, "anyOf": [{ "type": "string" }, {}] });
        let expected = json!({ "anyOf": [{ "type": "string", "nullable": true }, {}] });
        assert_eq!(corrected(choice), expected);
        let example = json!({ "type": "object", "example": { "nullable": true } });
        assert_eq!(corrected(example.clone()), example);
    }
}
