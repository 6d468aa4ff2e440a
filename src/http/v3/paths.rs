//! The parameters of paths, for the specification; handlers read them through `Scope`.

use utoipa::IntoParams;

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty = $example:literal,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, IntoParams)]
            #[into_params(parameter_in = Path)]
            pub struct $name {
                $($(#[$fdoc])* #[param(example = $example)] pub $field: $type,)+
            }
        )+
    };
}

paths! {
    /// A cluster.
    ClusterPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
    }
    /// A broker of a cluster.
    BrokerPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Number of the broker.
        broker_id: i32 = 0,
    }
    /// A setting of all brokers.
    ClusterConfigPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Name of the setting.
        name: String = "log.retention.ms",
    }
    /// A setting of a broker.
    BrokerConfigPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Number of the broker.
        broker_id: i32 = 0,
        /// Name of the setting.
        name: String = "log.retention.ms",
    }
    /// A topic of a cluster.
    TopicPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Name of the topic.
        topic_name: String = "orders",
    }
    /// An entry of a topic's configuration.
    TopicConfigPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Name of the topic.
        topic_name: String = "orders",
        /// Name of the entry.
        name: String = "retention.ms",
    }
    /// A partition of a topic.
    PartitionPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Name of the topic.
        topic_name: String = "orders",
        /// Number of the partition.
        partition_id: i32 = 0,
    }
    /// A replica of a partition.
    ReplicaPath {
        /// Identity of the cluster.
        cluster_id: String = "lkc-1",
        /// Name of the topic.
        topic_name: String = "orders",
        /// Number of the partition.
        partition_id: i32 = 0,
        /// Number of the broker.
        broker_id: i32 = 0,
    }
}
