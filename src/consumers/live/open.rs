//! How a connection becomes a member, and how the member ends.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::session::{AckMode, commit_start, sort};
use crate::base::ids::{GroupId, Offset, TopicPartition};
use crate::consumers::closing;
use crate::consumers::instance::{Call, Instance, Kind, Phase, State};
use crate::consumers::membership;
use crate::consumers::positions::CommitExtent;
use crate::consumers::registry::{Consumers, Shared};
use crate::consumers::settings::{NewInstance, Settings, check_name};
use crate::consumers::subscription::Subscription;
use crate::consumers::{ConsumerError, OffsetReset, Subscribe};
use crate::engine::instances::InstanceKey;
use crate::engine::log::Isolation;

/// What a connection wants to be in its group.
#[derive(Debug, Clone)]
pub struct NewLiveMember {
    /// The group.
    pub group: GroupId,
    /// The name, which is the member's `group.instance.id`; from 1 to 1,024 bytes.
    pub member: String,
    /// What to read.
    pub subscribe: Subscribe,
    /// Where to begin in partitions without a committed offset and without a word in `resume`,
    /// found when they are assigned first. Taken from whoever opens the
    /// member first, as long as it lives.
    pub auto_offset_reset: OffsetReset,
    /// What it may see of open transactions; taken as `auto_offset_reset` is.
    pub isolation: Isolation,
    /// What moves its committed offsets.
    pub ack: AckMode,
    /// The next offsets that the client has not seen, by its cursor. Where nothing is committed,
    /// they are where it begins.
    pub resume: Vec<(TopicPartition, Offset)>,
}

/// A connection that reads as a member. Dropping it lets the member linger for its session.
#[derive(Debug)]
pub struct LiveMember {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Call,
    pub(super) number: u64,
}

impl Consumers {
    /// Opens a stream as a member, which joins its group unless it is a member already. A stream
    /// that has the member is fenced.
    ///
    /// What `resume` shows to have been seen is acknowledged, unless the mode is `None`.
    ///
    /// # Errors
    /// [`ConsumerError::InvalidSetting`] (the name), `NameTaken` (by a consumer instance),
    /// `TooManyInstances`, `InvalidTopic`, `InvalidPattern`, `TooManyTopics`, `ShuttingDown`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the member joined; it lingers then.
    pub async fn open_stream(&self, new: NewLiveMember) -> Result<LiveMember, ConsumerError> {
        let resume = new.resume.clone();
        let begin = |state: &mut State| {
            let session = &mut state.session;
            session.number += 1;
            session.is_streaming = true;
            session.mode = new.ack;
            session.acks += 1;
            let number = session.number;
            state.resume_all(resume);
            number
        };
        let (call, number) = self.open_static(&new, |_| Ok(()), begin).await?;
        let (shared, instance) = (self.shared.clone(), call.instance.clone());
        instance.notify();
        commit_start(&shared, &instance);
        Ok(LiveMember { shared, call, number })
    }

    /// Finds or makes the member, has it subscribed, and begins with it before anybody else can
    /// change what it reads, or close it. What `admit` refuses changes nothing.
    pub(super) async fn open_static<T>(
        &self,
        new: &NewLiveMember,
        admit: impl Fn(&State) -> Result<(), ConsumerError>,
        begin: impl FnOnce(&mut State) -> T,
    ) -> Result<(Call, T), ConsumerError> {
        let subscription = match &new.subscribe {
            Subscribe::Topics(names) => Subscription::topics(names)?,
            Subscribe::Pattern(pattern) => Subscription::pattern(pattern)?,
        };
        check_name(&new.member)?;
        let settings = Settings::check(&NewInstance {
            auto_offset_reset: new.auto_offset_reset,
            isolation: new.isolation,
            ..NewInstance::default()
        })?;
        let key = InstanceKey { group: new.group.clone(), name: new.member.clone() };
        loop {
            let call = self.find_or_make(key.clone(), settings.clone()).await?;
            let instance = Arc::clone(&call.instance);
            let _control = instance.control.lock().await;
            if instance.state().is_closed {
                // It left while this call waited: its name is free now.
                continue;
            }
            admit(&instance.state())?;
            let is_failed = matches!(instance.state().member.phase, Phase::Failed(_));
            if is_failed {
                // Refused before, perhaps because another held the name: the newest one has it.
                instance.state().forget_member();
                membership::join(&self.shared, &instance);
            }
            // Before partitions come: the first assignment begins there.
            let mut start = new.resume.clone();
            sort(&mut start);
            instance.state().session.start = start;
            self.subscribe_to(&instance, subscription.clone()).await?;
            let begun = begin(&mut instance.state());
            return Ok((call, begun));
        }
    }

    async fn find_or_make(
        &self,
        key: InstanceKey,
        settings: Settings,
    ) -> Result<Call, ConsumerError> {
        let shared = &self.shared;
        loop {
            if shared.shutdown.is_stopping() {
                return Err(ConsumerError::ShuttingDown);
            }
            let taken = || {
                let (group, name) = (key.group.to_string(), key.name.clone());
                ConsumerError::NameTaken { group, name }
            };
            match shared.registry.find(&key) {
                Some(instance) if instance.kind == Kind::Kept => return Err(taken()),
                Some(instance) => match Call::begin(instance.clone(), shared.clock.clone()) {
                    Ok(call) => return Ok(call),
                    // It is being closed, which holds this lock until the name is free.
                    Err(_) => drop(instance.control.lock().await),
                },
                None => {
                    let (kind, now) = (Kind::Static, shared.now());
                    let instance = Instance::new(key.clone(), kind, settings.clone(), now);
                    match shared.registry.insert(&Arc::new(instance), shared.options.instances_max)
                    {
                        // Another one was faster: it is found in the next round.
                        Ok(()) | Err(ConsumerError::NameTaken { .. }) => {}
                        Err(error) => return Err(error),
                    }
                    shared.keeper_wake.notify_one();
                }
            }
        }
    }

    /// Has a member leave its group at once; what was acknowledged is committed. Its stream ends.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `ShuttingDown`.
    ///
    /// # Cancel safety
    /// The member leaves whether or not the answer is awaited.
    pub async fn close_member(&self, group: &GroupId, member: &str) -> Result<(), ConsumerError> {
        let call = self.static_call(group, member)?;
        let (shared, instance) = (self.shared.clone(), call.instance.clone());
        self.run_to_end(async move {
            closing::close(&shared, &instance, CommitExtent::Acknowledged).await
        })
        .await
    }

    /// Runs `closing` to its end, whether or not the answer is awaited.
    pub(super) async fn run_to_end<T: Send + 'static>(
        &self,
        closing: impl Future<Output = Result<T, ConsumerError>> + Send + 'static,
    ) -> Result<T, ConsumerError> {
        let (done, answer) = oneshot::channel();
        self.shared.shutdown.spawn(async move {
            // Nobody may be waiting any more.
            let _unheard = done.send(closing.await);
        });
        answer.await.unwrap_or(Err(ConsumerError::ShuttingDown))
    }

    /// Begins a call on a member that exists.
    pub(super) fn static_call(&self, group: &GroupId, name: &str) -> Result<Call, ConsumerError> {
        let key = InstanceKey { group: group.clone(), name: name.to_owned() };
        let found = self.shared.registry.find(&key);
        let Some(instance) = found.filter(|instance| instance.kind == Kind::Static) else {
            return Err(ConsumerError::UnknownMember {
                group: group.to_string(),
                member: name.to_owned(),
            });
        };
        Call::begin(instance, self.shared.clock.clone())
    }
}

impl Drop for LiveMember {
    fn drop(&mut self) {
        let instance = &self.call.instance;
        {
            let mut state = instance.state();
            if !state.session.is_of(self.number) {
                return;
            }
            state.session.is_streaming = false;
        }
        // A driver that waits for acknowledgements need not wait any longer.
        instance.notify();
    }
}
