//! What stands on one line of the file.

use anyhow::Context;
use forebay_sdk::{Format, Message};

/// The line of a message, with its line break.
pub(crate) fn record(message: &Message, format: Format) -> anyhow::Result<Vec<u8>> {
    let bytes = match format {
        Format::Json => message
            .payload
            .to_json_line()
            .with_context(|| format!("writing a message of topic {:?}", message.topic))?,
        _ => message.payload.to_bytes(format),
    };
    let mut record = Vec::with_capacity(bytes.len() + 1);
    match format {
        Format::Text => text(&bytes, &mut record),
        _ => record.extend_from_slice(&bytes),
    }
    record.push(b'\n');
    Ok(record)
}

/// One line break at the end is the end of the line and no part of the text.
fn text(bytes: &[u8], record: &mut Vec<u8>) {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    for byte in bytes {
        match byte {
            b'\n' => record.extend_from_slice(b"\\n"),
            b'\r' => record.extend_from_slice(b"\\r"),
            _ => record.push(*byte),
        }
    }
}
