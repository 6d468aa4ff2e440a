//! 10 FindCoordinator: versions 0 to 4.
//!
//! - v0: groups only
//! - v1: key type (group or transaction), throttle time, error message
//! - v2: throttling after the answer (KIP-219)
//! - v3: flexible encoding
//! - v4: several keys in one request (KIP-699)
//!
//! Deviations: this node coordinates everything, so no key is ever unknown. Transactions have a
//! coordinator too, which then says at InitProducerId that it does not offer them.

use crate::engine::Later;
use crate::protocol::messages::{
    Coordinator, FindCoordinatorRequestData, FindCoordinatorResponseData,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Broker, Call, Reply, VersionRange, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 4);

/// First version with a list of keys.
const KEYS_FROM: i16 = 4;

/// Key types below share groups, which come with v6.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = FindCoordinatorRequestData::read(&mut call.body, call.version)?;
    let broker = call.broker();
    let error = match request.key_type {
        GROUP | TRANSACTION => ErrorCode::None,
        _ => ErrorCode::InvalidRequest,
    };
    let message = if call.version >= KEYS_FROM {
        let keys = request.coordinator_keys.into_iter();
        let coordinators = keys.map(|key| coordinator(key, &broker, error)).collect();
        FindCoordinatorResponseData { coordinators, ..Default::default() }
    } else {
        let found = coordinator(request.key, &broker, error);
        FindCoordinatorResponseData {
            error_code: found.error_code,
            error_message: found.error_message,
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            ..Default::default()
        }
    };
    Ok(ready(message, error))
}

fn coordinator(key: KafkaString, broker: &Broker, error: ErrorCode) -> Coordinator {
    if error == ErrorCode::None {
        return Coordinator {
            key,
            node_id: broker.id,
            host: broker.host.clone(),
            port: broker.port,
            ..Default::default()
        };
    }
    Coordinator {
        key,
        node_id: -1,
        port: -1,
        error_code: error.code(),
        error_message: Some(text("key type is neither group nor transaction")),
        ..Default::default()
    }
}
