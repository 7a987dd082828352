//! What stands on one line of the file.

use anyhow::{Context, anyhow};
use forebay_sdk::{Format, Message};
use serde::de::IgnoredAny;

/// The line of a message, with its line break.
pub(crate) fn record(message: &Message, format: Format) -> anyhow::Result<Vec<u8>> {
    let bytes = message.payload.to_bytes(format);
    let mut record = Vec::with_capacity(bytes.len() + 1);
    match format {
        Format::Json => json(&bytes, &mut record)
            .with_context(|| format!("writing a message of topic {:?}", message.topic))?,
        Format::Text => text(&bytes, &mut record),
        Format::Bytes => record.extend_from_slice(&bytes),
    }
    record.push(b'\n');
    Ok(record)
}

/// Bytes that nobody has read yet may be no JSON, and would spoil the file for its readers.
fn json(bytes: &[u8], record: &mut Vec<u8>) -> anyhow::Result<()> {
    let wrong = |error: &dyn std::fmt::Display| anyhow!("payload is not JSON: {error}");
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| wrong(&error))?;
    // In valid JSON a line break is only ever white space between two tokens.
    record
        .extend(bytes.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    Ok(())
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
