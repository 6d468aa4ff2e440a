//! 18 ApiVersions: versions 0 to 4.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: flexible encoding of the body (the header of the answer never is), the client's name and
//!   version (KIP-511), features (KIP-584)
//! - v4: features with minimum level 0 may be listed
//!
//! Deviations: no features. A version that we do not know is answered in version 0 with
//! UNSUPPORTED_VERSION and the whole list, so that the client can choose without a second guess.

use crate::engine::Later;
use crate::protocol::messages::{ApiVersion, ApiVersionsRequestData, ApiVersionsResponseData};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, TABLE, VersionRange, ready};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 4);

/// First version in which the client says who it is.
const CLIENT_NAME_FROM: i16 = 3;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    if !RANGE.serves(call.version) {
        return Ok(answer(ErrorCode::UnsupportedVersion));
    }
    let request = ApiVersionsRequestData::read(&mut call.body, call.version)?;
    let names = [&request.client_software_name, &request.client_software_version];
    if call.version >= CLIENT_NAME_FROM && !names.into_iter().all(is_software_name) {
        let error = ErrorCode::InvalidRequest;
        let message = ApiVersionsResponseData { error_code: error.code(), ..Default::default() };
        return Ok(ready(message, error));
    }
    Ok(answer(ErrorCode::None))
}

fn answer(error: ErrorCode) -> Later<Reply> {
    let versions = TABLE.iter().map(|api| ApiVersion {
        api_key: api.key as i16,
        min_version: api.range.advertised_min,
        max_version: api.range.max,
        ..Default::default()
    });
    let message = ApiVersionsResponseData {
        error_code: error.code(),
        api_keys: versions.collect(),
        ..Default::default()
    };
    ready(message, error)
}

/// Kafka's rule: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(name: &KafkaString) -> bool {
    let bytes = name.as_bytes();
    let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_outer(bytes.first())
        && is_outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_rule() {
        for name in ["librdkafka", "2.11.1", "a", "apache-kafka-java"] {
            assert!(is_software_name(&KafkaString::from_static(name)), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "é"] {
            assert!(!is_software_name(&KafkaString::from_static(name)), "{name}");
        }
    }
}
