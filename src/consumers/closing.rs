//! The end of an instance: its client deletes it, or nobody has called for too long.
//!
//! Runs as a task of its own, so that a client that goes away in the middle leaves nothing half
//! closed.

use std::sync::Arc;

use super::error::ConsumerError;
use super::instance::{Instance, Kind};
use super::positions::CommitExtent;
use super::registry::Shared;
use super::{commit, membership};

/// Closes an instance whose client asks for it.
pub(super) async fn close(
    shared: &Shared,
    instance: &Instance,
    extent: CommitExtent,
) -> Result<(), ConsumerError> {
    let _control = instance.control.lock().await;
    {
        let mut state = instance.state();
        if state.is_closed {
            return Err(instance.not_found());
        }
        state.is_closed = true;
        state.version += 1;
    }
    finish_closing(shared, instance, extent).await
}

/// Closes a static member if no connection after that of `number` has it; tells whether it did.
pub(super) async fn close_connection(
    shared: &Shared,
    instance: &Instance,
    number: u64,
) -> Result<bool, ConsumerError> {
    let _control = instance.control.lock().await;
    {
        let mut state = instance.state();
        if state.is_closed || !state.session.is_of(number) {
            return Ok(false);
        }
        state.is_closed = true;
        state.version += 1;
    }
    finish_closing(shared, instance, CommitExtent::Acknowledged).await.map(|()| true)
}

/// Closes an instance that nobody has called for its timeout, unless somebody calls just now.
pub(super) async fn expire(shared: Arc<Shared>, instance: Arc<Instance>) {
    let _control = instance.control.lock().await;
    {
        let mut state = instance.state();
        let is_idle =
            instance.idle_since().is_some_and(|since| shared.is_expired(&instance, since));
        if state.is_closed || !is_idle {
            return;
        }
        state.is_closed = true;
        state.version += 1;
    }
    let key = &instance.key;
    match instance.kind {
        Kind::Kept => {
            tracing::info!(group = %key.group, name = key.name, "an idle consumer instance is closed");
        }
        Kind::Static => {
            tracing::debug!(group = %key.group, name = key.name, "a member did not come back");
        }
    }
    if let Err(error) = finish_closing(&shared, &instance, CommitExtent::Acknowledged).await {
        tracing::warn!(%error, "an expired consumer instance could not be forgotten");
    }
}

async fn finish_closing(
    shared: &Shared,
    instance: &Instance,
    extent: CommitExtent,
) -> Result<(), ConsumerError> {
    instance.notify();
    commit::auto_commit(shared, instance, extent).await;
    let member_id = instance.state().detach();
    instance.notify();
    membership::leave(shared, instance, member_id).await;
    // Removed before the name is free again, so that a document of the next holder comes after.
    let forgotten = instance.forget(shared);
    shared.registry.remove(&instance.key);
    Ok(forgotten.await?)
}
