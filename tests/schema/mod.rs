//! A small judge of JSON Schema: the keywords that the specification uses, and no others, so that
//! a keyword it does not know is a fault and not a silent yes.

use serde_json::{Map, Value};

/// Keywords that say nothing of what is valid.
const ANNOTATIONS: &[&str] = &[
    "description",
    "title",
    "example",
    "examples",
    "default",
    "format",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "nullable",
    "xml",
    "externalDocs",
    "discriminator",
];

/// The schemas of a document.
pub(crate) struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    pub(crate) const fn of(document: &'a Value) -> Self {
        Self(document)
    }

    /// What is wrong with a value; empty when it is valid.
    pub(crate) fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(schema, value, "", &mut faults);
        faults
    }

    fn is_valid(&self, schema: &Value, value: &Value) -> bool {
        self.faults(schema, value).is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let keywords = match schema {
            Value::Object(keywords) => keywords,
            Value::Bool(true) => return,
            _ => return faults.push(format!("{at}: nothing is valid here")),
        };
        if value.is_null() && keywords.get("nullable") == Some(&Value::Bool(true)) {
            return;
        }
        for keyword in keywords.keys() {
            if !self.holds(keyword, keywords, value, at, faults) {
                let argument = &keywords[keyword];
                faults.push(format!("{at}: {value} against {keyword} {argument}"));
            }
        }
    }

    /// Judges one keyword; faults of inner values are added where they are.
    fn holds(
        &self,
        keyword: &str,
        keywords: &Map<String, Value>,
        value: &Value,
        at: &str,
        faults: &mut Vec<String>,
    ) -> bool {
        let argument = &keywords[keyword];
        let list = || argument.as_array().into_iter().flatten();
        let matching = || list().filter(|schema| self.is_valid(schema, value)).count();
        match keyword {
            "$ref" => {
                let path = argument.as_str().unwrap_or_default().trim_start_matches('#');
                let Some(schema) = self.0.pointer(path) else { return false };
                self.check(schema, value, at, faults);
            }
            "allOf" => list().for_each(|schema| self.check(schema, value, at, faults)),
            "anyOf" => return matching() > 0,
            "oneOf" => return matching() == 1,
            "not" => return !self.is_valid(argument, value),
            "type" => return has_type(argument, value),
            "enum" => return list().any(|one| one == value),
            "const" => return argument == value,
            "properties" | "required" | "additionalProperties" | "propertyNames" => {
                let Value::Object(object) = value else { return true };
                return self.object(keyword, keywords, object, at, faults);
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(argument, item, &format!("{at}[{index}]"), faults);
                }
            }
            "prefixItems" => {
                let items = value.as_array().into_iter().flatten();
                for (schema, item) in list().zip(items) {
                    self.check(schema, item, at, faults);
                }
            }
            _ => {
                return ANNOTATIONS.contains(&keyword)
                    || keyword.starts_with("x-")
                    || is_within(keyword, argument, keywords, value);
            }
        }
        true
    }

    fn object(
        &self,
        keyword: &str,
        keywords: &Map<String, Value>,
        object: &Map<String, Value>,
        at: &str,
        faults: &mut Vec<String>,
    ) -> bool {
        let argument = &keywords[keyword];
        let declared = keywords.get("properties").and_then(Value::as_object);
        for (name, inner) in object {
            let at = format!("{at}.{name}");
            match keyword {
                "properties" => {
                    if let Some(schema) = argument.get(name) {
                        self.check(schema, inner, &at, faults);
                    }
                }
                "additionalProperties" if declared.is_none_or(|d| !d.contains_key(name)) => {
                    self.check(argument, inner, &at, faults);
                }
                "propertyNames" => {
                    self.check(argument, &Value::String(name.clone()), &at, faults);
                }
                _ => {}
            }
        }
        let mut names = argument.as_array().into_iter().flatten().filter_map(Value::as_str);
        keyword != "required" || names.all(|name| object.contains_key(name))
    }
}

fn has_type(argument: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    };
    match argument {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    }
}

/// Bounds of numbers, lengths and texts. A value of another type is not bound by them.
fn is_within(
    keyword: &str,
    argument: &Value,
    keywords: &Map<String, Value>,
    value: &Value,
) -> bool {
    let bound = argument.as_f64();
    let number = value.as_f64();
    let length = value.as_str().map(|text| text.chars().count() as f64);
    let items = value.as_array().map(|items| items.len() as f64);
    let fields = value.as_object().map(|object| object.len() as f64);
    // 3.0 has a flag where 3.1 has a number.
    let flag = |key: &str| keywords.get(key) == Some(&Value::Bool(true));
    let (measure, holds): (Option<f64>, fn(f64, f64) -> bool) = match keyword {
        "minimum" if flag("exclusiveMinimum") => (number, |value, bound| value > bound),
        "maximum" if flag("exclusiveMaximum") => (number, |value, bound| value < bound),
        "minimum" => (number, |value, bound| value >= bound),
        "maximum" => (number, |value, bound| value <= bound),
        "exclusiveMinimum" | "exclusiveMaximum" if argument.is_boolean() => return true,
        "exclusiveMinimum" => (number, |value, bound| value > bound),
        "exclusiveMaximum" => (number, |value, bound| value < bound),
        "minLength" => (length, |value, bound| value >= bound),
        "maxLength" => (length, |value, bound| value <= bound),
        "minItems" => (items, |value, bound| value >= bound),
        "maxItems" => (items, |value, bound| value <= bound),
        "minProperties" => (fields, |value, bound| value >= bound),
        "maxProperties" => (fields, |value, bound| value <= bound),
        "pattern" => {
            let pattern = regex::Regex::new(argument.as_str().unwrap_or("(")).unwrap();
            return value.as_str().is_none_or(|text| pattern.is_match(text));
        }
        "uniqueItems" => return true,
        _ => return false,
    };
    match (measure, bound) {
        (None, _) => true,
        (Some(value), Some(bound)) => holds(value, bound),
        (Some(_), None) => false,
    }
}

#[test]
fn the_judge_finds_what_is_wrong() {
    use serde_json::json;
    let document = json!({ "components": { "schemas": { "Name": {
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "type": ["integer", "null"], "minimum": 1 } }
    } } } });
    let schemas = Schemas::of(&document);
    let name = json!({ "$ref": "#/components/schemas/Name" });
    let list = json!({ "type": "array", "items": name, "maxItems": 2 });
    for (value, faults) in [
        (json!([{ "a": 1 }, { "a": null }]), 0),
        (json!([{ "a": 0 }]), 1),
        (json!([{ "b": 1 }]), 2),
        (json!([{ "a": "1" }]), 1),
        (json!([{ "a": 1 }, { "a": 1 }, { "a": 1 }]), 1),
        (json!({}), 1),
    ] {
        assert_eq!(schemas.faults(&list, &value).len(), faults, "{value}");
    }
    assert_eq!(schemas.faults(&json!({ "dependentRequired": {} }), &json!(1)).len(), 1);
    assert_eq!(schemas.faults(&json!({ "oneOf": [{}, {}] }), &json!(1)).len(), 1);
}
