//! 33 AlterConfigs: versions 0 to 2.
//!
//! - v1: throttling after the answer (KIP-219)
//! - v2: flexible encoding
//!
//! The entries of a resource become all that is set there. Deviations: none known.

use crate::engine::configs::{ConfigEdit, Execution};
use crate::engine::{Engine, Later};
use crate::protocol::KafkaString;
use crate::protocol::messages::alter_configs_request::AlterConfigsResource;
use crate::protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{AlterConfigsRequestData, AlterConfigsResponseData};

use super::configs::{self, Refusal};
use super::{Call, Reply, VersionRange, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 2);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = AlterConfigsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    Ok(later(async move {
        let mut message = AlterConfigsResponseData::default();
        let execution = configs::execution(request.validate_only);
        let keys = request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str()));
        let mut repeated = configs::repeated(keys).into_iter();
        for resource in request.resources {
            let altered = match repeated.next().flatten() {
                Some(refusal) => Err(refusal),
                None => replace(&engine, &resource, execution).await,
            };
            let (code, text) = configs::outcome(altered);
            message.responses.push(AlterConfigsResourceResponse {
                error_code: code.code(),
                error_message: text.map(KafkaString::from),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                ..Default::default()
            });
        }
        let error = first_error(message.responses.iter().map(|response| response.error_code));
        Reply::message(message, error)
    }))
}

async fn replace(
    engine: &Engine,
    resource: &AlterConfigsResource,
    execution: Execution,
) -> Result<(), Refusal> {
    let target =
        configs::resource(engine, resource.resource_type, resource.resource_name.as_str())?;
    let mut entries = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let name = config.name.as_str().to_owned();
        let value = config.value.as_ref().ok_or_else(|| configs::no_value(&name))?;
        entries.push((name, value.as_str().to_owned()));
    }
    let altered = configs::alter(engine, &target, ConfigEdit::Replace(entries), execution).await;
    altered.map_err(|error| configs::refusal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::fake_engine::{Fake, TOPIC};
    use crate::protocol::ErrorCode;
    use crate::protocol::messages::alter_configs_request::AlterableConfig;

    fn resource(kind: i8, name: &str, value: Option<&str>) -> AlterConfigsResource {
        let config = AlterableConfig {
            name: super::super::text("retention.ms"),
            value: value.map(super::super::text),
            ..Default::default()
        };
        AlterConfigsResource {
            resource_type: kind,
            resource_name: super::super::text(name),
            configs: vec![config],
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn resources_are_judged_each_for_itself() {
        let engine = Fake::new().engine();
        let perform = configs::execution(false);
        let code = async |resource: AlterConfigsResource| {
            configs::outcome(replace(&engine, &resource, perform).await).0
        };
        assert_eq!(code(resource(2, TOPIC, Some("1"))).await, ErrorCode::None);
        assert_eq!(code(resource(2, TOPIC, None)).await, ErrorCode::InvalidRequest);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(code(resource(2, "nope", Some("1"))).await, unknown);
        let invalid = ErrorCode::InvalidTopicException;
        assert_eq!(code(resource(2, "a b", Some("1"))).await, invalid);
        assert_eq!(code(resource(4, "3", Some("1"))).await, ErrorCode::InvalidRequest);
        assert_eq!(code(resource(8, "7", Some("1"))).await, ErrorCode::InvalidRequest);
    }
}
