//! The running timer.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Beat, Capabilities, Configured, Fields, Figure, Message, Node, Outlet, Payload, Sends, Site,
    Source, Value, Voice,
};
use serde_json::json;

/// A timer that was understood.
pub(crate) struct Timer {
    pub every: Duration,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
    /// None to count.
    pub payload: Option<Value>,
}

impl Configured for Timer {
    fn build(&self, site: Site) -> Node {
        Node::source(Ticking {
            every: self.every,
            topic: self.topic.clone().unwrap_or(site.name),
            payload: self.payload.clone().map(Payload::from),
            count: 0,
            voice: site.voice,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, is_inward: true, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        let sends = match &self.payload {
            None => Sends::Only(["count".to_owned()].into()),
            Some(Value::Object(fields)) => Sends::Only(fields.keys().cloned().collect()),
            Some(_) => Sends::Unknown,
        };
        Fields { reads: Vec::new(), sends }
    }
}

struct Ticking {
    every: Duration,
    topic: Arc<str>,
    /// None to count. All messages share it.
    payload: Option<Payload>,
    count: u64,
    voice: Voice,
}

impl Source for Ticking {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        // A beat that nobody had room for is over: sending several at once would help nobody.
        let mut beat = Beat::every(self.every);
        out.ready();
        loop {
            let skipped = beat.next().await;
            self.voice.count(Figure::Overruns, skipped);
            self.count += 1;
            let count = || json!({ "count": self.count }).into();
            let payload = self.payload.clone().unwrap_or_else(count);
            out.send(Message::new(Arc::clone(&self.topic), payload)).await;
        }
    }
}
