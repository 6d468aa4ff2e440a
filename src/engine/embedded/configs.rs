//! The `Configs` role of the embedded broker.

use std::sync::Arc;

use super::config_edit;
use super::metadata;
use super::registry::TopicEntry;
use super::server_config::Layers;
use super::topic_config::{self, TopicPlace, TopicSettings};
use super::topics::EmbeddedTopics;
use crate::engine::BoxFuture;
use crate::engine::configs::{
    AlterConfigsError, ConfigEdit, ConfigEntry, Configs, Execution, ServerScope,
};
use crate::engine::topics::Topic;

impl Configs for EmbeddedTopics {
    fn describe_topic(&self, topic: &Topic) -> Vec<ConfigEntry> {
        if topic.is_internal {
            // Settings of the server do not reach the broker's own topics.
            return topic_config::describe(&topic.overrides, &Layers::default());
        }
        topic_config::describe(&topic.overrides, &self.server.layers())
    }

    fn describe_broker(&self) -> Vec<ConfigEntry> {
        self.server.describe()
    }

    fn describe_cluster(&self) -> Vec<ConfigEntry> {
        self.server.describe_cluster()
    }

    fn alter_topic(
        &self,
        topic: &str,
        edit: ConfigEdit,
        execution: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        let this = self.clone();
        let topic = topic.to_owned();
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            this.alter_topic_locked(&topic, &edit, execution).await
        })
    }

    fn alter_server(
        &self,
        scope: ServerScope,
        edit: ConfigEdit,
        execution: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        let this = self.clone();
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            this.alter_server_locked(scope, &edit, execution).await
        })
    }
}

impl EmbeddedTopics {
    async fn alter_topic_locked(
        &self,
        name: &str,
        edit: &ConfigEdit,
        execution: Execution,
    ) -> Result<(), AlterConfigsError> {
        let entry = self.registry.find(name);
        let entry = entry.ok_or_else(|| AlterConfigsError::UnknownTopic(name.to_owned()))?;
        if entry.topic.is_internal {
            return Err(AlterConfigsError::InternalTopic(name.to_owned()));
        }
        let layers = self.server.layers();
        let edited = config_edit::apply(&TopicPlace(&layers), &entry.topic.overrides, edit)?;
        if execution == Execution::Check || edited == entry.topic.overrides {
            return Ok(());
        }
        let topic = Topic { overrides: edited, ..Topic::clone(&entry.topic) };
        let committed = self.state.commit(&[metadata::put_topic(&topic)]).await;
        committed.map_err(|error| AlterConfigsError::Storage(error.to_string()))?;
        tracing::info!(topic = name, configs = ?topic.overrides, "topic configuration changed");
        self.install(&entry, topic, &layers);
        Ok(())
    }

    async fn alter_server_locked(
        &self,
        scope: ServerScope,
        edit: &ConfigEdit,
        execution: Execution,
    ) -> Result<(), AlterConfigsError> {
        let current = self.server.layers();
        let edited = config_edit::apply(self.server.as_ref(), current.of(scope), edit)?;
        if execution == Execution::Check || edited == *current.of(scope) {
            return Ok(());
        }
        let committed = self.state.commit(&[metadata::put_server_configs(scope, &edited)]).await;
        committed.map_err(|error| AlterConfigsError::Storage(error.to_string()))?;
        tracing::info!(?scope, configs = ?edited, "server configuration changed");
        let mut layers = Layers::clone(&current);
        *layers.of_mut(scope) = edited;
        let layers = self.server.replace(layers);
        for entry in self.registry.snapshot() {
            if !entry.topic.is_internal {
                self.install(&entry, Topic::clone(&entry.topic), &layers);
            }
        }
        Ok(())
    }

    /// Puts settings in force: those of the broker with the entry, those of the log in place.
    fn install(&self, entry: &TopicEntry, topic: Topic, layers: &Layers) {
        let settings = TopicSettings::resolve(&topic.overrides, layers);
        for (_, partition) in entry.served() {
            partition.set_config(settings.log.clone());
        }
        let partitions = entry.partitions.clone();
        self.registry.replace(Arc::new(TopicEntry {
            topic: Arc::new(topic),
            settings,
            partitions,
        }));
    }
}
