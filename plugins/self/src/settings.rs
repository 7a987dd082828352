//! What users write under a `self` source.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Configured, Period, Problem, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{source::Own, summary::Shown};

const SHORTEST: Period = Period(Duration::from_secs(10));
const LONGEST: Period = Period::seconds(366 * 86_400);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelfSettings {
    /// Time from one message to the next when nothing changes, 10s to 366d. A change of what is well, waits or
    /// runs is told within ten seconds.
    #[serde(default = "default_every")]
    every: Period,
    /// Which nodes and connections the message has.
    #[serde(default)]
    nodes: Shown,
    /// Topic of the messages. The node's name when left out.
    #[serde(default)]
    topic: Option<String>,
}

fn default_every() -> Period {
    Period::seconds(300)
}

impl Settings for SelfSettings {
    fn resolve(self, problems: &mut Vec<Problem>) -> Option<impl Configured> {
        let SelfSettings { every, nodes, topic } = self;
        problems.extend(Problem::unless_within("every", &every, SHORTEST..=LONGEST));
        Some(Own { every: every.0, nodes, topic: topic.map(Arc::from) })
    }
}
