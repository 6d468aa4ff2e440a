//! 60 DescribeCluster: versions 0 to 1.
//!
//! - v0: flexible from the start (KIP-700)
//! - v1: endpoint type (KIP-919): brokers or controllers
//!
//! Deviations: there is no controller listener; asking for controllers is refused.

use crate::engine::Later;
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    DescribeClusterBroker, DescribeClusterRequestData, DescribeClusterResponseData,
};

use super::{Call, Reply, VersionRange, operations, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 1);

/// The endpoints of brokers, by Kafka's number; 2 are controllers.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DescribeClusterRequestData::read(&mut call.body, call.version)?;
    let error = match request.endpoint_type {
        BROKERS => ErrorCode::None,
        CONTROLLERS => ErrorCode::MismatchedEndpointType,
        _ => ErrorCode::UnsupportedEndpointType,
    };
    if error != ErrorCode::None {
        let message = DescribeClusterResponseData {
            error_code: error.code(),
            error_message: Some(text("only the endpoints of brokers are known here")),
            ..Default::default()
        };
        return Ok(ready(message, error));
    }
    let broker = call.broker();
    let described = DescribeClusterBroker {
        broker_id: broker.id,
        host: broker.host,
        port: broker.port,
        ..Default::default()
    };
    let with_operations = request.include_cluster_authorized_operations;
    let message = DescribeClusterResponseData {
        cluster_id: text(&call.engine().node.cluster_id),
        controller_id: broker.id,
        brokers: vec![described],
        cluster_authorized_operations: operations::cluster(with_operations),
        ..Default::default()
    };
    Ok(ready(message, error))
}
