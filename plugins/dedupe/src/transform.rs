//! What was sent, and what comes again.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use anyhow::bail;
use forebay_sdk::{
    By, Configured, Emitter, Fields, Format, Input, Mark, Message, Node, Path, Port, Saved, Site,
    Topics, Transform, Value, Witness,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const VERSION: u32 = 1;

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Dedupe {
    pub fields: Vec<Path>,
    pub by: By,
    pub within: Duration,
    pub most: usize,
}

impl Configured for Dedupe {
    fn build(&self, site: Site) -> Node {
        let mut node =
            Deduping { dedupe: self.clone(), sent: HashMap::new(), order: VecDeque::new() };
        if let Some(remembered) = site.remembered(VERSION) {
            node.remember(remembered);
        }
        Node::transform(node)
    }

    fn fields(&self) -> Fields {
        let own = self.fields.iter().enumerate();
        let own = own.filter_map(|(index, path)| path.reads(format!("fields[{index}]")));
        Fields::passing(own.chain(self.by.reads()))
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

/// By what a message is known: too long to be that of two.
type Print = u128;

struct Deduping {
    dedupe: Dedupe,
    sent: HashMap<Print, Sent>,
    /// The oldest in front. What was sent anew stands here twice, and counts by its time.
    order: VecDeque<(Print, Instant)>,
}

struct Sent {
    at: Instant,
    witness: Witness,
}

/// What is written down: each with how long ago it was sent, in milliseconds.
#[derive(Serialize, Deserialize)]
struct Remembered {
    at: Mark,
    sent: Vec<(String, u64)>,
}

impl Transform for Deduping {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let message = input.message;
        let (print, now) = (self.dedupe.print(&message)?, out.now().at);
        self.forget_old(now);
        match self.sent.get(&print) {
            // It counts as delivered once the one before does.
            Some(sent) if !sent.witness.was_broken() => {
                sent.witness.share(out.hold().into_delivery());
            }
            _ => {
                let (held, witness) = out.hold().witnessed();
                self.take_note(print, Sent { at: now, witness });
                out.emit_held(held, Port::MAIN, message);
            }
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        let now = Instant::now();
        // What is still under way may be lost, and then it must not be taken for sent.
        let kept = self.order.iter().filter(|(print, at)| {
            self.sent.get(print).is_some_and(|sent| sent.at == *at && sent.witness.was_kept())
        });
        let age = |at: Instant| u64::try_from((now - at).as_millis()).unwrap_or(u64::MAX);
        let sent = kept.map(|(print, at)| (format!("{print:x}"), age(*at))).collect();
        Saved::of(VERSION, &Remembered { at: Mark(now), sent }).ok()
    }
}

impl Deduping {
    fn remember(&mut self, Remembered { at, sent }: Remembered) {
        for (print, age) in sent {
            let sent_at = at.0.checked_sub(Duration::from_millis(age));
            if let (Ok(print), Some(at)) = (Print::from_str_radix(&print, 16), sent_at) {
                self.take_note(print, Sent { at, witness: Witness::default() });
            }
        }
    }

    fn take_note(&mut self, print: Print, sent: Sent) {
        self.order.push_back((print, sent.at));
        self.sent.insert(print, sent);
        while self.order.len() > self.dedupe.most {
            self.forget_oldest();
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let within = self.dedupe.within;
        let is_old = |(_, at): &(Print, Instant)| now.saturating_duration_since(*at) >= within;
        while self.order.front().is_some_and(is_old) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((print, at)) = self.order.pop_front() else { return };
        if self.sent.get(&print).is_some_and(|sent| sent.at == at) {
            self.sent.remove(&print);
        }
    }
}

impl Dedupe {
    fn print(&self, message: &Message) -> anyhow::Result<Print> {
        let series = self.by.of(message)?;
        let mut texts = Vec::new();
        for path in &self.fields {
            match path.find(&message.payload)? {
                // Two that lack it are not the same for that.
                None | Some(Value::Null) => {
                    bail!("`{path}` is missing, by which a message is known")
                }
                Some(value) => texts.push(value.to_string()),
            }
        }
        let half = |number: u8| {
            let mut hasher = DefaultHasher::new();
            (number, &series, &texts).hash(&mut hasher);
            if self.fields.is_empty() {
                message.payload.to_bytes(Format::Bytes).hash(&mut hasher);
            }
            Print::from(hasher.finish())
        };
        Ok(half(1) << 64 | half(2))
    }
}
