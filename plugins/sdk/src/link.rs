//! How the link to the outside is, as a connection to a router tells it: what conditions on sinks ask.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};

/// What is told of a link, as far as it is known. Numbers are those of the `router` source: dBm, dB, percent, degrees;
/// `today` and `month` are the bytes used in both directions.
pub const NAMES: [&str; 22] = [
    "area",
    "band",
    "cell",
    "connected",
    "ecio",
    "internet",
    "modem",
    "month",
    "operator",
    "quality",
    "registered",
    "roaming",
    "rscp",
    "rsrp",
    "rsrq",
    "rssi",
    "sim",
    "sinr",
    "technology",
    "temperature",
    "today",
    "wan",
];

/// The state of a link, told by one and seen by many. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    state: watch::Sender<Map<String, Value>>,
    watched: Notify,
}

/// What is seen of a link. As long as there is one, somebody looks how the link is.
#[derive(Debug)]
pub struct LinkView {
    seen: watch::Receiver<Map<String, Value>>,
    /// So that the side that tells does not go away.
    _link: Link,
}

impl Link {
    /// Tells how it is now. What is not known is not there.
    pub fn tell(&self, state: Map<String, Value>) {
        self.0.state.send_if_modified(|now| {
            let is_other = *now != state;
            *now = state;
            is_other
        });
    }

    /// Begins to watch it.
    pub fn view(&self) -> LinkView {
        let seen = self.0.state.subscribe();
        self.0.watched.notify_one();
        LinkView { seen, _link: self.clone() }
    }

    /// Whether somebody watches. Where nobody does, nobody needs to look.
    pub fn is_watched(&self) -> bool {
        self.0.state.receiver_count() > 0
    }

    /// Waits until somebody watches.
    pub async fn watched(&self) {
        while !self.is_watched() {
            self.0.watched.notified().await;
        }
    }
}

impl LinkView {
    /// How the link is.
    pub fn now(&mut self) -> Map<String, Value> {
        self.seen.borrow_and_update().clone()
    }

    /// Waits until it is otherwise.
    pub async fn changed(&mut self) {
        let _ = self.seen.changed().await;
    }
}
