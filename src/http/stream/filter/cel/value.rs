//! Values of expressions: borrowed from the record wherever they can be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::ids::PartitionId;
use crate::protocol::record_batch::Record;

/// A record's value as expressions see it, made once for all filters.
#[derive(Debug)]
pub(in crate::http::stream) enum Document {
    /// A JSON document.
    Json(serde_json::Value),
    /// Anything else: text, bytes, or nothing.
    Plain,
}

impl Document {
    /// Reads a record's value.
    pub(in crate::http::stream) fn read(value: Option<&[u8]>) -> Self {
        value.and_then(|bytes| serde_json::from_slice(bytes).ok()).map_or(Self::Plain, Self::Json)
    }
}

/// What an expression is evaluated over.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Input<'a> {
    pub(in super::super) topic: &'a str,
    pub(in super::super) partition: PartitionId,
    pub(in super::super) record: Record<'a>,
    pub(in super::super) document: &'a Document,
}

impl<'a> Input<'a> {
    /// The last header of a name, as Kafka's own clients find it.
    pub(super) fn header(&self, name: &str) -> Option<Value<'a>> {
        let mut headers = self.record.headers().filter(|(key, _)| *key == name.as_bytes());
        let first = headers.next()?;
        let (_, value) = headers.last().unwrap_or(first);
        Some(Value::plain(value))
    }
}

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// A list or an object of the record's JSON.
    Json(&'a serde_json::Value),
    /// The headers of the record.
    Headers(Input<'a>),
    /// A list that the expression made.
    List(Arc<Vec<Value<'a>>>),
}

impl<'a> Value<'a> {
    /// Text if it is, else bytes.
    pub(super) fn plain(bytes: Option<&'a [u8]>) -> Self {
        match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
            None => Self::Null,
            Some(Ok(text)) => Self::Text(Cow::Borrowed(text)),
            Some(Err(bytes)) => Self::Bytes(Cow::Borrowed(bytes)),
        }
    }

    pub(super) fn json(json: &'a serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(is) => Self::Bool(*is),
            serde_json::Value::String(text) => Self::Text(Cow::Borrowed(text)),
            serde_json::Value::Number(number) => number
                .as_i64()
                .map(Self::Int)
                .or_else(|| number.as_u64().map(Self::Uint))
                .unwrap_or_else(|| Self::Double(number.as_f64().unwrap_or(f64::NAN))),
            other => Self::Json(other),
        }
    }

    /// The value's type, as errors name it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Json(serde_json::Value::Array(_)) | Self::List(_) => "list",
            Self::Json(_) | Self::Headers(_) => "map",
        }
    }

    /// Elements, members, code points or bytes.
    pub(super) fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Json(serde_json::Value::Array(list)) => list.len(),
            Self::Json(serde_json::Value::Object(map)) => map.len(),
            Self::Headers(input) => input.record.header_count(),
            _ => return None,
        })
    }

    /// Bytes or elements that looking at all of the value touches, about.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len() * 16,
            Self::Json(serde_json::Value::Array(list)) => list.len() * 16,
            Self::Json(serde_json::Value::Object(map)) => map.len() * 16,
            Self::Headers(input) => input.record.header_count() * 16,
            _ => 0,
        }
    }

    /// One member of a map, or one element of a list.
    pub(super) fn member(&self, index: &Value<'_>) -> Option<Value<'a>> {
        match (self, index) {
            (Self::Json(serde_json::Value::Object(map)), Value::Text(name)) => {
                map.get(name.as_ref()).map(Value::json)
            }
            (Self::Headers(input), Value::Text(name)) => input.header(name),
            (Self::Json(serde_json::Value::Array(list)), at) => {
                list.get(at.as_index()?).map(Value::json)
            }
            (Self::List(list), at) => list.get(at.as_index()?).cloned(),
            _ => None,
        }
    }

    fn as_index(&self) -> Option<usize> {
        match self {
            Self::Int(at) => usize::try_from(*at).ok(),
            Self::Uint(at) => usize::try_from(*at).ok(),
            _ => None,
        }
    }

    /// What a comprehension runs over: elements of lists, names of maps.
    pub(super) fn elements(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Self::List(list) => Some(list.as_ref().clone()),
            Self::Json(serde_json::Value::Array(list)) => {
                Some(list.iter().map(Value::json).collect())
            }
            Self::Json(serde_json::Value::Object(map)) => {
                Some(map.keys().map(|name| Value::Text(Cow::Borrowed(name.as_str()))).collect())
            }
            Self::Headers(input) => {
                Some(input.record.headers().map(|(name, _)| Value::plain(Some(name))).collect())
            }
            _ => None,
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Int(n) => Some(Number::Whole(i128::from(*n))),
            Self::Uint(n) => Some(Number::Whole(i128::from(*n))),
            Self::Double(n) => Some(Number::Real(*n)),
            _ => None,
        }
    }

    /// Compares numbers of any kind, texts, bytes and truth values; none if they have no order.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        if let (Some(left), Some(right)) = (self.number(), other.number()) {
            return left.compare(right);
        }
        match (self, other) {
            (Self::Text(left), Value::Text(right)) => Some(left.as_ref().cmp(right.as_ref())),
            (Self::Bytes(left), Value::Bytes(right)) => Some(left.as_ref().cmp(right.as_ref())),
            (Self::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => None,
        }
    }

    /// Tells whether values are the same; those of different types never are.
    pub(super) fn is_same(&self, other: &Value<'_>) -> bool {
        if self.number().is_some() || matches!(self, Self::Text(_) | Self::Bytes(_) | Self::Bool(_))
        {
            return self.compare(other) == Some(Ordering::Equal);
        }
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Json(left), Value::Json(right)) => left == right,
            (left, right) if left.kind() == "list" && right.kind() == "list" => {
                let (Some(left), Some(right)) = (left.elements(), right.elements()) else {
                    return false;
                };
                left.len() == right.len() && left.iter().zip(&right).all(|(l, r)| l.is_same(r))
            }
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn compare(self, other: Self) -> Option<Ordering> {
        #[allow(
            clippy::cast_precision_loss,
            reason = "an order of doubles is as exact as they are"
        )]
        let real = |number| match number {
            Self::Whole(n) => n as f64,
            Self::Real(n) => n,
        };
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            _ => real(self).partial_cmp(&real(other)),
        }
    }
}
