//! Streams inside of consumer groups: the connection is a static member.
//!
//! The body is that of every stream; a [`MemberSource`] brings and takes partitions as the group
//! assigns them, holds the stream up while too much is not acknowledged, and acknowledges by time
//! if the client leaves that to the server.

mod pace;
mod params;
pub(super) mod route;
mod source;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::Response;
use http::{HeaderName, HeaderValue};

pub(super) use self::params::GroupParams;
use self::source::MemberSource;
use super::body::Course;
use super::open_streams::Permit;
use super::params::{Format, Refusals, Resume, Subscription, negotiate};
use super::part::Parts;
use super::plan::{Ending, Plan};
use super::source::Source;
use super::start::{Resumed, Start, budget};
use super::wire::Wire;
use super::{Ask, Hub, Opened, StreamHub, is_transient, over, soften};
use crate::base::ids::{Offset, TopicName, TopicPartition};
use crate::consumers::{Connection, Consumers};
use crate::engine::log::Isolation;
use crate::http::error::ApiResult;
use crate::http::members::place;

impl StreamHub {
    /// Opens a stream as a member of a group and answers it.
    ///
    /// # Errors
    /// As the route documents.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the member joined; it lingers then.
    pub(super) async fn open_in_group(
        &self,
        consumers: &Consumers,
        group: &str,
        ask: &Ask<'_>,
    ) -> ApiResult<Response> {
        let params = GroupParams::parse(ask.query, ask.body, ask.headers)?;
        let shape = &params.stream.shape;
        let transport = shape.transport.map_or_else(|| negotiate(ask.headers), Ok)?;
        let wire = Wire::http(shape, transport);
        let refusals = params.stream.subscription.refusals;
        match self.0.open_in_group(consumers, (group, ask.client), params, wire.clone()).await {
            Ok(Some(opened)) => Ok(opened.answer(&wire)),
            Ok(None) => Ok(over()),
            Err(error) if refusals == Refusals::Soft && is_transient(&error) => {
                Ok(soften(&error, &wire))
            }
            Err(error) => Err(error),
        }
    }
}

/// A stream that is open as a member of a group.
pub(super) struct OpenedInGroup {
    pub(super) opened: Opened,
    /// Speaks for the member, also when the stream has ended.
    pub(super) connection: Connection,
}

impl OpenedInGroup {
    /// The answer over HTTP.
    fn answer(self, wire: &Wire) -> Response {
        let mut response = self.opened.answer(wire);
        if let Ok(value) = HeaderValue::from_str(self.connection.member()) {
            response.headers_mut().insert(HeaderName::from_static("stream-member"), value);
        }
        response
    }
}

impl Hub {
    /// Opens a stream as a member of a group for a client, if its address is known; none if it
    /// came to its end before.
    ///
    /// # Errors
    /// As the route documents.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the member joined; it lingers then.
    pub(super) async fn open_in_group(
        self: &Arc<Self>,
        consumers: &Consumers,
        (group, client): (&str, Option<SocketAddr>),
        mut params: GroupParams,
        wire: Wire,
    ) -> ApiResult<Option<OpenedInGroup>> {
        params.stream.subscription.find_stored(&*self.engine.cursors);
        let subscription = &params.stream.subscription;
        if subscription.is_done() {
            return Ok(None);
        }
        let permit = Permit::acquire(self, client)?;
        let mut new = params.member.member(group, || format!("stream-{}", uuid::Uuid::new_v4()))?;
        let isolation = subscription.isolation.unwrap_or(Isolation::ReadCommitted);
        (new.isolation, new.resume) = (isolation, self.resume(subscription));
        let resumed = if new.resume.is_empty() { Resumed::Fresh } else { Resumed::Exact };
        let member = consumers.open_stream(new).await?;
        let connection = member.connection();
        let source = MemberSource::new(member, self.engine.topics.clone(), params.pace);
        let start = Start {
            spans: Vec::new(),
            gaps: Vec::new(),
            resumed,
            budget: budget(subscription),
            isolation,
        };
        let shape = &params.stream.shape;
        let plan = Plan {
            ids: shape.ids,
            format: Format { framing: wire.framing(), ..shape.format.clone() },
            wire,
            filter: self.filters.filter(&shape.conditions),
            batch: shape.batch,
            isolation,
            on_gap: subscription.on_gap,
            lag_max: None,
            until: None,
            budget: start.budget,
            ending: Ending::Never,
        };
        let source = Some(Box::new(source) as Box<dyn Source>);
        let course = Course { parts: Parts::new(), source, stored: None };
        let opened = self.begin(permit, course, plan, (&start, subscription));
        Ok(Some(OpenedInGroup { opened, connection }))
    }

    /// Where the client says it stands.
    fn resume(&self, subscription: &Subscription) -> Vec<(TopicPartition, Offset)> {
        match &subscription.resume {
            Some(Resume::Cursor(cursor)) => place::of_cursor(&self.engine, cursor),
            Some(Resume::Named(named)) => named
                .iter()
                .filter_map(|named| {
                    let topic = TopicName::parse(&named.topic).ok()?;
                    let end = self.engine.log.bounds(&topic, named.partition).ok()?.high_watermark;
                    let next = named.offset.filter(|next| *next <= end)?;
                    Some((TopicPartition::new(topic, named.partition), next))
                })
                .collect(),
            // What is committed counts.
            Some(Resume::Stored(_) | Resume::Lost) | None => Vec::new(),
        }
    }
}
