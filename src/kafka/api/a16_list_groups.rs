//! 16 ListGroups: versions 0 to 5.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: flexible encoding
//! - v4: filter by state, state in the answer (KIP-518)
//! - v5: filter by type, type in the answer (KIP-848)
//!
//! Deviations: every group is a classic one.

use crate::engine::Later;
use crate::engine::groups::GroupDescription;
use crate::protocol::messages::{ListGroupsRequestData, ListGroupsResponseData, ListedGroup};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 5);

/// The type of all groups here.
const CLASSIC: &str = "classic";

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = ListGroupsRequestData::read(&mut call.body, call.version)?;
    let is_wanted = |group: &GroupDescription| {
        admits(&request.states_filter, group.state.as_str())
            && admits(&request.types_filter, CLASSIC)
    };
    let groups = call.engine().groups.list().into_iter().filter(is_wanted);
    let groups = groups.map(|group| ListedGroup {
        group_id: text(group.group_id.as_str()),
        protocol_type: KafkaString::from(group.protocol_type),
        group_state: text(group.state.as_str()),
        group_type: text(CLASSIC),
        ..Default::default()
    });
    let message = ListGroupsResponseData { groups: groups.collect(), ..Default::default() };
    Ok(ready(message, ErrorCode::None))
}

/// An empty filter admits everything.
fn admits(filter: &[KafkaString], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.as_str().eq_ignore_ascii_case(value))
}
