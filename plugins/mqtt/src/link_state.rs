//! A source that says whether its connection is there.

use std::sync::Arc;

use anyhow::Context;
use forebay_sdk::{
    Configured, Fields, Format, Message, Node, Outlet, Payload, Sends, Site, Source, mqtt::Broker,
};
use futures_util::FutureExt;
use serde_json::json;

/// As its settings were understood.
#[derive(Clone, Debug)]
pub struct LinkState {
    pub topic: Arc<str>,
    /// What is said when it is there,
    pub up: String,
    /// and when it is not.
    pub down: String,
}

impl Configured for LinkState {
    fn build(&self, site: Site) -> Node {
        Node::source(Watching { says: self.clone(), broker: site.connection() })
    }

    fn meta(&self) -> Fields {
        Fields { reads: Vec::new(), sends: Sends::Only(["mqtt".to_owned()].into()) }
    }
}

struct Watching {
    says: LinkState,
    /// None when the connection is of a type that MQTT does not go over.
    broker: Option<Arc<Broker>>,
}

impl Source for Watching {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let broker =
            self.broker.as_deref().context("the connection is not one that MQTT goes over")?;
        out.ready();
        let mut is_up = broker.0.turned(false).now_or_never().unwrap_or(false);
        loop {
            out.send(self.says.message(is_up)).await;
            is_up = broker.0.turned(is_up).await;
        }
    }
}

impl LinkState {
    /// To be kept by a broker, when a sink publishes it as it is.
    fn message(&self, is_up: bool) -> Message {
        let text = if is_up { &self.up } else { &self.down };
        let payload = Payload::encoded(text.clone().into_bytes(), Format::Text);
        let mut message = Message::new(Arc::clone(&self.topic), payload);
        message.meta.insert("mqtt", json!({ "qos": 1, "retain": true }));
        message
    }
}
