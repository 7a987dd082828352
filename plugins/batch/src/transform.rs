//! Messages that wait to become one.

use std::time::Duration;

use forebay_sdk::{
    By, Configured, Due, Emitter, Fields, Format, Held, Input, Kept, Mark, Message, Node, Payload,
    Port, Saved, Sends, Series, Site, Topics, Transform, clock::Now, json,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const VERSION: u32 = 1;
/// What a message takes in a batch beside its payload and topic.
const ITEM_BYTES: usize = 64;
/// What all that waits may take together. A batch that would go beyond is sent early.
const MOST_BYTES: usize = 16 << 20;

/// What stands in the list of each message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Items {
    /// Its payload.
    #[default]
    Payload,
    /// A map of its `topic`, its `time` and its `payload`.
    Message,
}

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Batch {
    pub max_messages: usize,
    pub longest: Duration,
    pub max_bytes: usize,
    pub items: Items,
    pub into: Option<String>,
    pub by: By,
}

impl Configured for Batch {
    fn build(&self, site: Site) -> Node {
        let series: Series<Waiting> = site.remembered(VERSION).unwrap_or_default();
        let mut node = Batching { batch: self.clone(), series, due: Due::default(), total: 0 };
        for (series, waiting) in node.series.all_mut() {
            node.total += waiting.bytes;
            if let Some(first) = waiting.first {
                node.due.set(series, first.0 + self.longest);
            }
        }
        Node::transform(node)
    }

    fn fields(&self) -> Fields {
        let sends = match &self.into {
            Some(into) => Sends::Only([into.clone()].into()),
            None => Sends::Unknown,
        };
        Fields { reads: self.by.reads().collect(), sends }
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Batching {
    batch: Batch,
    series: Series<Waiting>,
    due: Due,
    /// Bytes of all that waits.
    total: usize,
}

/// Of one series.
#[derive(Default, Serialize, Deserialize)]
struct Waiting {
    /// When the first of them came.
    first: Option<Mark>,
    messages: Vec<Kept>,
    bytes: usize,
}

impl Transform for Batching {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let Batching { batch, series, due, total } = self;
        let mut message = input.message;
        // A payload that cannot be read would spoil the others.
        message.payload.value().map_err(Clone::clone)?;
        let key = batch.by.of(&message)?;
        message.payload = Payload::encoded(message.payload.to_bytes(Format::Json), Format::Json);
        let bytes = batch.bytes(&message);
        let (waiting, forgotten) = series.of(key.clone());
        if let Some(forgotten) = forgotten {
            *total -= forgotten.bytes;
            batch.send(forgotten, out);
        }
        if !waiting.messages.is_empty() && waiting.bytes + bytes > batch.max_bytes {
            *total -= waiting.bytes;
            batch.send(std::mem::take(waiting), out);
        }
        *total += bytes;
        waiting.bytes += bytes;
        waiting.messages.push(Kept::of(message, out));
        let first = *waiting.first.get_or_insert(Mark(out.now().at));
        let is_full =
            waiting.messages.len() >= batch.max_messages || waiting.bytes >= batch.max_bytes;
        if is_full || *total > MOST_BYTES {
            *total -= waiting.bytes;
            batch.send(std::mem::take(waiting), out);
            due.clear(&key);
        } else {
            due.set(&key, first.0 + batch.longest);
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        self.due.next()
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        while let Some(key) = self.due.take(now.at) {
            if let Some(waiting) = self.series.remove(&key) {
                self.total -= waiting.bytes;
                self.batch.send(waiting, out);
            }
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.series).ok()
    }
}

impl Batch {
    /// Sends what waits as one message: with the topic, the time and the `meta` of the last.
    fn send(&self, waiting: Waiting, out: &mut Emitter) {
        let (mut list, mut promises, mut not_set) = (Vec::from(b"["), Vec::new(), Vec::new());
        let mut last = None;
        for Kept { mut message, held } in waiting.messages {
            message.restamp();
            if list.len() > 1 {
                list.push(b',');
            }
            self.write(&message, &mut list);
            promises.push(held);
            not_set.extend(Some(message.time).filter(|time| !time.clock_was_set()));
            last = Some(message);
        }
        list.push(b']');
        let Some(mut last) = last else { return };
        let payload = match &self.into {
            Some(name) => {
                let mut payload = Vec::from(b"{");
                json::write_name(name, &mut payload);
                payload.extend_from_slice(&list);
                payload.push(b'}');
                payload
            }
            None => list,
        };
        last.payload = Payload::encoded(payload, Format::Json);
        last.meta.take_own_times();
        not_set.into_iter().for_each(|time| last.note_own_time(time));
        out.emit_held(Held::join(promises), Port::MAIN, last);
    }

    /// What a message takes in a batch, about.
    fn bytes(&self, message: &Message) -> usize {
        let payload = message.payload.size_bytes();
        match self.items {
            Items::Payload => payload + 1,
            Items::Message => payload + message.topic.len() + ITEM_BYTES,
        }
    }

    /// Writes a message into the list, with its digits as they came.
    fn write(&self, message: &Message, list: &mut Vec<u8>) {
        let payload = message.payload.to_bytes(Format::Json);
        match self.items {
            Items::Payload => list.extend_from_slice(&payload),
            Items::Message => {
                list.push(b'{');
                json::write_name("topic", list);
                json::write(&*message.topic, list);
                json::write_name("time", list);
                json::write(&message.time.to_rfc3339(), list);
                json::write_name("payload", list);
                list.extend_from_slice(&payload);
                list.push(b'}');
            }
        }
    }
}
