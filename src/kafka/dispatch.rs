//! From a frame to a running request: the header, the table look-up, the version check.
//!
//! The header is read here rather than by the codec crate, because it comes before anything is
//! known of the peer. Unknown keys and versions close the connection: there is no answer that the
//! client could read. ApiVersions is the exception (KIP-511): a version that we do not know is
//! answered in version 0, and its body is not looked at.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use tokio::time::Instant;

use super::Session;
use super::api::{self, Api, Body, Call, Reply};
use super::output::Output;
use super::reader::{DecodeError, Encoding, Reader};
use crate::engine::later::LaterFuture;
use crate::protocol::{
    ApiKey, ErrorCode, KafkaString, ProtocolError, request_header_version, response_header_version,
};

/// Why a frame is not a request that can be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The header is malformed.
    #[error("request header: {0}")]
    Header(#[source] DecodeError),
    /// No API has this key, or it is not offered.
    #[error("api key {0} is not offered")]
    UnknownApi(i16),
    /// The API is offered in other versions.
    #[error("{api} version {version} is not served")]
    UnsupportedVersion {
        /// Name of the API.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The body does not follow its schema.
    #[error("{api} version {version}: {source}")]
    Body {
        /// Name of the API.
        api: &'static str,
        /// The version asked for.
        version: i16,
        /// What is wrong.
        source: DecodeError,
    },
}

/// Why an answer could not be put on the wire.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    /// A request without an answer (`acks=0`) failed; closing is the only sign there is.
    #[error("a request without an answer failed with {0:?}")]
    Unanswerable(ErrorCode),
    /// A value does not fit the schema.
    #[error("answer cannot be encoded: {0}")]
    Encode(#[from] ProtocolError),
    /// Records could not be read.
    #[error("records cannot be read: {0}")]
    Records(#[from] std::io::Error),
}

/// A request with its header decoded.
#[derive(Debug)]
pub(super) struct Request {
    /// Index in the API table.
    index: usize,
    api: &'static Api,
    version: i16,
    correlation_id: i32,
    client_id: Option<KafkaString>,
    body: Bytes,
}

impl Request {
    /// Reads the header of a frame and looks the API up.
    pub(super) fn parse(mut bytes: Bytes) -> Result<Self, RequestError> {
        let mut fixed = Reader::new(&mut bytes, Encoding::Classic);
        let key = fixed.i16().map_err(RequestError::Header)?;
        let version = fixed.i16().map_err(RequestError::Header)?;
        let correlation_id = fixed.i32().map_err(RequestError::Header)?;
        let Some((index, api)) = api::find(key) else {
            return Err(RequestError::UnknownApi(key));
        };
        let mut request =
            Self { index, api, version, correlation_id, client_id: None, body: Bytes::new() };
        if !api.range.serves(version) {
            // Neither the header's shape nor the body is known in a version from the future.
            return match api.key {
                ApiKey::ApiVersions => Ok(request),
                _ => Err(RequestError::UnsupportedVersion { api: api.name, version }),
            };
        }
        // The client id keeps its classic length even in the flexible header.
        request.client_id = fixed.nullable_string().map_err(RequestError::Header)?;
        if request_header_version(key, version) >= 2 {
            let mut tags = Reader::new(&mut bytes, Encoding::Flexible);
            tags.skip_tags().map_err(RequestError::Header)?;
        }
        request.body = bytes;
        Ok(request)
    }

    /// Tells whether the request may start while earlier ones wait for their answers.
    pub(super) const fn is_pipelined(&self) -> bool {
        self.api.is_pipelined
    }

    /// Starts the request; what it does at once is done when this returns.
    pub(super) fn start(self, session: &Arc<Session>) -> Result<InFlight, RequestError> {
        let started = now();
        let call = Call {
            session: Arc::clone(session),
            version: self.version,
            client_id: self.client_id,
            body: self.body,
        };
        let (api, version) = (self.api, self.version);
        let answer = (api.start)(call).map_err(|source| RequestError::Body {
            api: api.name,
            version,
            source,
        })?;
        Ok(InFlight {
            index: self.index,
            api,
            version: if api.range.serves(version) { version } else { 0 },
            correlation_id: self.correlation_id,
            started,
            answer: IntoFuture::into_future(answer),
        })
    }
}

/// A request whose answer is not yet on the wire.
#[derive(Debug)]
pub(super) struct InFlight {
    index: usize,
    api: &'static Api,
    /// The version the answer is encoded in.
    version: i16,
    correlation_id: i32,
    started: Instant,
    /// The answer; polled only when it is this request's turn.
    pub(super) answer: LaterFuture<Reply>,
}

impl InFlight {
    /// Tells whether other requests may start before this one is answered.
    pub(super) const fn is_pipelined(&self) -> bool {
        self.api.is_pipelined
    }

    /// Puts the answer into `output` and counts the request.
    pub(super) fn finish(
        &self,
        reply: Reply,
        session: &Session,
        output: &mut Output,
    ) -> Result<(), ReplyError> {
        session.shared.metrics.answered(self.index, reply.error, self.started.elapsed());
        if let Body::Nothing = reply.body {
            return match reply.error {
                ErrorCode::None => Ok(()),
                error => Err(ReplyError::Unanswerable(error)),
            };
        }
        let start = output.begin_frame();
        let encoded = self.encode(reply.body, output);
        match encoded {
            Ok(()) => output.end_frame(start),
            Err(_) => output.undo_frame(start),
        }
        encoded
    }

    fn encode(&self, body: Body, output: &mut Output) -> Result<(), ReplyError> {
        output.buffer().put_i32(self.correlation_id);
        if response_header_version(self.api.key as i16, self.version) >= 1 {
            // No tagged field.
            output.buffer().put_u8(0);
        }
        match body {
            Body::Message(message) => message.encode(output.buffer(), self.version)?,
            Body::Fetch(reply) => reply.encode(output, self.version)?,
            Body::Nothing => {}
        }
        Ok(())
    }
}

/// Reads the monotonic clock, for durations and time limits alone.
pub(super) fn now() -> Instant {
    Instant::now()
}
