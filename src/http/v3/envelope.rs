//! The parts that every answer of this API has: metadata and links.
//!
//! A resource is a struct with `kind`, `metadata` and its own members; [`collection!`] makes the
//! list of one. Members that are absent are left out, not null.

use serde::Serialize;
use utoipa::ToSchema;

use super::scope::Scope;

/// Where a resource is and what it is called.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResourceMetadata {
    /// Its URL, by the name under which the client reached the server.
    #[serde(rename = "self")]
    #[schema(example = "http://localhost:8082/v3/clusters/lkc-1/topics/orders")]
    pub self_url: String,
    /// Its name as a Confluent resource name.
    #[schema(example = "crn:///kafka=lkc-1/topic=orders")]
    pub resource_name: Option<String>,
}

/// Where a list of resources is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListMetadata {
    /// Its URL, by the name under which the client reached the server.
    #[serde(rename = "self")]
    #[schema(example = "http://localhost:8082/v3/clusters/lkc-1/topics")]
    pub self_url: String,
    /// Always null: lists are whole.
    pub next: Option<String>,
}

/// A link to another resource.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Link {
    /// Its URL.
    #[schema(example = "http://localhost:8082/v3/clusters/lkc-1/topics/orders/partitions")]
    pub related: String,
}

impl ResourceMetadata {
    /// The metadata of the resource at `path` below the cluster, named by `name`.
    #[must_use]
    pub fn new(scope: &Scope, path: &[&str], name: &[(&str, &str)]) -> Self {
        Self { self_url: scope.url(path), resource_name: Some(scope.crn(name)) }
    }
}

impl ListMetadata {
    /// The metadata of the list at `path` below the cluster.
    #[must_use]
    pub fn new(scope: &Scope, path: &[&str]) -> Self {
        Self { self_url: scope.url(path), next: None }
    }
}

impl Link {
    /// A link to `path` below the cluster.
    #[must_use]
    pub fn new(scope: &Scope, path: &[&str]) -> Self {
        Self { related: scope.url(path) }
    }
}

/// Defines the list of a resource: its kind, its metadata, and the resources as `data`.
macro_rules! collection {
    ($(#[$doc:meta])* $list:ident of $item:ident) => {
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub struct $list {
            /// What this is.
            pub kind: &'static str,
            /// Where it is.
            pub metadata: $crate::http::v3::envelope::ListMetadata,
            /// Its members.
            pub data: Vec<$item>,
        }

        impl $list {
            /// The list at `path` below the cluster.
            #[must_use]
            pub fn new(scope: &$crate::http::v3::Scope, path: &[&str], data: Vec<$item>) -> Self {
                let metadata = $crate::http::v3::envelope::ListMetadata::new(scope, path);
                Self { kind: stringify!($list), metadata, data }
            }
        }
    };
}
pub(super) use collection;
