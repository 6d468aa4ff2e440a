//! How a body that is a record is described: any JSON, any bytes, an event.

use std::borrow::Cow;

use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// A value of any bytes.
pub(super) enum RecordBytes {}

impl PartialSchema for RecordBytes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .description(Some("Any bytes."))
            .into()
    }
}

impl ToSchema for RecordBytes {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("RecordBytes")
    }
}

/// A CloudEvent in the JSON format.
pub(in crate::http) enum CloudEvent {}

impl PartialSchema for CloudEvent {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let mut object = ObjectBuilder::new().schema_type(Type::Object).description(Some(
            "A CloudEvent in the JSON format; any other attribute is an extension.",
        ));
        for (name, example) in
            [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "order.placed")]
        {
            object = object.property(name, text().examples([example])).required(name);
        }
        object.additional_properties(Some(AdditionalProperties::FreeForm(true))).into()
    }
}

impl ToSchema for CloudEvent {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("CloudEvent")
    }
}
