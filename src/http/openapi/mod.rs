//! The OpenAPI document beyond what single handlers say of themselves.
//!
//! [`complete`] adds what holds for every operation: the refusals of the layers around the
//! handlers, a description of every response, an example of every error. [`down`] turns the 3.1
//! document into one of 3.0 for tools that know no other.

pub mod down;

use http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Components, Content, OpenApi, Ref, RefOr, Required, Response};

use super::around::origin;
use super::media;

/// A refusal that layers around the handlers give, and which operations it may meet.
struct Refusal {
    status: StatusCode,
    name: &'static str,
    text: &'static str,
    meets: Meets,
    example: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meets {
    Every,
    WithBody,
    /// Those that change something, or move the place of a group.
    Changing,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Change,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        status: StatusCode::BAD_REQUEST,
        name: "BadRequest",
        text: "The request cannot be read: a parameter, a header or the body is malformed",
        meets: Meets::Every,
        example: "timeout 'soon' is not a number",
    },
    Refusal {
        status: StatusCode::FORBIDDEN,
        name: "Forbidden",
        text: "The request is of a page whose origin is not listed",
        meets: Meets::Changing,
        example: "origin 'https://shop.example' is not allowed, cors_origins can list it",
    },
    Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        name: "RequestTimeout",
        text: "The body did not arrive in time",
        meets: Meets::WithBody,
        example: "body did not go on for 30 s",
    },
    Refusal {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        name: "PayloadTooLarge",
        text: "The body, or what it is when decompressed, is larger than the limit",
        meets: Meets::WithBody,
        example: "body is larger than 67108864 bytes",
    },
    Refusal {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        name: "UnsupportedMediaType",
        text: "The content type or the content encoding is not one that the operation takes",
        meets: Meets::WithBody,
        example: "content type 'text/plain' is not supported, use application/json or application/vnd.kafka.v2+json",
    },
    Refusal {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        name: "UnprocessableEntity",
        text: "The body is JSON but not what the operation takes",
        meets: Meets::WithBody,
        example: "missing field `records` at line 1 column 2",
    },
    Refusal {
        status: StatusCode::TOO_MANY_REQUESTS,
        name: "TooManyRequests",
        text: "Too many requests or connections; Retry-After says when to come back",
        meets: Meets::Every,
        example: "10.0.0.7 may send 100 requests a second",
    },
    Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        name: "InternalServerError",
        text: "The server failed; its log has the cause under the request id",
        meets: Meets::Every,
        example: "the server failed, its log says why",
    },
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        name: "ServiceUnavailable",
        text: "The server cannot do it now; Retry-After says when to come back",
        meets: Meets::Every,
        example: "request bodies take all the memory they may, try again",
    },
];

/// Operations that do without a body; the macro calls every body required.
const OPTIONAL_BODIES: &[&str] = &["createConsumer", "commitOffsets"];

/// Adds what every operation has in common.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_with(Components::new);
    for refusal in REFUSALS {
        components.responses.insert(refusal.name.to_owned(), RefOr::T(shared(refusal)));
    }
    for (path, item) in &mut document.paths.paths {
        let read = if origin::moves_groups(path) { Effect::Change } else { Effect::None };
        if let Some(operation) = &mut item.get {
            complete_operation(operation, read);
        }
        let PathItem { put, post, delete, patch, .. } = item;
        for operation in [put, post, delete, patch].into_iter().flatten() {
            complete_operation(operation, Effect::Change);
        }
    }
}

fn shared(refusal: &Refusal) -> Response {
    let content = || {
        let mut content = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        content.example = Some(error_example(refusal.status.as_u16(), refusal.example));
        content
    };
    let mut response = Response::new(refusal.text);
    for content_type in [media::KAFKA_V2_JSON, media::JSON] {
        response.content.insert(content_type.to_owned(), RefOr::T(content()));
    }
    response
}

fn complete_operation(operation: &mut Operation, effect: Effect) {
    let has_body = operation.request_body.is_some();
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if OPTIONAL_BODIES.contains(&id)
        && let Some(RefOr::T(body)) = &mut operation.request_body
    {
        body.required = Some(Required::False);
    }
    if operation.description.is_none() {
        operation.description.clone_from(&operation.summary);
    }
    for refusal in REFUSALS {
        let meets = match refusal.meets {
            Meets::Every => true,
            Meets::WithBody => has_body,
            Meets::Changing => effect == Effect::Change,
        };
        if meets {
            let status = refusal.status.as_str().to_owned();
            let reference = Ref::from_response_name(refusal.name);
            operation.responses.responses.entry(status).or_insert(RefOr::Ref(reference));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let status: u16 = status.parse().unwrap_or_default();
        if response.description.is_empty() {
            let reason = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
            response.description = reason.unwrap_or("Answer").to_owned();
        }
        if status >= 400 {
            let (code, text) = described_code(status, &response.description);
            for content in response.content.values_mut() {
                let RefOr::T(content) = content else { continue };
                if content.example.is_none() && content.examples.is_empty() && is_error(content) {
                    content.example = Some(error_example(code, &text));
                }
            }
        }
    }
}

fn is_error(content: &Content) -> bool {
    let schema = content.schema.as_ref();
    schema.is_some_and(|schema| {
        matches!(schema, RefOr::Ref(reference) if reference.ref_location.ends_with("/ErrorBody"))
    })
}

/// A description that begins with a code, `40403: no such instance`, is an example by itself.
fn described_code(status: u16, description: &str) -> (u32, String) {
    let own = description.split_once(": ");
    let own = own.and_then(|(code, text)| Some((code.parse().ok()?, text)));
    let (code, text) = own.unwrap_or((u32::from(status), description));
    let first = text.split(", 4").next().unwrap_or(text);
    (code, first.to_owned())
}

fn error_example(code: impl Into<u32>, message: &str) -> Value {
    json!({ "error_code": code.into(), "message": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_in_a_description_becomes_the_example() {
        let instance = (40403, "no such instance".to_owned());
        assert_eq!(described_code(404, "40403: no such instance"), instance);
        let topic = (40401, "no such topic".to_owned());
        assert_eq!(described_code(404, "40401: no such topic, 40402: no such partition"), topic);
        assert_eq!(described_code(410, "Records are missing").0, 410);
    }
}
