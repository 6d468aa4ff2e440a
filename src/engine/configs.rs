//! Role: read and change the configuration of topics and of the server.
//!
//! An entry of a topic falls back to the server's setting of the same meaning (its synonym, such
//! as `log.retention.ms` for `retention.ms`), that to what the server was started with, and that
//! to what is built in. No entry is a secret, so every value may be shown.

use super::BoxFuture;
use super::topics::Topic;

/// Where the value of a configuration entry comes from (KIP-226), the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic,
    /// Set at runtime for this broker.
    Broker,
    /// Set at runtime for all brokers.
    Cluster,
    /// Set when the server was started.
    Start,
    /// Built in.
    Default,
}

/// What the text of an entry means (KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// A whole number of up to 32 bits.
    Int,
    /// A whole number of up to 64 bits.
    Long,
    /// Words with commas between them.
    List,
    /// Any text, or one of several words.
    Text,
}

/// Whether an entry can be changed while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// It can.
    Dynamic,
    /// Only by a restart with another setting, or not at all.
    ReadOnly,
}

/// One place where an entry has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSynonym {
    /// Name of the entry at that place.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// The place.
    pub source: ConfigSource,
}

/// One entry of a configuration with the value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name of the entry.
    pub name: &'static str,
    /// Its value as text.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// What the text means.
    pub kind: ConfigKind,
    /// Whether it can be changed.
    pub mutability: Mutability,
    /// Every place where it has a value, the strongest first; the first one is in force.
    pub synonyms: Vec<ConfigSynonym>,
}

/// What to do with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it a value.
    Set(String),
    /// Take its value away, so that the next weaker place counts.
    Delete,
    /// Add words to a list.
    Append(String),
    /// Take words out of a list.
    Subtract(String),
}

/// One change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// Kafka's name of the entry.
    pub name: String,
    /// What to do with it.
    pub operation: ConfigOperation,
}

/// How a configuration becomes another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    /// These entries change, the others stay.
    Change(Vec<ConfigChange>),
    /// These entries are all that is set from now on.
    Replace(Vec<(String, String)>),
}

/// Whether a request is carried out or only checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Execution {
    /// Carry it out.
    #[default]
    Perform,
    /// Only say whether it could be.
    Check,
}

/// Whose settings of the server are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerScope {
    /// Those of all brokers.
    Cluster,
    /// Those of this broker, which are stronger.
    Broker,
}

/// Why a configuration was not changed; nothing was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigsError {
    /// There is no such topic.
    #[error("topic '{0}' does not exist")]
    UnknownTopic(String),
    /// Internal topics stay as they are.
    #[error("topic '{0}' is internal and its configuration cannot be changed")]
    InternalTopic(String),
    /// There is no entry of this name.
    #[error("configuration '{0}' does not exist")]
    UnknownConfig(String),
    /// The value is not possible.
    #[error("configuration '{name}' = '{value}': {reason}")]
    InvalidValue {
        /// The entry.
        name: String,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The entry cannot be changed while the server runs.
    #[error("configuration '{0}' is read only: it is set when the server starts")]
    ReadOnly(String),
    /// An entry is named more than once.
    #[error("configuration '{0}' is named more than once")]
    Repeated(String),
    /// Words can be added to lists only.
    #[error("configuration '{0}' is not a list")]
    NotAList(String),
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Read and change the configuration of topics and of the server.
pub trait Configs: Send + Sync + 'static {
    /// Lists the whole configuration of a topic, by name.
    fn describe_topic(&self, topic: &Topic) -> Vec<ConfigEntry>;

    /// Lists every setting of this broker, by name.
    fn describe_broker(&self) -> Vec<ConfigEntry>;

    /// Lists what is set at runtime for all brokers, by name; empty when nothing is.
    fn describe_cluster(&self) -> Vec<ConfigEntry>;

    /// Changes the configuration of a topic, all of `edit` or nothing. When the answer comes, the
    /// new values are in force and survive a crash.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the configuration changed.
    fn alter_topic(
        &self,
        topic: &str,
        edit: ConfigEdit,
        execution: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>>;

    /// Changes settings of the server, all of `edit` or nothing. When the answer comes, the new
    /// values are in force, for topics too, and survive a crash.
    ///
    /// # Cancel safety
    /// As [`Configs::alter_topic`].
    fn alter_server(
        &self,
        scope: ServerScope,
        edit: ConfigEdit,
        execution: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>>;
}
