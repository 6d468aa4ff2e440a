//! What a connection may say of its member, while it lasts and after it ended.

use std::sync::{Arc, Weak};

use super::ack::{Ack, AckOutcome, Speaker};
use super::open::LiveMember;
use crate::consumers::closing;
use crate::consumers::instance::{Call, Instance};
use crate::consumers::registry::Consumers;
use crate::consumers::{ConsumerError, InstanceKey};

/// The right to speak for a member until a newer connection has it or it has left.
///
/// It is no connection itself: holding it neither makes the member stay nor lets it linger longer.
#[derive(Debug, Clone)]
pub struct Connection {
    consumers: Consumers,
    /// A member of the same name that comes after this one is another member.
    instance: Weak<Instance>,
    key: InstanceKey,
    number: u64,
}

impl LiveMember {
    /// Returns what may speak for the member, also after this connection ended.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let instance = &self.call.instance;
        Connection {
            consumers: Consumers { shared: Arc::clone(&self.shared) },
            instance: Arc::downgrade(instance),
            key: instance.key.clone(),
            number: self.number,
        }
    }
}

impl Connection {
    /// The name of the member.
    #[must_use]
    pub fn member(&self) -> &str {
        &self.key.name
    }

    /// Takes acknowledgements as [`Consumers::acknowledge`] does, from this connection only.
    ///
    /// # Errors
    /// As [`Consumers::acknowledge`], and [`ConsumerError::Superseded`].
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the offsets committed.
    pub async fn acknowledge(&self, acks: &[Ack]) -> Result<Vec<AckOutcome>, ConsumerError> {
        let call = self.call()?;
        self.consumers.acknowledge_by(&call, Speaker::Connection(self.number), acks).await
    }

    /// Has the member leave its group at once, unless a newer connection has it; tells whether it
    /// left now. What was acknowledged is committed.
    ///
    /// # Errors
    /// [`ConsumerError::ShuttingDown`].
    ///
    /// # Cancel safety
    /// The member leaves whether or not the answer is awaited.
    pub async fn leave(&self) -> Result<bool, ConsumerError> {
        let Ok(call) = self.call() else { return Ok(false) };
        let (shared, number) = (Arc::clone(&self.consumers.shared), self.number);
        self.consumers
            .run_to_end(
                async move { closing::close_connection(&shared, &call.instance, number).await },
            )
            .await
    }

    fn call(&self) -> Result<Call, ConsumerError> {
        let unknown = || ConsumerError::UnknownMember {
            group: self.key.group.to_string(),
            member: self.key.name.clone(),
        };
        let instance = self.instance.upgrade().ok_or_else(unknown)?;
        Call::begin(instance, self.consumers.shared.clock.clone()).map_err(|_| unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::GroupId;
    use crate::consumers::live::tests::{Stream, ack, at, new};
    use crate::consumers::tests::{Server, eventually};
    use crate::consumers::{AckMode, AckStatus, Change, NewLiveMember};

    #[tokio::test]
    async fn a_connection_speaks_until_a_newer_one_has_the_member() {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        server.fake.append_values(&topic, 0, &["a", "b", "c"]);
        let mut older = Stream::open(&server, new("m", AckMode::Explicit)).await;
        older.assigned().await;
        older.wrote(&topic, 0, 3);
        let connection = older.member.connection();
        assert_eq!(connection.member(), "m");
        let done = connection.acknowledge(&[ack(&topic, 0, 1)]).await.unwrap();
        assert_eq!((done[0].status, done[0].committed), (AckStatus::Committed, Some(1)));
        // It ended, and still says what it is done with.
        drop(older);
        connection.acknowledge(&[ack(&topic, 0, 2)]).await.unwrap();
        assert_eq!(server.committed(&topic, 0), Some(2));
        let mut newer = Stream::open(&server, new("m", AckMode::Explicit)).await;
        newer.assigned().await;
        let refused = connection.acknowledge(&[ack(&topic, 0, 3)]).await.unwrap_err();
        assert_eq!(refused, ConsumerError::Superseded { member: "m".to_owned() });
        assert_eq!(connection.leave().await, Ok(false));
        assert_eq!(server.committed(&topic, 0), Some(2));
        assert_eq!(newer.member.connection().leave().await, Ok(true));
        assert_eq!(newer.change().await, Change::Closed);
    }

    #[tokio::test]
    async fn a_member_of_the_same_name_is_another_one() {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        let mut first = Stream::open(&server, new("m", AckMode::Explicit)).await;
        first.assigned().await;
        let before = first.member.connection();
        drop(first);
        server.consumers.close_member(&GroupId::from("g"), "m").await.unwrap();
        // Its first connection has the same number as that of the member before.
        let mut second = Stream::open(&server, new("m", AckMode::Explicit)).await;
        second.assigned().await;
        let refused = before.acknowledge(&[ack(&topic, 0, 0)]).await.unwrap_err();
        assert!(matches!(refused, ConsumerError::UnknownMember { .. }), "{refused:?}");
        assert_eq!(before.leave().await, Ok(false));
        assert!(second.member.connection().acknowledge(&[]).await.is_ok());
    }

    #[tokio::test]
    async fn who_comes_back_while_the_member_leaves_is_not_thrown_out() {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        server.fake.append_values(&topic, 0, &["a", "b"]);
        for round in 1..=2 {
            let mut stream = Stream::open(&server, new("m", AckMode::Explicit)).await;
            stream.assigned().await;
            let connection = stream.member.connection();
            let again = NewLiveMember {
                resume: vec![(at(&topic, 0), round)],
                ..new("m", AckMode::Explicit)
            };
            let (left, reopened) =
                tokio::join!(connection.leave(), server.consumers.open_stream(again));
            let mut reopened = Stream::of(reopened.unwrap());
            assert!(left.is_ok(), "{left:?}");
            reopened.assigned().await;
            eventually(|| server.committed(&topic, 0) == Some(round)).await;
        }
    }
}
