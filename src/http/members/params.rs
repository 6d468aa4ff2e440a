//! What a client says of itself as a member: `topics` or `pattern`, `member`, `ack`, `from`.

use crate::base::ids::GroupId;
use crate::consumers::{AckMode, NewLiveMember, OffsetReset, Subscribe};
use crate::engine::log::Isolation;
use crate::http::error::{ApiError, ApiResult};
use crate::http::stream::params::{From, parse_from};

/// What `from` may be.
const FROM_RULE: &str = "latest, earliest, -N, an RFC 3339 timestamp or epoch ms";

/// Why `from` may not name offsets.
const OFFSETS_RULE: &str = "possible in a group, where committed offsets count: send a cursor of \
    POST /cursors:encode, or move the group by POST /admin/groups/{group}/offsets:reset";

/// The parameters of a member, in streams and in reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::http) struct MemberParams {
    topics: Option<Vec<String>>,
    pattern: Option<String>,
    member: Option<String>,
    ack: AckMode,
    from: Option<OffsetReset>,
    isolation: Isolation,
}

/// What became of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Taken {
    /// It was one of these.
    Yes,
    /// It is none of these.
    No,
}

impl MemberParams {
    /// Takes one parameter.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(in crate::http) fn set(&mut self, name: &str, value: &str) -> ApiResult<Taken> {
        let refuse =
            |rule: &str| Err(ApiError::bad_request(format!("{name} '{value}' is not {rule}")));
        match name {
            "topics" => {
                let names = value.split(',').map(|name| name.trim().to_owned());
                let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
                if names.is_empty() {
                    return refuse("a list of topics like orders,payments");
                }
                self.topics = Some(names);
            }
            "pattern" => self.pattern = Some(value.to_owned()),
            "member" if value.is_empty() => return refuse("the name of a member"),
            "member" => self.member = Some(value.to_owned()),
            "ack" => match value {
                "auto" => self.ack = AckMode::Auto,
                "explicit" => self.ack = AckMode::Explicit,
                "none" => self.ack = AckMode::None,
                _ => return refuse("auto, explicit or none"),
            },
            "from" | "since" if self.from.is_some() => {
                return refuse("possible: from is given twice");
            }
            "from" | "since" if value.starts_with("offset:") => return refuse(OFFSETS_RULE),
            "from" | "since" => match parse_from(value) {
                Some(from) => self.begin_at(&from),
                None => return refuse(FROM_RULE),
            },
            "isolation" => match value {
                "read_committed" => self.isolation = Isolation::ReadCommitted,
                "read_uncommitted" => self.isolation = Isolation::ReadUncommitted,
                _ => return refuse("read_committed or read_uncommitted"),
            },
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    }

    /// Begins there in partitions of which nothing is committed.
    pub(in crate::http) fn begin_at(&mut self, from: &From) {
        self.from = Some(match from {
            From::Earliest => OffsetReset::Earliest,
            From::Latest => OffsetReset::Latest,
            From::Last(count) => OffsetReset::Last(*count),
            From::Timestamp(at) => OffsetReset::AtOrAfter(*at),
        });
    }

    /// Says what moves the committed offsets.
    pub(in crate::http) const fn ack(&self) -> AckMode {
        self.ack
    }

    /// The member that these parameters describe; `or_named` is its name if they name none.
    ///
    /// # Errors
    /// 400 without topics and pattern, or with both; 422 for a group that cannot be.
    pub(in crate::http) fn member(
        self,
        group: &str,
        or_named: impl FnOnce() -> String,
    ) -> ApiResult<NewLiveMember> {
        let subscribe = match (self.topics, self.pattern) {
            (Some(topics), None) => Subscribe::Topics(topics),
            (None, Some(pattern)) => Subscribe::Pattern(pattern),
            (Some(_), Some(pattern)) => {
                let message = format!("pattern '{pattern}' is not possible: topics is given too");
                return Err(ApiError::bad_request(message));
            }
            (None, None) => return Err(ApiError::bad_request("topics or pattern is missing")),
        };
        Ok(NewLiveMember {
            group: GroupId::from(group),
            member: self.member.unwrap_or_else(or_named),
            subscribe,
            auto_offset_reset: self.from.unwrap_or_default(),
            isolation: self.isolation,
            ack: self.ack,
            resume: Vec::new(),
        })
    }
}
