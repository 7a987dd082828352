//! A topic with places to be filled in: `site/{meter.id}/power`, `plant/{topic_level: 2}`.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use forebay_sdk::Path;

use crate::piece::Piece;

/// The most bytes that a topic can have in MQTT.
const MOST_BYTES: usize = 65_535;

/// A topic, and what is to be filled in.
pub(crate) enum Template {
    /// Nothing is: all messages get the same.
    Fixed(Arc<str>),
    Filled(Vec<Part>),
}

pub(crate) enum Part {
    Text(String),
    /// A field of the payload, and the slot where it is found.
    Field(String, usize),
    /// A level of the topic that came in, from 1.
    Level(usize),
}

impl Template {
    /// Reads a template; says what would be right when it cannot. `slot` gives each field a place.
    pub(crate) fn parse(
        text: &str,
        mut slot: impl FnMut(&Path) -> usize,
    ) -> Result<Template, String> {
        if text.is_empty() {
            return Err("expected a topic, found nothing".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let unclosed = || format!("expected `{{field}}`, found `{{{behind}`");
            let (inside, after) = behind.split_once('}').ok_or_else(unclosed)?;
            parts.push(Part::Text(fixed(before)?));
            parts.push(match inside.split_once(':') {
                Some((word, number)) if word.trim() == "topic_level" => {
                    let level = number.trim().parse().ok().filter(|level| *level > 0);
                    let wrong = || format!("expected `topic_level: 1` or more, found `{inside}`");
                    Part::Level(level.ok_or_else(wrong)?)
                }
                _ => Part::Field(inside.to_owned(), slot(&Path::parse(inside)?)),
            });
            rest = after;
        }
        let rest = fixed(rest)?;
        if text.len() > MOST_BYTES {
            return Err(format!("expected at most {MOST_BYTES} bytes, found {}", text.len()));
        }
        if parts.is_empty() {
            return Ok(Template::Fixed(rest.into()));
        }
        parts.push(Part::Text(rest));
        Ok(Template::Filled(parts))
    }

    /// Of the fields that are filled in.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        let parts = match self {
            Template::Fixed(_) => &[],
            Template::Filled(parts) => parts.as_slice(),
        };
        parts.iter().filter_map(|part| match part {
            Part::Field(_, slot) => Some(*slot),
            Part::Text(_) | Part::Level(_) => None,
        })
    }

    /// The topic for a message that came with the topic `came`.
    pub(crate) fn fill(&self, came: &str, slots: &[Option<Piece<'_>>]) -> anyhow::Result<Arc<str>> {
        let parts = match self {
            Template::Fixed(topic) => return Ok(Arc::clone(topic)),
            Template::Filled(parts) => parts,
        };
        let mut topic = String::new();
        for part in parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Field(path, slot) => {
                    let piece = slots[*slot]
                        .ok_or_else(|| anyhow!("`topic` needs `{path}`, which is not there"))?;
                    let kind = piece.kind();
                    let word = piece.word()?.ok_or_else(|| {
                        anyhow!("`topic` needs `{path}` as a text or number, and it is {kind}")
                    })?;
                    // Whoever sends the payload must not choose other levels than the one meant.
                    if word.is_empty() || word.contains(['/', '+', '#', '\0']) {
                        bail!("`{path}` cannot stand in a topic: {:?}", word);
                    }
                    topic.push_str(&word);
                }
                Part::Level(number) => topic.push_str(level(came, *number).ok_or_else(|| {
                    anyhow!(
                        "`topic` needs level {number} of the topic, and there are fewer: {came}"
                    )
                })?),
            }
        }
        if topic.len() > MOST_BYTES {
            bail!("`topic` gets longer than {MOST_BYTES} bytes");
        }
        Ok(topic.into())
    }
}

/// A level of a topic, from 1.
pub(crate) fn level(topic: &str, number: usize) -> Option<&str> {
    topic.split('/').nth(number.checked_sub(1)?)
}

fn fixed(text: &str) -> Result<String, String> {
    if text.contains(['+', '#', '\0', '}']) {
        return Err(format!("expected a topic without `+`, `#` and `}}`, found `{text}`"));
    }
    Ok(text.to_owned())
}
