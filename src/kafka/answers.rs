//! Requests under way and the order of their answers.
//!
//! The queue is in order of arrival; only its front is polled, because nothing behind it may be
//! answered earlier. The engine's work does not depend on being polled, only its answer does.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::Session;
use super::dispatch::{InFlight, ReplyError};
use super::output::Output;

/// Produce requests of one connection that may wait for durability at once.
const IN_FLIGHT_MAX: usize = 64;

/// Answers are written when so many bytes have gathered, even if more are ready.
const FLUSH_BYTES: usize = 256 * 1024;

/// The answers of one connection, expected and encoded.
#[derive(Debug)]
pub(super) struct Answers {
    session: Arc<Session>,
    in_flight: VecDeque<InFlight>,
    output: Output,
}

impl Answers {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session, in_flight: VecDeque::new(), output: Output::default() }
    }

    /// Tells whether no answer is expected; encoded ones may still wait to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Tells whether the order of answers allows any request to start.
    pub(super) fn has_room(&self) -> bool {
        let is_exclusive = self.in_flight.front().is_some_and(|request| !request.is_pipelined());
        !is_exclusive && self.in_flight.len() < IN_FLIGHT_MAX && !self.is_due()
    }

    /// Tells whether so much is encoded that it should be written now.
    pub(super) fn is_due(&self) -> bool {
        self.output.len() >= FLUSH_BYTES
    }

    /// Tells whether any encoded answer waits to be written.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    pub(super) fn push(&mut self, request: InFlight) {
        self.in_flight.push_back(request);
    }

    /// Encodes the answers that are ready, in order; pending if the front is not.
    pub(super) fn poll_gather(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ReplyError>> {
        let mut gathered = Poll::Pending;
        while let Some(front) = self.in_flight.front_mut() {
            let Poll::Ready(reply) = Pin::new(&mut front.answer).poll(context) else {
                break;
            };
            gathered = Poll::Ready(Ok(()));
            if let Some(request) = self.in_flight.pop_front()
                && let Err(error) = request.finish(reply, &self.session, &mut self.output)
            {
                return Poll::Ready(Err(error));
            }
            if self.is_due() {
                break;
            }
        }
        gathered
    }

    /// Writes what is encoded.
    ///
    /// # Cancel safety
    /// Not safe: the connection cannot be used after a write was dropped half-way.
    pub(super) async fn flush(&mut self, stream: &TcpStream) -> std::io::Result<()> {
        let shared = &self.session.shared;
        let bytes = self.output.flush(stream, shared.options.idle_timeout).await?;
        shared.metrics.sent(bytes);
        Ok(())
    }
}
