//! What an event looks like: the parameters that records are encoded by.

use super::Setting;
use crate::http::record::Decode;

/// What an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in super::super) enum Data {
    /// The record with everything about it.
    #[default]
    Envelope,
    /// Only its value.
    Value,
}

/// What encoded records depend on, besides the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in super::super) struct Format {
    pub(in super::super) data: Data,
    pub(in super::super) decode: Decode,
}

/// Which events carry a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Ids {
    /// Every record while the cursor is short, else the last one of a flush.
    #[default]
    Auto,
    /// Every record.
    Each,
    /// The last record of a flush.
    Flush,
}

/// The parameters of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Shape {
    pub(in super::super) format: Format,
    pub(in super::super) ids: Ids,
}

impl Shape {
    /// Parameters that may be given more than once.
    pub(super) const fn is_repeatable(_name: &str) -> bool {
        false
    }

    /// Takes one parameter.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "data" => match value {
                "envelope" => self.format.data = Data::Envelope,
                "value" => self.format.data = Data::Value,
                _ => return Setting::not("envelope or value"),
            },
            "decode" => match Decode::parse(value) {
                Some(decode) => self.format.decode = decode,
                None => return Setting::not(Decode::NAMES),
            },
            "ids" => match value {
                "auto" => self.ids = Ids::Auto,
                "each" => self.ids = Ids::Each,
                "flush" => self.ids = Ids::Flush,
                _ => return Setting::not("auto, each or flush"),
            },
            _ => return Setting::Unknown,
        }
        Setting::Done
    }
}
