//! Layer 4: the seam between the doors and whatever keeps the log.
//!
//! Both doors talk only to the role traits here, with our own typed requests and errors. The
//! embedded broker implements them; a client of an existing Kafka cluster can implement the same
//! traits later, without a change in `http/` or `kafka/` (ADR 0001).
//!
//! Every trait has at most a dozen methods. Calls that are usually answered at once return a
//! [`Later`], which costs no allocation then.

use std::sync::Arc;

pub mod configs;
pub mod cursors;
pub mod embedded;
pub mod group_changes;
pub mod groups;
pub mod instances;
pub mod later;
pub mod log;
pub mod producers;
pub mod topics;
pub mod transactions;

pub use configs::Configs;
pub use cursors::Cursors;
pub use group_changes::GroupChanges;
pub use groups::Groups;
pub use instances::Instances;
pub use later::Later;
pub use log::Log;
pub use producers::Producers;
pub use topics::Topics;
pub use transactions::Transactions;

/// A boxed future, as the methods that really wait return it.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The node that answers, as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Broker id; stable across restarts.
    pub id: i32,
    /// Identity of the cluster; stable across restarts.
    pub cluster_id: String,
}

/// Everything a door needs, in roles. A clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    /// Append, read and watch partitions.
    pub log: Arc<dyn Log>,
    /// Create, grow, find, list and delete topics.
    pub topics: Arc<dyn Topics>,
    /// Configuration of topics and of the server.
    pub configs: Arc<dyn Configs>,
    /// Membership and committed offsets of consumer groups.
    pub groups: Arc<dyn Groups>,
    /// Producer ids.
    pub producers: Arc<dyn Producers>,
    /// Appends that count together, and requests that count once.
    pub transactions: Arc<dyn Transactions>,
    /// What the HTTP door keeps of its consumer instances.
    pub instances: Arc<dyn Instances>,
    /// What the HTTP door keeps of streams whose cursor is too long to send.
    pub cursors: Arc<dyn Cursors>,
    /// Who we are.
    pub node: Node,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("node", &self.node).finish_non_exhaustive()
    }
}
