//! Messages on their way through time.

use std::{collections::VecDeque, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{
    Capabilities, Configured, Emitter, Fields, Input, Kept, Mark, Node, Port, Saved, Site, Topics,
    Transform, Voice, clock::Now,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const VERSION: u32 = 1;
/// What is wrong while messages are sent early.
const FULL: &str = "full";

/// A node that was understood.
#[derive(Clone, Copy)]
pub(crate) struct Delay {
    pub time: Duration,
    pub max_messages: usize,
    pub max_bytes: usize,
}

impl Configured for Delay {
    fn build(&self, site: Site) -> Node {
        let waiting: VecDeque<Waiting> = site.remembered(VERSION).unwrap_or_default();
        let bytes = waiting.iter().map(|waiting| waiting.kept.size_bytes()).sum();
        Node::transform(Delaying { delay: *self, waiting, bytes, voice: site.voice })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        Fields::passing([])
    }

    fn meta(&self) -> Fields {
        Fields::passing([])
    }

    fn topics(&self) -> Topics {
        Topics::Kept
    }
}

struct Delaying {
    delay: Delay,
    /// In the order in which they came, which is that in which they go.
    waiting: VecDeque<Waiting>,
    /// What they take of memory.
    bytes: usize,
    voice: Voice,
}

#[derive(Serialize, Deserialize)]
struct Waiting {
    came: Mark,
    kept: Kept,
}

impl Transform for Delaying {
    fn apply(&mut self, input: Input, out: &mut Emitter) -> anyhow::Result<()> {
        let kept = Kept::of(input.message, out);
        self.bytes += kept.size_bytes();
        self.waiting.push_back(Waiting { came: Mark(out.now().at), kept });
        if self.is_too_much() {
            let Delay { time, max_messages, .. } = self.delay;
            let why = anyhow!(
                "more wait than fit into {max_messages} messages and `max_bytes`, so the oldest are \
                 sent before {time:?} are over"
            );
            self.voice.trouble_lasts(FULL, &why);
        }
        while self.is_too_much() {
            self.send_oldest(out);
        }
        Ok(())
    }

    fn wake_at(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.came.0 + self.delay.time)
    }

    fn wake(&mut self, now: Now, out: &mut Emitter) -> anyhow::Result<()> {
        // As many as one call may send; it is called again for the rest.
        for _ in 0..forebay_sdk::emitter::MOST_EMITTED {
            if self.wake_at().is_none_or(|at| at > now.at) {
                break;
            }
            self.send_oldest(out);
            self.voice.trouble_is_over(FULL);
        }
        Ok(())
    }

    fn save(&self) -> Option<Saved> {
        Saved::of(VERSION, &self.waiting).ok()
    }
}

impl Delaying {
    fn is_too_much(&self) -> bool {
        self.waiting.len() > self.delay.max_messages || self.bytes > self.delay.max_bytes
    }

    fn send_oldest(&mut self, out: &mut Emitter) {
        if let Some(Waiting { kept, .. }) = self.waiting.pop_front() {
            self.bytes = self.bytes.saturating_sub(kept.size_bytes());
            kept.send(Port::MAIN, out);
        }
    }
}
