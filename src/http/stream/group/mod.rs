//! Streams inside of consumer groups: the connection is a static member.
//!
//! The body is that of every stream; a [`MemberSource`] brings and takes partitions as the group
//! assigns them, holds the stream up while too much is not acknowledged, and acknowledges by time
//! if the client leaves that to the server.

mod pace;
mod params;
pub(super) mod route;
mod source;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use self::params::GroupParams;
use self::source::MemberSource;
use super::body::{Course, Ending, Plan};
use super::open_streams::Permit;
use super::params::{Format, Refusals, Resume, Subscription, negotiate};
use super::start::{Resumed, Start};
use super::wire::Wire;
use super::{Ask, Hub, StreamHub, is_transient, soften};
use crate::base::ids::{Offset, TopicName, TopicPartition};
use crate::consumers::Consumers;
use crate::engine::log::Isolation;
use crate::http::error::ApiResult;
use crate::http::members::place;
use crate::http::record::cursor::Budget;

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
        let params = GroupParams::parse(ask.query, ask.headers)?;
        let shape = &params.stream.shape;
        let transport = shape.transport.map_or_else(|| negotiate(ask.headers), Ok)?;
        let wire = Wire::http(shape, transport);
        let refusals = params.stream.subscription.refusals;
        match self.0.open_in_group(consumers, (group, ask), params, wire.clone()).await {
            Err(error) if refusals == Refusals::Soft && is_transient(&error) => {
                Ok(soften(&error, &wire))
            }
            answered => answered,
        }
    }
}

impl Hub {
    async fn open_in_group(
        self: &std::sync::Arc<Self>,
        consumers: &Consumers,
        (group, ask): (&str, &Ask<'_>),
        mut params: GroupParams,
        wire: Wire,
    ) -> ApiResult<Response> {
        params.stream.subscription.find_stored(&*self.engine.cursors);
        let subscription = &params.stream.subscription;
        if subscription.is_done() {
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            return Ok((StatusCode::NO_CONTENT, no_store).into_response());
        }
        let permit = Permit::acquire(self, ask.client)?;
        let mut new = params.member.member(group, || format!("stream-{}", uuid::Uuid::new_v4()))?;
        let isolation = subscription.isolation.unwrap_or(Isolation::ReadCommitted);
        (new.isolation, new.resume) = (isolation, self.resume(subscription));
        let resumed = if new.resume.is_empty() { Resumed::Fresh } else { Resumed::Exact };
        let member = consumers.open_stream(new).await?;
        let name = member.name().to_owned();
        let source = MemberSource::new(member, self.engine.topics.clone(), params.pace);
        let start = Start {
            spans: Vec::new(),
            gaps: Vec::new(),
            resumed,
            budget: Budget { records: subscription.limit, bytes: subscription.max_bytes },
            isolation,
        };
        let shape = &params.stream.shape;
        let plan = Plan {
            ids: shape.ids,
            format: Format { framing: wire.framing(), ..shape.format.clone() },
            wire: std::sync::Arc::new(wire.clone()),
            filter: self.filters.filter(&shape.conditions),
            batch: shape.batch,
            isolation,
            on_gap: subscription.on_gap,
            lag_max: None,
            until: None,
            budget: start.budget,
            ending: Ending::Never,
        };
        let source = Some(Box::new(source) as Box<dyn super::source::Source>);
        let course = Course { parts: Vec::new(), source, stored: None };
        let opened = self.begin(permit, course, plan, (&start, subscription));
        let mut response = opened.answer(&wire);
        if let Ok(value) = HeaderValue::from_str(&name) {
            response.headers_mut().insert(HeaderName::from_static("stream-member"), value);
        }
        Ok(response)
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
