//! 22 InitProducerId: versions 0 to 4.
//!
//! - v1: throttling after the answer (KIP-219)
//! - v2: flexible encoding
//! - v3: the producer's id and epoch, to recover from errors (KIP-360)
//! - v4: PRODUCER_FENCED may be answered
//!
//! Deviations: transactions are not offered, so a transactional id is refused as not authorized,
//! which every client takes as final. Without one the answer is always a fresh id, as in Kafka.

use crate::engine::Later;
use crate::protocol::ErrorCode;
use crate::protocol::messages::{InitProducerIdRequestData, InitProducerIdResponseData};

use super::{Call, Reply, VersionRange, errors, later, owned, ready};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 4);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = InitProducerIdRequestData::read(&mut call.body, call.version)?;
    let transactional_id = owned(request.transactional_id.as_ref());
    if transactional_id.as_deref() == Some("") {
        return Ok(ready(failed(ErrorCode::InvalidRequest), ErrorCode::InvalidRequest));
    }
    let giving = call.engine().producers.init_producer_id(transactional_id);
    Ok(later(async move {
        match giving.await {
            Ok(identity) => {
                let message = InitProducerIdResponseData {
                    producer_id: identity.id,
                    producer_epoch: identity.epoch,
                    ..Default::default()
                };
                Reply::message(message, ErrorCode::None)
            }
            Err(error) => {
                let code = errors::producer_id(&error);
                Reply::message(failed(code), code)
            }
        }
    }))
}

fn failed(code: ErrorCode) -> InitProducerIdResponseData {
    InitProducerIdResponseData {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    }
}
