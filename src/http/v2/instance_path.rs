//! The two segments of a path that name an instance.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::base::ids::GroupId;
use crate::engine::instances::InstanceKey;

/// An instance in a path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct InstancePath {
    /// Name of the group
    #[param(example = "billing")]
    pub group: String,
    /// Name of the instance
    #[param(example = "c1")]
    pub instance: String,
}

impl InstancePath {
    /// The key that the instance has everywhere else.
    pub(super) fn key(&self) -> InstanceKey {
        InstanceKey { group: GroupId::from(self.group.as_str()), name: self.instance.clone() }
    }
}
