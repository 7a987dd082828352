//! What users write under a `timer` source.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Configured, Period, Problem, Settings, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::Timer;

/// Faster than this a pipeline does nothing but tick.
const SHORTEST: Period = Period(Duration::from_millis(10));
/// The clock behind a timer cannot count much further.
const LONGEST: Period = Period::seconds(366 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimerSettings {
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
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let TimerSettings { every, topic, payload } = self;
        problems.extend(Problem::unless_within("every", &every, SHORTEST..=LONGEST));
        Some(Timer { every: every.0, topic: topic.map(Arc::from), payload })
    }
}
