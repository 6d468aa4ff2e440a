//! The answer of a plain read: its body, its cursor, and what caches may make of it.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use super::gather::{Gathered, Lane};
use super::params::{Params, Shape, Start};
use crate::base::json;
use crate::consumers::OnDecodeError;
use crate::engine::topics::Topic;
use crate::http::link;
use crate::http::record::cloudevent;
use crate::http::record::cursor::{self, Head, Position};
use crate::http::record::envelope::Envelope;
use crate::http::state::Inner;
use crate::http::v2::encode;

/// The header that says where to go on.
pub(super) const STREAM_CURSOR: HeaderName = HeaderName::from_static("stream-cursor");

/// Longest entity tag; a read of very many partitions has none.
const ETAG_BYTES_MAX: usize = 512;

/// JSON around one record, for the first guess of the answer's size.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// A range that nothing can be added to may be kept this long, in seconds: retention may delete it,
/// but what it held stays true.
const CLOSED_RANGE: &str = "private, max-age=3600";

/// What a request is answered from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) state: &'a Inner,
    pub(super) topic: &'a Topic,
    pub(super) params: &'a Params,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
}

/// Whether a read waited for records in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    No,
    InVain,
}

impl Asked<'_> {
    /// The cursor behind everything that was gathered.
    pub(super) fn cursor(&self, positions: impl Iterator<Item = Position> + Clone) -> Vec<u8> {
        let cluster = cursor::cluster_tag(&self.state.engine.node.cluster_id);
        cursor::to_bytes(Head { cluster, ..Head::default() }, positions)
    }

    /// The entity tag of a range: it is weak, because the ends in the body go on growing.
    pub(super) fn etag(&self, lanes: &[Lane]) -> Option<String> {
        let mut tag = format!("W/\"{}", self.topic.incarnation);
        for lane in lanes {
            tag.push_str(&format!(":{}={}:{}", lane.partition, lane.start, lane.next));
        }
        let decode = self.params.decode as u8;
        tag.push_str(&format!("-{}{decode}\"", self.params.shape.letter()));
        (tag.len() <= ETAG_BYTES_MAX).then_some(tag)
    }

    /// Tells whether the client has the representation of this tag already.
    pub(super) fn has(&self, etag: Option<&str>) -> bool {
        let Some(etag) = etag else { return false };
        let own = etag.trim_start_matches("W/");
        let mut values = self.headers.get_all(header::IF_NONE_MATCH).iter();
        values.any(|value| {
            let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
            tags.any(|tag| tag == "*" || tag.trim_start_matches("W/") == own)
        })
    }

    /// Answers with what was gathered.
    pub(super) fn answer(&self, gathered: &Gathered, waited: Waited) -> Response {
        let etag = self.etag(&gathered.lanes);
        let position = |lane: &Lane| Position {
            incarnation: self.topic.incarnation,
            partition: lane.partition,
            next: lane.next,
        };
        let next = self.cursor(gathered.lanes.iter().map(position));
        let is_quiet = gathered.records == 0 && waited == Waited::InVain;
        let mut response = if self.has(etag.as_deref()) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if is_quiet && !matches!(self.params.shape, Shape::V2(_)) {
            StatusCode::NO_CONTENT.into_response()
        } else {
            let content_type = HeaderValue::from_static(self.params.shape.media_type());
            ([(header::CONTENT_TYPE, content_type)], self.body(gathered, &next)).into_response()
        };
        let caching = if self.is_closed(gathered) { CLOSED_RANGE } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        let link = self.link(&next).into_bytes();
        let etag = etag.unwrap_or_default().into_bytes();
        for (name, value) in [(STREAM_CURSOR, next), (header::LINK, link), (header::ETAG, etag)] {
            if let Ok(value) = HeaderValue::try_from(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        response
    }

    /// Tells whether the same request can never be answered with other records: one partition,
    /// from a fixed offset, ended by its own bound.
    fn is_closed(&self, gathered: &Gathered) -> bool {
        let is_fixed = match &self.params.start {
            Start::After(_) | Start::Offsets(_) => true,
            Start::From(_) => false,
        };
        is_fixed && gathered.is_full && gathered.lanes.len() == 1
    }

    /// `<URL>; rel="next"`: the same request, after the cursor.
    fn link(&self, next: &[u8]) -> String {
        let base = link::base(self.uri, self.headers, &self.state.options);
        let mut url = format!("{base}{}?after={}", self.uri.path(), String::from_utf8_lossy(next));
        for pair in self.uri.query().unwrap_or_default().split('&') {
            let name = pair.split('=').next().unwrap_or_default();
            if !matches!(name, "" | "after" | "from" | "since" | "offset") {
                url.push('&');
                url.push_str(pair);
            }
        }
        format!("<{url}>; rel=\"next\"")
    }

    fn body(&self, gathered: &Gathered, next: &[u8]) -> Vec<u8> {
        let guess = gathered.bytes + gathered.records * RECORD_OVERHEAD_BYTES + 256;
        let mut out = Vec::with_capacity(guess);
        match self.params.shape {
            Shape::Json => {
                out.extend_from_slice(b"{\"records\":[");
                self.list_into(gathered, &mut out);
                out.extend_from_slice(b"],\"next\":\"");
                out.extend_from_slice(next);
                out.extend_from_slice(b"\",\"end\":[");
                self.ends_into(&gathered.lanes, &mut out);
                out.extend_from_slice(b"]}");
            }
            Shape::Lines => self.records_into(gathered, b"\n", &mut out),
            Shape::Events => {
                out.push(b'[');
                self.list_into(gathered, &mut out);
                out.push(b']');
            }
            Shape::V2(format) => {
                let name = &self.topic.name;
                let records = gathered.pieces.iter().flat_map(|piece| {
                    piece.records().map(move |record| (name, piece.partition, record))
                });
                // A read without a position has nowhere to stop at: the bad record is data.
                encode::array_into(records, format, OnDecodeError::Data, &mut out);
            }
        }
        out
    }

    /// Records with commas between them.
    fn list_into(&self, gathered: &Gathered, out: &mut Vec<u8>) {
        self.records_into(gathered, b",", out);
        if gathered.records > 0 {
            out.pop();
        }
    }

    fn records_into(&self, gathered: &Gathered, end: &[u8], out: &mut Vec<u8>) {
        for piece in &gathered.pieces {
            let envelope = Envelope {
                topic: self.topic.name.as_str(),
                partition: piece.partition,
                timestamp_type: piece.timestamp_type(),
                decode: self.params.decode,
            };
            for record in piece.records() {
                match self.params.shape {
                    Shape::Events => cloudevent::json_into(&envelope, None, &record, out),
                    Shape::Json | Shape::Lines | Shape::V2(_) => envelope.json_into(&record, out),
                }
                out.extend_from_slice(end);
            }
        }
    }

    /// Where every partition stands: what was read, and what there is.
    fn ends_into(&self, lanes: &[Lane], out: &mut Vec<u8>) {
        for (at, lane) in lanes.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"partition\":" } else { b",{\"partition\":" });
            json::integer_into(lane.partition, out);
            for (name, offset) in [
                (&b",\"next\":"[..], lane.next),
                (b",\"log_start_offset\":", lane.bounds.log_start_offset),
                (b",\"high_watermark\":", lane.bounds.high_watermark),
            ] {
                out.extend_from_slice(name);
                json::integer_into(offset, out);
            }
            out.push(b'}');
        }
    }
}
