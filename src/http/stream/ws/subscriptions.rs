//! The subscriptions of one connection, and the members of those that ended.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;

use super::super::body::StreamBody;
use super::super::group::GroupParams;
use super::super::params::Params;
use super::super::wire::Wire;
use super::super::{Ask, Hub};
use super::wish::Wish;
use crate::consumers::Connection;
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 64;

/// Ended subscriptions of one connection whose members may still acknowledge; beyond that, those
/// are forgotten that ended first.
const ENDED_MAX: usize = 64;

/// One stream of a connection.
struct Subscription {
    id: String,
    body: StreamBody,
    /// Speaks for its member, in a group.
    connection: Option<Connection>,
    /// The beginning of a message whose end was not pulled yet.
    rest: Vec<u8>,
}

/// All subscriptions of a connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// In the order of their turns.
    open: VecDeque<Subscription>,
    /// Members whose subscriptions ended by themselves: their clients have what was sent, and may
    /// be done with it later.
    ended: VecDeque<(String, Connection)>,
}

/// What a subscription came to.
pub(super) enum Pulled {
    /// Messages that are whole.
    Messages(Vec<Vec<u8>>),
    /// It is over.
    Over(String),
}

/// What was unsubscribed.
pub(super) enum Removed {
    /// A stream of its own.
    Standalone,
    /// A member of a group.
    Member(Connection),
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.open.iter().position(|subscription| subscription.id == id)
    }

    /// Opens a subscription; tells whether it did not come to its end before.
    ///
    /// # Errors
    /// 409 for an id that is taken, 429 for more than a connection may have, and as streams over
    /// HTTP.
    pub(super) async fn open(
        &mut self,
        state: &AppState,
        client: Option<SocketAddr>,
        id: &str,
        wish: &Wish,
    ) -> ApiResult<bool> {
        if self.position(id).is_some() {
            let message = format!("there is a subscription '{id}' already");
            return Err(ApiError::status(StatusCode::CONFLICT, message));
        }
        if self.open.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let (hub, headers): (&Arc<Hub>, _) = (&state.streams.0, HeaderMap::new());
        let body = Some(wish.parameters.as_slice());
        let opened = match &wish.group {
            Some(group) => {
                let params = GroupParams::parse(None, body, &headers)?;
                let wire = Wire::messages(id);
                hub.open_in_group(&state.consumers, (group, client), params, wire)
                    .await?
                    .map(|opened| (opened.opened, Some(opened.connection)))
            }
            None => {
                let params = Params::parse(None, body, &headers)?;
                let ask = Ask { topic: None, query: None, body, headers: &headers, client };
                hub.open(&ask, params, Wire::messages(id)).await?.map(|opened| (opened, None))
            }
        };
        let Some((opened, connection)) = opened else { return Ok(false) };
        let mut body = opened.body;
        body.grant(wish.credit);
        // The id is the new one's from now on.
        self.ended.retain(|(ended, _)| ended != id);
        let id = id.to_owned();
        self.open.push_back(Subscription { id, body, connection, rest: Vec::new() });
        Ok(true)
    }

    /// Lets a subscription send more records.
    ///
    /// # Errors
    /// 404 if there is none of this id.
    pub(super) fn grant(&mut self, id: &str, records: u64) -> ApiResult<()> {
        let found = self.open.iter_mut().find(|subscription| subscription.id == id);
        found.ok_or_else(|| missing(id))?.body.grant(records);
        Ok(())
    }

    /// What speaks for the member that a subscription is or was.
    ///
    /// # Errors
    /// 404 if there is none of this id, 409 if it is not of a group.
    pub(super) fn connection(&self, id: &str) -> ApiResult<&Connection> {
        let open = self.open.iter().find(|subscription| subscription.id == id);
        let ended = || self.ended.iter().find(|(ended, _)| ended == id).map(|(_, of)| of);
        match open {
            Some(subscription) => subscription.connection.as_ref().ok_or_else(|| {
                let message = format!("subscription '{id}' is not of a group: nothing to ack");
                ApiError::status(StatusCode::CONFLICT, message)
            }),
            None => ended().ok_or_else(|| missing(id)),
        }
    }

    /// Ends a subscription, or forgets one that ended by itself.
    ///
    /// # Errors
    /// 404 if there is none of this id.
    pub(super) fn remove(&mut self, id: &str) -> ApiResult<Removed> {
        let removed = match self.position(id) {
            Some(at) => self.open.remove(at).map(|subscription| subscription.connection),
            None => {
                let at = self.ended.iter().position(|(ended, _)| ended == id);
                at.and_then(|at| self.ended.remove(at)).map(|(_, connection)| Some(connection))
            }
        };
        match removed {
            None => Err(missing(id)),
            Some(None) => Ok(Removed::Standalone),
            Some(Some(connection)) => Ok(Removed::Member(connection)),
        }
    }

    /// Waits until a subscription has something or is over; it is behind all others then.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Pulled> {
        for at in 0..self.open.len() {
            let Some(subscription) = self.open.get_mut(at) else { continue };
            let Poll::Ready(frame) = Pin::new(&mut subscription.body).poll_frame(context) else {
                continue;
            };
            let Some(mut subscription) = self.open.remove(at) else { continue };
            let Some(Ok(frame)) = frame else {
                return Poll::Ready(Pulled::Over(self.note_end(subscription)));
            };
            let messages = subscription.cut(&frame.into_data().unwrap_or_default());
            self.open.push_back(subscription);
            return Poll::Ready(Pulled::Messages(messages));
        }
        Poll::Pending
    }

    fn note_end(&mut self, subscription: Subscription) -> String {
        let Subscription { id, connection, .. } = subscription;
        if let Some(connection) = connection {
            if self.ended.len() >= ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back((id.clone(), connection));
        }
        id
    }
}

impl Subscription {
    /// Cuts what was pulled into messages, which are lines; keeps one that is not whole.
    fn cut(&mut self, piece: &Bytes) -> Vec<Vec<u8>> {
        let mut piece: &[u8] = piece;
        let mut messages = Vec::with_capacity(1);
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, after) = piece.split_at(end);
            let mut message = std::mem::take(&mut self.rest);
            message.extend_from_slice(line);
            messages.push(message);
            piece = after.get(1..).unwrap_or_default();
        }
        self.rest.extend_from_slice(piece);
        messages
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::status(StatusCode::NOT_FOUND, format!("there is no subscription '{id}'"))
}
