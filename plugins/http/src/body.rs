//! Messages as the body of a request.

use anyhow::Context;
use bytes::Bytes;
use forebay_sdk::{Format, Message};

use crate::shape::Shape;

/// The body of a request with these messages. An error is the fault of a message.
pub(crate) fn body(batch: &[Message], shape: Shape, format: Format) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    match shape {
        Shape::Single => {
            // One message by this sink's capabilities.
            for message in batch {
                single(message, format, &mut body)?;
            }
        }
        Shape::Array => {
            body.push(b'[');
            for (index, message) in batch.iter().enumerate() {
                if index > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(&json(message)?);
            }
            body.push(b']');
        }
        Shape::Lines => {
            for message in batch {
                body.extend_from_slice(&json(message)?);
                body.push(b'\n');
            }
        }
    }
    Ok(body)
}

/// What a body is, for the header of that name.
pub(crate) fn content_type(shape: Shape, format: Format) -> &'static str {
    match (shape, format) {
        (Shape::Array, _) | (Shape::Single, Format::Json) => "application/json",
        (Shape::Lines, _) => "application/x-ndjson",
        (Shape::Single, Format::Text) => "text/plain; charset=utf-8",
        (Shape::Single, Format::Bytes) => "application/octet-stream",
    }
}

fn single(message: &Message, format: Format, body: &mut Vec<u8>) -> anyhow::Result<()> {
    match format {
        Format::Json => body.extend_from_slice(&json(message)?),
        Format::Text | Format::Bytes => body.extend_from_slice(&message.payload.to_bytes(format)),
    }
    Ok(())
}

fn json(message: &Message) -> anyhow::Result<Bytes> {
    let writing = || format!("writing a message of topic {:?}", message.topic);
    message.payload.to_json_line().with_context(writing)
}
