//! The text of server-sent events (WHATWG HTML, section 9.2).
//!
//! Everything that comes from records is either JSON, which has no line break, or goes through
//! [`data_into`], which splits at every line break that a parser knows: a payload can never add a
//! field of its own. Names of events are ours or went
//! through [`is_name`], and ids are cursors.

use crate::base::json;

/// Names that records can never give to events: they are ours, or those of EventSource itself.
const RESERVED: [&[u8]; 12] = [
    b"message",
    b"batch",
    b"ready",
    b"ping",
    b"caught-up",
    b"gap",
    b"assigned",
    b"revoked",
    b"fault",
    b"end",
    b"error",
    b"open",
];

/// Longest name of an event that comes from a record.
const NAME_BYTES_MAX: usize = 128;

/// Tells whether a name from a record may be the name of an event. One that may not is `message`.
pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !RESERVED.contains(&name)
        && std::str::from_utf8(name).is_ok_and(|text| {
            !text.contains(char::is_control) && !text.starts_with(' ') && !text.ends_with(' ')
        })
}

/// Begins an event: its name, unless it is the default `message`, and its id.
///
/// `id` must come from [`super::cursor`]: those have no character that could end the line.
pub(super) fn head_into(name: &str, id: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id);
        out.push(b'\n');
    }
}

/// Writes one of our own events, whose data is one line of JSON.
pub(super) fn event_into(name: &str, id: Option<&[u8]>, data: &[u8], out: &mut Vec<u8>) {
    head_into(name, id, out);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

/// Writes how long the client shall wait before it connects again, with no event.
pub(super) fn retry_into(milliseconds: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"retry: ");
    json::integer_into(milliseconds, out);
    out.extend_from_slice(b"\n\n");
}

/// Writes `text` as `data` lines, one for each of its lines by CR, LF or CRLF, and ends the event.
pub(super) fn data_into(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        out.extend_from_slice(b"data: ");
        let Some(at) = memchr::memchr2(b'\r', b'\n', rest) else {
            out.extend_from_slice(rest);
            out.extend_from_slice(b"\n\n");
            return;
        };
        let (line, after) = rest.split_at(at);
        out.extend_from_slice(line);
        out.push(b'\n');
        let is_pair = after.starts_with(b"\r\n");
        rest = after.get(if is_pair { 2 } else { 1 }..).unwrap_or_default();
    }
}

#[cfg(test)]
pub(super) mod parser {
    //! What a browser makes of the bytes.

    /// One dispatched event.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub(crate) struct Event {
        pub(crate) name: String,
        pub(crate) data: String,
        /// The last event id when the event was dispatched.
        pub(crate) id: String,
    }

    /// Parses a whole body as the standard says; an event without its blank line is dropped.
    pub(crate) fn parse(bytes: &[u8]) -> (Vec<Event>, Option<u64>) {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut retry, mut id) = (Vec::new(), None, String::new());
        let (mut name, mut data) = (String::new(), None::<String>);
        let Some(end) = text.rfind('\n') else { return (events, retry) };
        for line in text[..end].split('\n') {
            if line.is_empty() {
                if let Some(data) = data.take() {
                    let shown = if name.is_empty() { "message".to_owned() } else { name.clone() };
                    events.push(Event { name: shown, data, id: id.clone() });
                }
                name.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_owned()),
                },
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                "retry" => retry = value.parse().ok(),
                _ => {}
            }
        }
        (events, retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(text: &[u8]) -> String {
        let mut out = Vec::new();
        data_into(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn payloads_cannot_inject_fields() {
        assert_eq!(data(b"plain"), "data: plain\n\n");
        assert_eq!(data(b""), "data: \n\n");
        assert_eq!(
            data(b"a\nid: 7\r\n\revent: x"),
            "data: a\ndata: id: 7\ndata: \ndata: event: x\n\n"
        );
        assert_eq!(data(b"a\n"), "data: a\ndata: \n\n");
        assert_eq!(data(b"\0"), "data: \0\n\n");
    }

    #[test]
    fn fields_come_in_order() {
        let mut out = Vec::new();
        event_into("ping", Some(b"1.abc"), b"{}", &mut out);
        event_into("fault", None, b"{}", &mut out);
        retry_into(250, &mut out);
        let expected =
            "event: ping\nid: 1.abc\ndata: {}\n\nevent: fault\ndata: {}\n\nretry: 250\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn text_comes_back_with_its_line_breaks_made_one(text in "[a-z:\r\n\0 ]{0,60}") {
            let (events, _) = parser::parse(data(text.as_bytes()).as_bytes());
            let normal = text.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(events.len(), 1);
            prop_assert_eq!(&events[0].data, &normal);
        }
    }
}
