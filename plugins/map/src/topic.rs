//! A topic with places to be filled in: `site/{meter.id}/power`, `plant/{topic_level: 2}`.

use anyhow::{anyhow, bail};

use crate::{path::Path, piece::Piece};

/// The most bytes that a topic can have in MQTT.
const MOST_BYTES: usize = 65_535;

/// A topic, and what is to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
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
        parts.push(Part::Text(fixed(rest)?));
        Ok(Template(parts))
    }

    /// The topic for a message that came with the topic `came`.
    pub(crate) fn fill(&self, came: &str, slots: &[Option<Piece<'_>>]) -> anyhow::Result<String> {
        let mut topic = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Field(path, slot) => {
                    let piece = slots[*slot]
                        .ok_or_else(|| anyhow!("`topic` needs `{path}`, which is not there"))?;
                    let kind = piece.kind();
                    let word = piece.word().ok_or_else(|| {
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
        match topic.len() <= MOST_BYTES {
            true => Ok(topic),
            false => bail!("`topic` gets longer than {MOST_BYTES} bytes"),
        }
    }
}

/// A level of a topic, from 1.
pub(crate) fn level(topic: &str, number: usize) -> Option<&str> {
    topic.split('/').nth(number.checked_sub(1)?)
}

fn fixed(text: &str) -> Result<String, String> {
    match text.contains(['+', '#', '\0', '}']) {
        true => Err(format!("expected a topic without `+`, `#` and `}}`, found `{text}`")),
        false => Ok(text.to_owned()),
    }
}
