//! 44 IncrementalAlterConfigs: versions 0 and 1 (KIP-339).
//!
//! - v1: flexible encoding
//!
//! Deviations: none known. Loggers (resource type 8) have no configuration.

use crate::engine::configs::{ConfigChange, ConfigEdit, ConfigOperation, Execution};
use crate::engine::{Engine, Later};
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{
    IncrementalAlterConfigsRequestData, IncrementalAlterConfigsResponseData,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::configs::{self, Refusal};
use super::{Call, Reply, VersionRange, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 1);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = IncrementalAlterConfigsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    Ok(later(async move {
        let mut message = IncrementalAlterConfigsResponseData::default();
        let execution = configs::execution(request.validate_only);
        let keys = request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str()));
        let mut repeated = configs::repeated(keys).into_iter();
        for resource in request.resources {
            let altered = match repeated.next().flatten() {
                Some(refusal) => Err(refusal),
                None => change(&engine, &resource, execution).await,
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

async fn change(
    engine: &Engine,
    resource: &AlterConfigsResource,
    execution: Execution,
) -> Result<(), Refusal> {
    let target =
        configs::resource(engine, resource.resource_type, resource.resource_name.as_str())?;
    let changes: Result<Vec<_>, _> = resource.configs.iter().map(change_of).collect();
    let altered = configs::alter(engine, &target, ConfigEdit::Change(changes?), execution).await;
    altered.map_err(|error| configs::refusal(&error))
}

fn change_of(config: &AlterableConfig) -> Result<ConfigChange, Refusal> {
    let name = config.name.as_str().to_owned();
    let value = || {
        let value = config.value.as_ref().ok_or_else(|| configs::no_value(&name))?;
        Ok(value.as_str().to_owned())
    };
    let operation = match config.config_operation {
        0 => ConfigOperation::Set(value()?),
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append(value()?),
        3 => ConfigOperation::Subtract(value()?),
        other => {
            let text = format!("operation {other} of configuration '{name}' does not exist");
            return Err((ErrorCode::InvalidRequest, text));
        }
    };
    Ok(ConfigChange { name, operation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_kafkas_numbers_and_need_their_values() {
        let of = |operation: i8, value: Option<&str>| {
            let config = AlterableConfig {
                name: super::super::text("cleanup.policy"),
                config_operation: operation,
                value: value.map(super::super::text),
                ..Default::default()
            };
            change_of(&config).map(|change| change.operation).map_err(|(code, _)| code)
        };
        assert_eq!(of(0, Some("compact")), Ok(ConfigOperation::Set("compact".to_owned())));
        assert_eq!(of(1, None), Ok(ConfigOperation::Delete));
        assert_eq!(of(2, Some("compact")), Ok(ConfigOperation::Append("compact".to_owned())));
        assert_eq!(of(3, Some("compact")), Ok(ConfigOperation::Subtract("compact".to_owned())));
        assert_eq!(of(0, None), Err(ErrorCode::InvalidRequest));
        assert_eq!(of(4, Some("compact")), Err(ErrorCode::InvalidRequest));
    }
}
