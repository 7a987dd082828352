//! What has not come to rest yet.

use std::time::Duration;

use anyhow::anyhow;
use forebay_sdk::{
    By, Configured, Due, Emitter, Fields, Input, Kept, Mark, Message, Node, Path, Port, Saved,
    Series, Site, Topics, Transform, Value, Witness, clock::Now,
};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// What all that waits may take together. A message that would go beyond is sent at once.
const MOST_BYTES: usize = 4 << 20;

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Debounce {
    pub quiet: Duration,
    pub field: Option<Path>,
    pub longest: Option<Duration>,
    pub by: By,
}

impl Configured for Debounce {
    fn build(&self, site: Site) -> Node {
        let series: Series<Restless> = site.remembered(VERSION).unwrap_or_default();
        let mut node = Debouncing { debounce: self.clone(), series, due: Due::default(), bytes: 0 };
        for (series, restless) in node.series.all_mut() {
            node.bytes += restless.bytes();
            if let Some(waits) = &restless.waits {
                node.due.set(series, waits.due(&node.debounce).0);
            }
        }
        Node::transform(node)
    }

    fn fields(&self) -> Fields {
        let own = self.field.iter().filter_map(|field| field.reads("field"));
        Fields::passing(own.chain(self.by.reads()))
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Debouncing {
    debounce: Debounce,
    series: Series<Restless>,
    due: Due,
    /// Bytes of all that waits.
    bytes: usize,
}

/// One series.
#[derive(Default, Serialize, Deserialize)]
struct Restless {
    waits: Option<Waiting>,
    /// The value that was sent last, where one must come to rest.
    sent: Option<Sent>,
}

#[derive(Serialize, Deserialize)]
struct Waiting {
    /// Of what must come to rest. None where every message counts.
    value: Option<Value>,
    kept: Kept,
    /// When the first one came that is waiting.
    since: Mark,
    /// When the latest one came.
    moved: Mark,
}

#[derive(Serialize, Deserialize)]
struct Sent {
    value: Value,
    witness: Witness,
}

impl Transform for Debouncing {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let message = input.message;
        let series = self.debounce.by.of(&message)?;
        let value =
            self.debounce.field.as_ref().map(|field| value_at(field, &message)).transpose()?;
        let now = Mark(out.now().at);
        let (restless, forgotten) = self.series.of(series.clone());
        if let Some(waits) = forgotten.and_then(|forgotten| forgotten.waits) {
            self.bytes -= waits.kept.size_bytes();
            waits.kept.send(Port::MAIN, out);
        }
        let before = restless.bytes();
        match value {
            Some(value) => restless.take_value(value, message, now, out),
            None => restless.take_any(message, now, out),
        }
        self.bytes = self.bytes - before + restless.bytes();
        match &restless.waits {
            Some(_) if self.bytes > MOST_BYTES => self.due.set(&series, now.0),
            Some(waits) => self.due.set(&series, waits.due(&self.debounce).0),
            None => self.due.clear(&series),
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<tokio::time::Instant> {
        self.due.next()
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        while let Some(series) = self.due.take(now.at) {
            let Some(restless) = self.series.get_mut(&series) else { continue };
            self.bytes -= restless.bytes();
            let Some(Waiting { value, mut kept, .. }) = restless.waits.take() else { continue };
            let (held, witness) = kept.held.witnessed();
            kept.held = held;
            kept.send(Port::MAIN, out);
            match value {
                Some(value) => restless.sent = Some(Sent { value, witness }),
                None => drop(self.series.remove(&series)),
            }
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.series).ok()
    }
}

impl Restless {
    fn bytes(&self) -> usize {
        self.waits.as_ref().map_or(0, |waits| waits.kept.size_bytes())
    }

    /// The latest message waits, however many came.
    fn take_any(&mut self, message: Message, now: Mark, out: &mut Emitter) {
        let kept = Kept::of(message, out);
        let since = match self.waits.take() {
            Some(before) => {
                before.kept.held.settle();
                before.since
            }
            None => now,
        };
        self.waits = Some(Waiting { value: None, kept, since, moved: now });
    }

    /// The message waits with which a value came that is another than was sent last.
    fn take_value(&mut self, value: Value, message: Message, now: Mark, out: &mut Emitter) {
        if self.waits.as_ref().is_some_and(|waits| waits.value.as_ref() == Some(&value)) {
            return;
        }
        if let Some(over) = self.waits.take() {
            over.kept.held.settle();
        }
        match &self.sent {
            // It counts as delivered once the one before does.
            Some(sent) if sent.value == value && !sent.witness.was_broken() => {
                sent.witness.share(out.hold().into_delivery());
            }
            _ => {
                let kept = Kept::of(message, out);
                self.waits = Some(Waiting { value: Some(value), kept, since: now, moved: now });
            }
        }
    }
}

impl Waiting {
    fn due(&self, debounce: &Debounce) -> Mark {
        let quiet = self.moved.0 + debounce.quiet;
        Mark(debounce.longest.map_or(quiet, |longest| quiet.min(self.since.0 + longest)))
    }
}

fn value_at(field: &Path, message: &Message) -> anyhow::Result<Value> {
    let value = field.find(&message.payload)?.cloned();
    value.ok_or_else(|| anyhow!("`{field}` is missing, which is to come to rest"))
}
