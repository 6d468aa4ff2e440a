//! 42 DeleteGroups: versions 0 to 2.
//!
//! - v1: throttling after the answer (KIP-219)
//! - v2: flexible encoding
//!
//! Deviations: none known.

use crate::base::ids::GroupId;
use crate::engine::Later;
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::{DeleteGroupsRequestData, DeleteGroupsResponseData};

use super::{Call, Reply, VersionRange, errors, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 2);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DeleteGroupsRequestData::read(&mut call.body, call.version)?;
    let groups = &call.engine().groups;
    // All are deleted before the first wait, so that they share one write to the disk.
    let delete = |name: &crate::protocol::KafkaString| groups.delete(&GroupId::from(name.as_str()));
    let deletions: Vec<_> = request.groups_names.iter().map(delete).collect();
    Ok(later(async move {
        let mut results = Vec::with_capacity(deletions.len());
        for (group_id, deletion) in request.groups_names.into_iter().zip(deletions) {
            let code =
                deletion.await.map_or_else(|error| errors::group(&error), |()| ErrorCode::None);
            results.push(DeletableGroupResult {
                group_id,
                error_code: code.code(),
                ..Default::default()
            });
        }
        let error = first_error(results.iter().map(|result| result.error_code));
        Reply::message(DeleteGroupsResponseData { results, ..Default::default() }, error)
    }))
}
