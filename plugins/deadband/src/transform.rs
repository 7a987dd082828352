//! What was sent last of each field, and what has moved since.

use std::{collections::HashMap, sync::Arc};

use forebay_sdk::{
    By, Configured, Delivery, Emitter, Fields, Input, Mark, Node, Path, Port, Saved, Sending,
    Series, Site, Topics, Transform, Value, Witness,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// How much of a message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Send {
    /// The message as it came.
    #[default]
    Message,
    /// The message without those of the `fields` that have not moved.
    Changes,
}

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct DeadbandNode {
    pub watched: Arc<[Watched]>,
    pub send: Send,
    pub by: By,
}

/// A field that decides.
pub(crate) struct Watched {
    pub name: String,
    pub path: Path,
    pub sending: Sending,
}

impl Configured for DeadbandNode {
    fn build(&self, site: Site) -> Node {
        let sent = site.remembered(VERSION).unwrap_or_default();
        Node::transform(Watching { node: self.clone(), sent })
    }

    fn fields(&self) -> Fields {
        let own = self.watched.iter();
        let own = own.filter_map(|field| field.path.reads(format!("fields.{}", field.name)));
        Fields::passing(own.chain(self.by.reads()))
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Watching {
    node: DeadbandNode,
    /// Of each series, by the names of its fields.
    sent: Series<HashMap<String, Sent>>,
}

/// What was sent last of a field.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sent {
    value: Value,
    at: Mark,
    witness: Witness,
}

impl Transform for Watching {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let mut message = input.message;
        let series = self.node.by.of(&message)?;
        let now = Mark(out.now().at);
        let (last, _) = self.sent.of(series);
        let mut there = Vec::with_capacity(self.node.watched.len());
        for field in self.node.watched.iter() {
            if let Some(value) = field.path.find(&message.payload)? {
                let sent = last.get(&field.name);
                let moved = sent.is_none_or(|sent| field.has_moved(sent, value, now));
                there.push((field, value.clone(), moved));
            }
        }
        if !there.is_empty() && there.iter().all(|(.., moved)| !moved) {
            // It counts as delivered once all that stands for it does.
            let owed = out.hold().into_delivery();
            let sent = there.iter().filter_map(|(field, ..)| last.get(&field.name));
            sent.for_each(|sent| sent.witness.share(owed.clone()));
            Delivery::settle_all(owed);
            return Ok(());
        }
        if self.node.send == Send::Changes {
            for (field, .., moved) in &there {
                if !moved {
                    field.path.take_out(message.payload.value_mut()?);
                }
            }
            there.retain(|(.., moved)| *moved);
        }
        let (held, witness) = out.hold().witnessed();
        for (field, value, _) in there {
            last.insert(field.name.clone(), Sent { value, at: now, witness: witness.clone() });
        }
        out.emit_held(held, Port::MAIN, message);
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.sent).ok()
    }
}

impl Watched {
    fn has_moved(&self, last: &Sent, value: &Value, now: Mark) -> bool {
        last.witness.was_broken() || self.sending.is_due(&last.value, last.at.age(now.0), value)
    }
}
