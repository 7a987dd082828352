//! What was let through, and what waits for its turn.

use std::time::Duration;

use forebay_sdk::{
    By, Capabilities, Configured, Due, Emitter, Fields, Input, Kept, Mark, Message, Node, Port,
    Saved, Series, Site, Topics, Transform, Witness, clock::Now,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const VERSION: u32 = 1;
/// What all that waits may take together. A message that would go beyond is sent at once.
const MOST_BYTES: usize = 4 << 20;

/// Which messages go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Send {
    /// The first ones, at once. What comes after them is dropped.
    #[default]
    First,
    /// The first at once, and then the latest one at the end of each `every`. Those between are
    /// dropped, so what was sent last is what came last.
    Latest,
}

/// A node that was understood.
#[derive(Clone)]
pub(crate) struct Throttle {
    pub every: Duration,
    pub most: usize,
    pub send: Send,
    pub by: By,
}

impl Configured for Throttle {
    fn build(&self, site: Site) -> Node {
        let series: Series<Turn> = site.remembered(VERSION).unwrap_or_default();
        let mut node = Throttling { throttle: self.clone(), series, due: Due::default(), bytes: 0 };
        node.plan_all();
        Node::transform(node)
    }

    fn capabilities(&self) -> Capabilities {
        // By topics alone nothing can go wrong.
        Capabilities { errors: self.by != By::default(), ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        Fields::passing(self.by.reads())
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Throttling {
    throttle: Throttle,
    series: Series<Turn>,
    due: Due,
    /// Bytes of all that waits.
    bytes: usize,
}

/// One series.
#[derive(Default, Serialize, Deserialize)]
struct Turn {
    /// When `every` began. None before the first message.
    since: Option<Mark>,
    /// What went on since.
    sent: usize,
    /// The same, of what is not known to have arrived.
    witnesses: Vec<Witness>,
    /// The latest message, which goes at the end.
    waits: Option<Kept>,
}

impl Transform for Throttling {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let message = input.message;
        let series = self.throttle.by.of(&message)?;
        let now = out.now().at;
        let (turn, forgotten) = self.series.of(series.clone());
        if let Some(waits) = forgotten.and_then(|forgotten| forgotten.waits) {
            self.bytes -= waits.size_bytes();
            waits.send(Port::MAIN, out);
        }
        turn.begin_if_over(self.throttle.every, now);
        if turn.has_room(self.throttle.most) {
            turn.send(message, out);
        } else if self.throttle.send == Send::Latest {
            let kept = Kept::of(message, out);
            self.bytes += kept.size_bytes();
            if let Some(before) = turn.waits.replace(kept) {
                self.bytes -= before.size_bytes();
                before.held.settle();
            }
            let end = turn.since.map_or(now, |since| since.0 + self.throttle.every);
            let is_too_much = self.bytes > MOST_BYTES;
            self.due.set(&series, if is_too_much { now } else { end });
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        self.due.next()
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        while let Some(series) = self.due.take(now.at) {
            let Some(turn) = self.series.get_mut(&series) else { continue };
            let Some(waits) = turn.waits.take() else { continue };
            self.bytes -= waits.size_bytes();
            *turn = Turn { since: Some(Mark(now.at)), sent: 1, ..Turn::default() };
            waits.send(Port::MAIN, out);
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.series).ok()
    }
}

impl Throttling {
    /// Of what a predecessor left: its messages go at the end of what is `every` now.
    fn plan_all(&mut self) {
        let Throttling { throttle, series, due, bytes } = self;
        for (series, turn) in series.all_mut() {
            if let (Some(waits), Some(since)) = (&turn.waits, turn.since) {
                *bytes += waits.size_bytes();
                due.set(series, since.0 + throttle.every);
            }
        }
    }
}

impl Turn {
    fn begin_if_over(&mut self, every: Duration, now: Instant) {
        let is_over = self.since.is_none_or(|since| since.age(now) >= every);
        // What waits is sent by its own clock, which may be late.
        if is_over && self.waits.is_none() {
            *self = Turn { since: Some(Mark(now)), ..Turn::default() };
        }
    }

    fn has_room(&mut self, most: usize) -> bool {
        // What was lost on the way comes again, and then it must find the room that it had.
        let lost = self.witnesses.extract_if(.., |witness| witness.was_broken()).count();
        self.sent -= lost;
        self.waits.is_none() && self.sent < most
    }

    fn send(&mut self, message: Message, out: &mut Emitter) {
        self.witnesses.retain(|witness| !witness.was_kept());
        let (held, witness) = out.hold().witnessed();
        self.witnesses.push(witness);
        self.sent += 1;
        out.emit_held(held, Port::MAIN, message);
    }
}
