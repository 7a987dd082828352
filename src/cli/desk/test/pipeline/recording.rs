//! What `forebay record` wrote.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_STANDARD};
use forebay_sdk::{Format, Message, Payload};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::folder::read_text;

/// The largest that is read.
const MOST_BYTES: usize = 256 << 20;

/// Messages, each with when it came and by which output, as `forebay tap` has it: `boiler/route.high`.
pub struct Recording(Vec<(Duration, String, Message)>);

/// When a node sent a message, by which output, and the message.
pub type Recorded<'a> = (Duration, Option<&'a str>, &'a Message);

/// A line of it.
#[derive(Deserialize)]
struct Line {
    /// In seconds.
    at: f64,
    output: String,
    topic: String,
    #[serde(default)]
    payload: Value,
    payload_base64: Option<String>,
    #[serde(default)]
    meta: Map<String, Value>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has a line that is none of a recording.
    pub fn read(path: &Path) -> anyhow::Result<Recording> {
        let text = read_text(path, MOST_BYTES)
            .map_err(|problem| anyhow!("{} {}", problem.message, problem.label))?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let messages = lines.map(|(number, line)| {
            message(line).with_context(|| format!("line {number} is none of `forebay record`"))
        });
        let mut messages = messages.collect::<anyhow::Result<Vec<_>>>()?;
        messages.sort_by_key(|(at, ..)| *at);
        Ok(Recording(messages))
    }

    /// The nodes that were recorded, and what each sent: when, and by which output.
    pub fn nodes(&self) -> BTreeMap<&str, Vec<Recorded<'_>>> {
        let mut nodes: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (at, output, message) in &self.0 {
            let (node, output) = match output.split_once('.') {
                Some((node, output)) => (node, Some(output)),
                None => (output.as_str(), None),
            };
            nodes.entry(node).or_default().push((*at, output, message));
        }
        nodes
    }
}

fn message(line: &str) -> anyhow::Result<(Duration, String, Message)> {
    let Line { at, output, topic, payload, payload_base64, meta } = serde_json::from_str(line)?;
    let at = Duration::try_from_secs_f64(at)?;
    let payload = match payload_base64 {
        Some(text) => Payload::encoded(BASE64_STANDARD.decode(text)?, Format::Bytes),
        None => payload.into(),
    };
    let mut message = Message::new(topic.as_str(), payload);
    meta.iter().for_each(|(name, value)| message.meta.insert(name.as_str(), value.clone()));
    Ok((at, output, message))
}
