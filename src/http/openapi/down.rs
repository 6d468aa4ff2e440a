//! OpenAPI 3.1 to 3.0: JSON Schema 2020-12 to the dialect before it.
//!
//! Only what 3.0 can say is left: `null` among types becomes `nullable`, `const` an `enum` of one,
//! `examples` of a schema its first `example`, and a reference with keys beside it an `allOf`.
//! Keywords without an equal are dropped, so a 3.0 schema accepts at least what the 3.1 one does.

mod nullable;

use serde_json::{Map, Value, json};

/// The version that the result declares.
const VERSION: &str = "3.0.3";

/// Keys of a schema whose value is a schema.
const SCHEMA_KEYS: &[&str] = &["items", "not", "additionalProperties"];
/// Keys of a schema whose value is a list of schemas.
const LIST_KEYS: &[&str] = &["allOf", "anyOf", "oneOf"];
/// Keys of a schema that 3.0 does not know and that only narrow or annotate.
const UNKNOWN_KEYS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "$anchor",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
];

/// Converts a whole document.
#[must_use]
pub fn to_3_0(mut document: Value) -> Value {
    if let Value::Object(root) = &mut document {
        root.insert("openapi".to_owned(), json!(VERSION));
        root.remove("webhooks");
        root.remove("jsonSchemaDialect");
        if let Some(Value::Object(info)) = root.get_mut("info") {
            info.remove("summary");
            if let Some(Value::Object(license)) = info.get_mut("license") {
                license.remove("identifier");
            }
        }
        if let Some(Value::Object(components)) = root.get_mut("components") {
            components.remove("pathItems");
            if let Some(Value::Object(schemas)) = components.get_mut("schemas") {
                schemas.values_mut().for_each(schema);
            }
        }
    }
    nested(&mut document);
    let components = document.pointer("/components/schemas").cloned().unwrap_or_default();
    nullable::typed(&mut document, &components);
    document
}

/// Finds the schemas of parameters, headers and media types; leaves examples alone.
fn nested(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match key.as_str() {
                    "schema" => schema(value),
                    "example" | "examples" | "schemas" => {}
                    _ => nested(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(nested),
        _ => {}
    }
}

fn schema(value: &mut Value) {
    // 3.0 knows `true` and `false` only as additional properties.
    if let Value::Bool(allowed) = value {
        *value = if *allowed { json!({}) } else { json!({ "not": {} }) };
    }
    let Value::Object(object) = value else { return };
    mark_binary(object);
    for key in UNKNOWN_KEYS {
        object.remove(*key);
    }
    if let Some(constant) = object.remove("const") {
        object.insert("enum".to_owned(), json!([constant]));
    }
    if let Some(Value::Array(examples)) = object.remove("examples")
        && let Some(first) = examples.into_iter().next()
    {
        object.entry("example").or_insert(first);
    }
    exclusive(object, "exclusiveMinimum", "minimum");
    exclusive(object, "exclusiveMaximum", "maximum");
    types(object);
    without_null_variant(object);
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(schema);
    }
    for key in SCHEMA_KEYS {
        if let Some(inner) = object.get_mut(*key)
            && !(inner.is_boolean() && *key == "additionalProperties")
        {
            schema(inner);
        }
    }
    for key in LIST_KEYS {
        if let Some(Value::Array(list)) = object.get_mut(*key) {
            list.iter_mut().for_each(schema);
        }
    }
    if object.get("type") == Some(&json!("array")) {
        object.entry("items").or_insert_with(|| json!({}));
    }
    wrap_reference(object);
}

/// Raw octets and base64 are formats in 3.0.
fn mark_binary(object: &mut Map<String, Value>) {
    let format = if object.get("contentEncoding") == Some(&json!("base64")) {
        "byte"
    } else if object.get("contentMediaType") == Some(&json!("application/octet-stream")) {
        "binary"
    } else {
        return;
    };
    object.entry("type").or_insert_with(|| json!("string"));
    object.entry("format").or_insert_with(|| json!(format));
}

/// A bound that is excluded is a flag beside the bound in 3.0.
fn exclusive(object: &mut Map<String, Value>, key: &str, bound: &str) {
    if let Some(value) = object.get(key).filter(|value| value.is_number()).cloned() {
        object.insert(bound.to_owned(), value);
        object.insert(key.to_owned(), json!(true));
    }
}

/// A list of types becomes one type, `nullable`, or a choice.
fn types(object: &mut Map<String, Value>) {
    let mut names = match object.remove("type") {
        Some(Value::Array(names)) => names,
        Some(one) => vec![one],
        None => return,
    };
    let before = names.len();
    names.retain(|name| name != "null");
    if names.len() < before {
        object.insert("nullable".to_owned(), json!(true));
        if names.is_empty() {
            object.insert("enum".to_owned(), json!([null]));
        } else if let Some(Value::Array(list)) = object.get_mut("enum")
            && !list.contains(&Value::Null)
        {
            list.push(Value::Null);
        }
    }
    if names.len() > 1 {
        let choices = names.into_iter().map(|name| json!({ "type": name })).collect();
        object.insert("anyOf".to_owned(), Value::Array(choices));
    } else if let Some(name) = names.pop() {
        object.insert("type".to_owned(), name);
    }
}

/// `oneOf` with a variant of type null becomes `nullable`; one variant left needs no choice.
fn without_null_variant(object: &mut Map<String, Value>) {
    for key in ["oneOf", "anyOf"] {
        let Some(Value::Array(list)) = object.get_mut(key) else { continue };
        let before = list.len();
        list.retain(|variant| variant.get("type") != Some(&json!("null")));
        if list.len() == before {
            continue;
        }
        let last = if list.len() == 1 { list.pop() } else { None };
        object.insert("nullable".to_owned(), json!(true));
        if let Some(last) = last {
            object.remove(key);
            object.insert("allOf".to_owned(), json!([last]));
        }
    }
}

/// Keys beside a reference are ignored in 3.0, so the reference moves into an `allOf`.
fn wrap_reference(object: &mut Map<String, Value>) {
    if object.len() > 1
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(mut value: Value) -> Value {
        schema(&mut value);
        value
    }

    #[test]
    fn nulls_become_nullable() {
        let text = json!({ "type": ["string", "null"], "examples": ["a", "b"] });
        assert_eq!(down(text), json!({ "type": "string", "nullable": true, "example": "a" }));
        let reference = json!({ "oneOf": [{ "type": "null" }, { "$ref": "#/x" }] });
        assert_eq!(down(reference), json!({ "allOf": [{ "$ref": "#/x" }], "nullable": true }));
        let only = json!({ "type": "null" });
        assert_eq!(down(only), json!({ "enum": [null], "nullable": true }));
        let choice = json!({ "enum": ["a"], "type": ["string", "null"] });
        assert_eq!(
            down(choice),
            json!({ "enum": ["a", null], "type": "string", "nullable": true })
        );
        let many = json!({ "type": ["string", "integer"] });
        assert_eq!(down(many), json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] }));
    }

    #[test]
    fn keywords_of_3_1_find_their_older_form() {
        assert_eq!(down(json!({ "const": 1 })), json!({ "enum": [1] }));
        assert_eq!(
            down(json!({ "exclusiveMinimum": 0 })),
            json!({ "minimum": 0, "exclusiveMinimum": true })
        );
        assert_eq!(
            down(json!({ "$ref": "#/x", "description": "d" })),
            json!({ "allOf": [{ "$ref": "#/x" }], "description": "d" })
        );
        assert_eq!(
            down(json!({ "contentMediaType": "application/octet-stream" })),
            json!({ "type": "string", "format": "binary" })
        );
        assert_eq!(down(json!({ "type": "array" })), json!({ "type": "array", "items": {} }));
        let object = json!({ "type": "object", "propertyNames": { "type": "string" },
            "additionalProperties": { "type": ["integer", "null"] } });
        assert_eq!(
            down(object),
            json!({ "type": "object",
                "additionalProperties": { "type": "integer", "nullable": true } })
        );
    }

    #[test]
    fn a_document_keeps_its_examples_and_says_its_version() {
        let document = json!({
            "openapi": "3.1.0", "webhooks": {},
            "info": { "license": { "name": "l", "identifier": "L" } },
            "paths": { "/x": { "get": { "responses": { "200": { "content": { "a": {
                "schema": { "const": 1 }, "example": { "schema": { "const": 1 } }
            } } } } } } },
            "components": { "schemas": { "S": { "properties": { "schema": { "const": 2 } } } } },
        });
        let expected = json!({
            "openapi": VERSION,
            "info": { "license": { "name": "l" } },
            "paths": { "/x": { "get": { "responses": { "200": { "content": { "a": {
                "schema": { "enum": [1] }, "example": { "schema": { "const": 1 } }
            } } } } } } },
            "components": { "schemas": { "S": { "properties": { "schema": { "enum": [2] } } } } },
        });
        assert_eq!(to_3_0(document), expected);
    }
}
