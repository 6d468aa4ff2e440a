//! The committed specification is what the code serves.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::Value;

fn generated() -> Value {
    let text = hydrant::http::router::specification().to_pretty_json().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn operations(specification: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in specification["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete") {
                found.push((path.clone(), method.clone(), operation.clone()));
            }
        }
    }
    found
}

#[test]
fn the_committed_file_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/hydrant.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let fresh = generated();
    assert!(committed == fresh, "run `just openapi`: openapi/hydrant.json is not what is served");
}

#[test]
fn every_operation_has_an_id_a_tag_a_text_and_responses() {
    let specification = generated();
    assert!(specification["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&specification) {
        let at = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        assert!(!id.is_empty() && ids.insert(id), "{at} needs an operation id of its own");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{at}: tag");
        assert!(operation["summary"].as_str().is_some(), "{at}: summary");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}: success");
    }
    assert!(ids.len() >= 27, "{} operations", ids.len());
}
