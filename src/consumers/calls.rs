//! What clients do with an instance besides polling and committing.

use std::sync::Arc;
use std::time::Duration;

use super::commit;
use super::error::ConsumerError;
use super::instance::{Instance, Phase, Source};
use super::membership;
use super::positions::CommitExtent;
use super::registry::Consumers;
use super::settings::{ASSIGNED_PARTITIONS_MAX, Settings};
use super::subscription::{Matcher, Subscription};
use crate::base::ids::{TimestampMs, TopicName, TopicPartition};
use crate::engine::instances::InstanceKey;

/// What to subscribe to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscribe {
    /// Topics by name; none at all ends the subscription.
    Topics(Vec<String>),
    /// All topics of users whose whole name matches a regular expression.
    Pattern(String),
}

/// An instance as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDescription {
    /// Its name.
    pub key: InstanceKey,
    /// Its settings.
    pub settings: Settings,
    /// When it was created.
    pub created_ms: TimestampMs,
    /// Its id in the group; empty without membership.
    pub member_id: String,
    /// The generation of its assignment; -1 without one.
    pub generation_id: i32,
}

impl Consumers {
    /// Describes an instance.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`].
    pub fn describe(&self, key: &InstanceKey) -> Result<InstanceDescription, ConsumerError> {
        let call = self.call(key)?;
        let instance = &call.instance;
        let state = instance.state();
        Ok(InstanceDescription {
            key: instance.key.clone(),
            settings: instance.settings.clone(),
            created_ms: instance.created_ms,
            member_id: state.member.id.clone(),
            generation_id: state.member.generation_id,
        })
    }

    /// Subscribes an instance, in place of an earlier subscription. Named topics that do not
    /// exist are created if the server does that; otherwise they are read once they exist.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `SubscriptionConflict`, `InvalidTopic`, `InvalidPattern`,
    /// `TooManyTopics`, `Storage`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the instance subscribed.
    pub async fn subscribe(
        &self,
        key: &InstanceKey,
        subscribe: Subscribe,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let subscription = match &subscribe {
            Subscribe::Topics(names) if names.is_empty() => return self.unsubscribe(key).await,
            Subscribe::Topics(names) => Subscription::topics(names)?,
            Subscribe::Pattern(pattern) => Subscription::pattern(pattern)?,
        };
        let instance = &call.instance;
        let _control = instance.control.lock().await;
        self.subscribe_to(instance, subscription).await
    }

    /// Has an instance subscribe; its caller holds `control`.
    pub(super) async fn subscribe_to(
        &self,
        instance: &Arc<Instance>,
        subscription: Subscription,
    ) -> Result<(), ConsumerError> {
        let shared = &self.shared;
        if matches!(instance.state().source, Source::Assigned(_)) {
            return Err(ConsumerError::SubscriptionConflict);
        }
        self.create_missing(&subscription).await;
        let matched = Matcher::new(shared.engine.topics.as_ref()).topics_of(&subscription);
        {
            let mut state = instance.state();
            if state.is_closed {
                return Err(instance.not_found());
            }
            if let Source::Subscribed { subscription: present, .. } = &state.source
                && *present == subscription
            {
                return Ok(());
            }
            state.source = Source::Subscribed { subscription, matched };
        }
        membership::join(shared, instance);
        Ok(instance.save(shared).await?)
    }

    async fn create_missing(&self, subscription: &Subscription) {
        let Subscription::Topics(names) = subscription else {
            return;
        };
        let topics = &self.shared.engine.topics;
        for name in names.iter().filter(|name| topics.find(name.as_str()).is_none()) {
            if let Some(Err(error)) = topics.auto_create(name.as_str()).await {
                // As with every Kafka consumer, the subscription itself is fine.
                tracing::debug!(topic = name.as_str(), %error, "a topic was not created");
            }
        }
    }

    /// Returns the topics subscribed to; of a pattern, those it matches so far.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`].
    pub fn subscription(&self, key: &InstanceKey) -> Result<Vec<TopicName>, ConsumerError> {
        let call = self.call(key)?;
        let state = call.instance.state();
        Ok(match &state.source {
            Source::Subscribed { matched, .. } => matched.to_vec(),
            Source::None | Source::Assigned(_) => Vec::new(),
        })
    }

    /// Ends subscription or assignment; commits what was delivered if auto-commit is on.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `Storage`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the instance unsubscribed.
    pub async fn unsubscribe(&self, key: &InstanceKey) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let (shared, instance) = (&self.shared, &call.instance);
        let _control = instance.control.lock().await;
        if instance.state().source == Source::None {
            return Ok(());
        }
        commit::auto_commit(shared, instance, CommitExtent::Delivered).await;
        let member_id = instance.state().detach();
        instance.notify();
        let saved = instance.save(shared);
        membership::leave(shared, instance, member_id).await;
        Ok(saved.await?)
    }

    /// Assigns partitions by hand, in place of an earlier assignment; none ends it.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `SubscriptionConflict`, `UnknownPartition`,
    /// `TooManyPartitions`, `Group`, `Storage`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the partitions assigned.
    pub async fn assign(
        &self,
        key: &InstanceKey,
        mut partitions: Vec<TopicPartition>,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let (shared, instance) = (&self.shared, &call.instance);
        if partitions.len() > ASSIGNED_PARTITIONS_MAX {
            let count = partitions.len();
            return Err(ConsumerError::TooManyPartitions { count, max: ASSIGNED_PARTITIONS_MAX });
        }
        let conflicts = || matches!(instance.state().source, Source::Subscribed { .. });
        if partitions.is_empty() && !conflicts() {
            return self.unsubscribe(key).await;
        }
        partitions.sort_unstable();
        partitions.dedup();
        let _control = instance.control.lock().await;
        if conflicts() {
            return Err(ConsumerError::SubscriptionConflict);
        }
        for partition in &partitions {
            self.check_partition(partition).await?;
        }
        commit::auto_commit(shared, instance, CommitExtent::Delivered).await;
        let epoch = instance.state().epoch;
        membership::assign(shared, instance, &partitions, epoch).await?;
        Ok(instance.save(shared).await?)
    }

    /// Checks that a partition exists, after creating its topic if the server does that.
    async fn check_partition(&self, partition: &TopicPartition) -> Result<(), ConsumerError> {
        let topics = &self.shared.engine.topics;
        let name = partition.topic.as_str();
        let mut topic = topics.find(name);
        if topic.is_none() {
            topic = topics.auto_create(name).await.and_then(Result::ok);
        }
        let exists = topic.is_some_and(|t| (0..t.partition_count).contains(&partition.partition));
        if exists { Ok(()) } else { Err(ConsumerError::UnknownPartition(partition.clone())) }
    }

    /// Returns the partitions the instance has; waits a moment for a rebalance under way.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`].
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn assignment(
        &self,
        key: &InstanceKey,
    ) -> Result<Vec<TopicPartition>, ConsumerError> {
        let call = self.call(key)?;
        Ok(self.assigned_after_settling(&call.instance).await)
    }

    pub(super) async fn assigned_after_settling(
        &self,
        instance: &Arc<Instance>,
    ) -> Vec<TopicPartition> {
        self.settle(instance).await;
        let state = instance.state();
        match &state.source {
            Source::None => Vec::new(),
            // What is missing from the slots is a topic that was deleted.
            Source::Assigned(partitions) => partitions.clone(),
            Source::Subscribed { .. } if state.member.phase == Phase::Stable => {
                state.slots.iter().map(|slot| slot.partition.clone()).collect()
            }
            Source::Subscribed { .. } => Vec::new(),
        }
    }

    /// Waits for a rebalance under way, no longer than a poll waits by default.
    pub(super) async fn settle(&self, instance: &Instance) {
        let wait = Duration::from_millis(self.shared.options.request_timeout_ms);
        membership::settle(instance, wait).await;
    }
}
