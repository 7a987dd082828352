//! The `timer` source: a message at each beat of the clock. It tries out a pipeline before the
//! devices are there, and starts what is to happen now and again.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Capabilities, Fields, Links, Message, Native, Node, Outlet, Period, Plugin, Problem, Role,
    Sends, Settings, Source, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

/// What this folder offers.
pub static PLUGIN: Plugin = Plugin {
    name: "timer",
    types: &[&TIMER],
    readme: include_str!("../README.md"),
    sample: include_str!("../sample.yaml"),
    devices: &[],
};

static TIMER: Native<TimerSettings> =
    Native::new(Role::Source, "timer", "Sends a message at regular intervals.");

/// Faster than this a pipeline does nothing but tick.
const SHORTEST: Duration = Duration::from_millis(10);
/// The clock behind a timer cannot count much further.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TimerSettings {
    /// Time from one message to the next, such as `500ms`, `5s` or `1h`: 10ms to 366d. The first
    /// message is sent at once.
    every: Period,
    /// Topic of the messages. The node's name, as in `boiler-room/heartbeat`, when left out.
    #[serde(default)]
    topic: Option<String>,
    /// Payload of each message: any text, number, list or map. `{count: N}` when left out, where N
    /// counts the messages from 1.
    #[serde(default)]
    payload: Option<Value>,
}

impl Settings for TimerSettings {
    fn check(&self) -> Vec<Problem> {
        if (SHORTEST..=LONGEST).contains(&self.every.0) {
            return Vec::new();
        }
        let message = "`every` is out of range";
        let label = format!("expected 10ms to 366d, found {}", self.every);
        vec![Problem::new("every", message, label)]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        let sends = match &self.payload {
            None => Sends::Only(["count".to_owned()].into()),
            Some(Value::Object(fields)) => Sends::Only(fields.keys().cloned().collect()),
            Some(_) => Sends::Unknown,
        };
        Fields { reads: Vec::new(), sends }
    }

    fn build(self, links: Links) -> Node {
        Node::source(Timer {
            every: self.every.0.clamp(SHORTEST, LONGEST),
            topic: self.topic.map_or(links.name, Arc::from),
            payload: self.payload,
            count: 0,
        })
    }
}

struct Timer {
    every: Duration,
    topic: Arc<str>,
    /// None to count.
    payload: Option<Value>,
    count: u64,
}

impl Source for Timer {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let mut beat = interval(self.every);
        // A beat that nobody had room for is over: sending several at once would help nobody.
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        out.ready();
        loop {
            beat.tick().await;
            self.count += 1;
            let payload = self.payload.clone().unwrap_or_else(|| json!({ "count": self.count }));
            out.send(Message::new(Arc::clone(&self.topic), payload)).await;
        }
    }
}
