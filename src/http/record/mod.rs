//! How records look in answers of our own, whatever asked for them: the JSON of one record, and the
//! cursor that says where to go on.
//!
//! Live streams and plain reads use both, so a client reads one shape and may continue either with
//! the cursor of the other. The arrays of v2 have another shape, in `v2::encode`.

pub(super) mod cloudevent;
pub(super) mod cursor;
pub(super) mod envelope;
pub(super) mod last;
pub(super) mod select;
pub(in crate::http) mod stored;

/// How keys and values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Decode {
    /// JSON if it is, else text if it is, else base64.
    #[default]
    Auto,
    /// JSON if it is, else base64.
    Json,
    /// Text if it is, else base64.
    Text,
    /// Base64.
    Base64,
}

impl Decode {
    /// What `decode` can be, for refusals.
    pub(super) const NAMES: &'static str = "auto, json, text or base64";

    /// Finds a way by its name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            "base64" => Some(Self::Base64),
            _ => None,
        }
    }
}

/// How offsets and timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Numbers {
    /// As JSON numbers.
    #[default]
    Number,
    /// As strings, for readers whose numbers are doubles.
    Text,
}
