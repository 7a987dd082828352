//! Messages as the body of a request.

use anyhow::Context;
use bytes::Bytes;
use forebay_sdk::{Coding, Format, Message, payload::join};

use crate::shape::Shape;

/// The body of a request with these messages. An error is the fault of a message.
pub(crate) fn body(batch: &[Message], shape: Shape, coding: Coding) -> anyhow::Result<Bytes> {
    let items = batch.iter().map(|message| item(message, shape, coding.format));
    let items = items.collect::<anyhow::Result<Vec<_>>>()?;
    let body = match (shape, items.as_slice()) {
        // One message by this sink's capabilities.
        (Shape::Single, [item]) => item.clone(),
        (Shape::Single, items) => items.concat().into(),
        (Shape::Array, items) => join(items, None, coding.format),
        (Shape::Lines, items) => {
            let lines = items.iter().flat_map(|item| [&item[..], b"\n"]);
            lines.collect::<Vec<_>>().concat().into()
        }
    };
    Ok(coding.pack(body))
}

/// What a body is, for the header of that name.
pub(crate) fn content_type(shape: Shape, format: Format) -> &'static str {
    match shape {
        Shape::Single | Shape::Array => format.content_type(),
        Shape::Lines => "application/x-ndjson",
    }
}

fn item(message: &Message, shape: Shape, format: Format) -> anyhow::Result<Bytes> {
    // What nobody reads as a value leaves as it came.
    let format = match message.payload.as_encoded() {
        Some((_, Format::Bytes)) if shape == Shape::Single => Format::Bytes,
        _ => format,
    };
    let is_plain = shape == Shape::Single && matches!(format, Format::Text | Format::Bytes);
    if is_plain {
        return Ok(message.payload.to_bytes(format));
    }
    let writing = || format!("writing a message of topic {:?}", message.topic);
    message.payload.to_item(format).with_context(writing)
}
