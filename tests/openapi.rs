//! The committed specifications are what the code serves, and keep the rules of the house.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod schema;

use std::collections::BTreeSet;

use serde_json::Value;

use schema::Schemas;

fn generated() -> Value {
    let text = hydrant::http::router::specification().to_pretty_json().unwrap();
    serde_json::from_str(&text).unwrap()
}

/// An operation and where it is, such as `get /topics`.
struct Operation<'a> {
    at: String,
    path: &'a str,
    value: &'a Value,
}

fn operations(specification: &Value) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    for (path, item) in specification["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            if matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete") {
                found.push(Operation { at: format!("{method} {path}"), path, value });
            }
        }
    }
    assert!(found.len() >= 23, "{} operations", found.len());
    found
}

/// Follows a reference within the document.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        None => value,
        Some(at) => document.pointer(at.trim_start_matches('#')).unwrap_or(&Value::Null),
    }
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn assert_committed(file: &str, fresh: &Value) {
    let path = format!("{}/openapi/{file}", env!("CARGO_MANIFEST_DIR"));
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(committed == *fresh, "run `just openapi`: openapi/{file} is not what is served");
}

#[test]
fn the_committed_files_are_up_to_date() {
    let fresh = generated();
    assert!(fresh["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_committed("hydrant.json", &fresh);
    let older = hydrant::http::router::specification_3_0();
    assert!(older["openapi"].as_str().unwrap().starts_with("3.0"));
    assert_committed("hydrant-3.0.json", &older);
}

#[test]
fn every_operation_has_an_id_a_declared_tag_and_a_summary() {
    let document = generated();
    let tags = document["tags"].as_array().unwrap();
    let is_declared = |tag: &Value| tags.iter().any(|declared| declared["name"] == *tag);
    let mut ids = BTreeSet::new();
    let mut broken = Vec::new();
    for Operation { at, path, value } in operations(&document) {
        let id = value["operationId"].as_str().unwrap_or_default();
        let is_camel = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_camel {
            broken.push(format!("{at}: operation_id '{id}' is not camelCase"));
        }
        if !ids.insert(id) {
            broken.push(format!("{at}: operation_id '{id}' is that of another operation too"));
        }
        let own = value["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        match own {
            [tag] if is_declared(tag) => {}
            _ => broken.push(format!("{at}: needs one tag that router.rs declares, has {own:?}")),
        }
        if value["summary"].as_str().is_none_or(|text| text.trim().is_empty()) {
            broken.push(format!("{at}: needs a summary: the first line of the handler's comment"));
        }
        let parameters = value["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut named: Vec<_> = parameters.iter().map(|p| resolve(&document, p)).collect();
        for parameter in &named {
            let name = &parameter["name"];
            if parameter["description"].as_str().is_none_or(str::is_empty) {
                broken.push(format!("{at}: parameter {name} needs a description"));
            }
        }
        named.retain(|parameter| parameter["in"] == "path");
        for part in path.split('/').filter_map(|p| p.split_once('{')) {
            let name = part.1.split('}').next().unwrap();
            match named.iter().find(|parameter| parameter["name"] == name) {
                None => broken.push(format!("{at}: path parameter '{name}' is not in params(..)")),
                Some(p) if p["example"].is_null() && p["schema"]["example"].is_null() => {
                    broken.push(format!("{at}: path parameter '{name}' needs an example"));
                }
                Some(_) => {}
            }
        }
    }
    report("every operation has an id, a tag, a summary and its parameters", &broken);
}

#[test]
fn every_request_body_has_an_example() {
    let document = generated();
    let mut broken = Vec::new();
    for Operation { at, value, .. } in operations(&document) {
        let Some(content) = value["requestBody"]["content"].as_object() else { continue };
        for (media_type, content) in content {
            let schema = resolve(&document, &content["schema"]);
            let places = [
                &content["example"],
                &content["examples"],
                &schema["example"],
                &schema["examples"],
            ];
            if content["schema"].is_null() {
                broken.push(format!("{at}: body {media_type} needs a schema"));
            } else if places.iter().all(|place| place.is_null()) {
                broken.push(format!(
                    "{at}: body {media_type} needs an example: example = json!(..) beside it, or \
                     #[schema(example = json!(..))] on its struct"
                ));
            }
        }
    }
    report("every request body has an example", &broken);
}

#[test]
fn every_response_says_what_it_is_and_every_error_has_a_schema() {
    let document = generated();
    let mut broken = Vec::new();
    for Operation { at, value, .. } in operations(&document) {
        let responses = value["responses"].as_object().unwrap();
        // An upgrade is a success too.
        if !responses.keys().any(|status| status.starts_with('2') || status == "101") {
            broken.push(format!("{at}: needs a response of success"));
        }
        if !responses.keys().any(|status| status.starts_with('4')) {
            broken.push(format!("{at}: needs the errors that it answers"));
        }
        for (status, response) in responses {
            let response = resolve(&document, response);
            if response["description"].as_str().is_none_or(str::is_empty) {
                broken.push(format!("{at}: response {status} needs a description"));
            }
            let content = response["content"].as_object();
            let is_error = status.starts_with(['4', '5']);
            if is_error && content.is_none_or(serde_json::Map::is_empty) {
                broken.push(format!("{at}: error {status} needs body = ErrorBody"));
            }
            for (media_type, content) in content.into_iter().flatten() {
                if content["schema"].is_null() {
                    broken.push(format!("{at}: response {status} {media_type} needs a schema"));
                }
            }
        }
    }
    report("every response is described", &broken);
}

/// Every example of a document, the schema that it must match, and where it is.
fn examples<'a>(value: &'a Value, at: &str, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    match value {
        Value::Object(object) => {
            let schema = object.get("schema").unwrap_or(value);
            if let Some(example) = object.get("example") {
                found.push((format!("{at}/example"), schema, example));
            }
            match object.get("examples") {
                Some(Value::Array(list)) => {
                    found.extend(list.iter().map(|one| (format!("{at}/examples"), schema, one)));
                }
                Some(Value::Object(named)) => found.extend(
                    named
                        .iter()
                        .map(|(n, one)| (format!("{at}/examples/{n}"), schema, &one["value"])),
                ),
                _ => {}
            }
            for (key, inner) in object {
                if key == "properties" {
                    // Names of fields, not keywords.
                    for (name, inner) in inner.as_object().into_iter().flatten() {
                        examples(inner, &format!("{at}/properties/{name}"), found);
                    }
                } else if !matches!(key.as_str(), "example" | "examples" | "default") {
                    examples(inner, &format!("{at}/{key}"), found);
                }
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                examples(inner, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_example_is_valid_in_both_versions() {
    for document in [generated(), hydrant::http::router::specification_3_0()] {
        let mut found = Vec::new();
        examples(&document, "", &mut found);
        assert!(found.len() >= 100, "{} examples", found.len());
        let schemas = Schemas::of(&document);
        let mut broken = Vec::new();
        for (at, schema, example) in found {
            for fault in schemas.faults(schema, example) {
                broken.push(format!("{} {at}: {fault}", document["openapi"]));
            }
        }
        report("every example matches its schema", &broken);
    }
}
