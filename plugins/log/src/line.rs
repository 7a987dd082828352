//! How a message looks as a line. Topic and payload come from outside, so control characters in
//! them are written as escapes: they could clear the screen or forge lines.

use std::{borrow::Cow, fmt::Write};

use forebay_sdk::{Format, Message, Payload, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

/// How a line looks.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    /// `09:14:02.120 site/a/boiler {"flow":71.5}`: time of day in UTC, topic (`-` for none), and
    /// payload as JSON.
    #[default]
    Text,
    /// A JSON object with `time`, `topic`, `payload` and `meta`.
    Json,
}

/// The lines of a batch, each with its line break.
pub(crate) fn lines(batch: &[Message], layout: Layout) -> String {
    let mut lines = String::new();
    for message in batch {
        match layout {
            Layout::Text => text(message, &mut lines),
            Layout::Json => lines.push_str(&without_controls(&json_line(message))),
        }
        lines.push('\n');
    }
    lines
}

fn text(message: &Message, line: &mut String) {
    const TIME_OF_DAY: std::ops::Range<usize> = 11..23;
    let time = message.time.to_rfc3339();
    line.push_str(time.get(TIME_OF_DAY).unwrap_or(&time));
    line.push(' ');
    match &*message.topic {
        "" => line.push('-'),
        topic => line.push_str(&without_controls(topic)),
    }
    line.push(' ');
    line.push_str(&without_controls(&payload(&message.payload)));
}

fn json_line(message: &Message) -> String {
    let mut meta = Map::new();
    if let Some(source) = &message.meta.source {
        meta.insert("source".to_owned(), Value::from(&**source));
    }
    meta.extend(message.meta.entries().map(|(name, value)| (name.to_owned(), value.clone())));
    let time = Value::from(message.time.to_rfc3339());
    let topic = Value::from(&*message.topic);
    let payload = payload(&message.payload);
    let meta = Value::from(meta);
    format!(r#"{{"time":{time},"topic":{topic},"payload":{payload},"meta":{meta}}}"#)
}

/// The payload as JSON: digit by digit as it came when it came as that. As text when it cannot be
/// read, because a log shows what is there.
fn payload(payload: &Payload) -> String {
    match payload.to_json_line() {
        Ok(json) => without_space(&String::from_utf8_lossy(&json)),
        Err(_) => {
            let bytes = payload.to_bytes(Format::Bytes);
            Value::from(String::from_utf8_lossy(&bytes)).to_string()
        }
    }
}

/// JSON without the white space between its tokens.
fn without_space(json: &str) -> String {
    let mut in_text = false;
    let mut is_escaped = false;
    let stays = |c: &char| {
        if *c == '"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = *c == '\\' && !is_escaped;
        in_text || !c.is_ascii_whitespace()
    };
    json.chars().filter(stays).collect()
}

/// Control characters as JSON escapes. In JSON only DEL and U+0080 to U+009F are left to escape;
/// some terminals obey the latter too.
fn without_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() {
            // All control characters are below U+00A0.
            write!(escaped, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}
