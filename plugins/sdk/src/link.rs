//! How the link to the outside is, as a connection to a router tells it: what conditions on sinks ask.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

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

/// The links of a site, by the names of the connections that tell them. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Mutex<BTreeMap<Arc<str>, Link>>>);

impl Links {
    /// The link that a connection tells, or will tell once it is there.
    pub fn of(&self, connection: &str) -> Link {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match links.get(connection) {
            Some(link) => link.clone(),
            None => links.entry(connection.into()).or_default().clone(),
        }
    }
}

/// The state of a link, told by one and seen by many. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Link(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    state: watch::Sender<State>,
    watched: Notify,
}

/// How it is, and until when that is true.
#[derive(Debug, Default)]
struct State {
    is: Map<String, Value>,
    until: Option<Instant>,
}

impl State {
    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }
}

/// What is seen of a link. As long as there is one, somebody looks how the link is.
#[derive(Debug)]
pub struct LinkView {
    seen: watch::Receiver<State>,
    /// So that the side that tells does not go away.
    _link: Link,
}

impl Link {
    /// Tells how it is now. What is not known is not there; and nothing is when it was not told again for so long.
    pub fn tell(&self, is: Map<String, Value>, lasts: Duration) {
        self.0.state.send_if_modified(|now| {
            let is_other = now.is != is || now.is_over();
            *now = State { is, until: Some(Instant::now() + lasts) };
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
        let state = self.seen.borrow_and_update();
        if state.is_over() { Map::new() } else { state.is.clone() }
    }

    /// Waits until it is otherwise.
    pub async fn changed(&mut self) {
        let until = {
            let state = self.seen.borrow();
            state.until.filter(|_| !state.is_over())
        };
        let over = async {
            let Some(mut until) = until else { return pending().await };
            loop {
                sleep_until(until).await;
                // It may have been told again, as it was.
                match self.seen.clone().borrow().until {
                    Some(later) if later > until => until = later,
                    _ => return,
                }
            }
        };
        let mut seen = self.seen.clone();
        tokio::select! {
            biased;
            _ = seen.changed() => (),
            () = over => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::{sleep, timeout};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_again_is_not_known_for_ever() {
        let link = Link::default();
        let mut view = link.view();
        let roams = || json!({ "roaming": true }).as_object().cloned().unwrap_or_default();
        assert_eq!(view.now(), Map::new());
        link.tell(roams(), MINUTE);
        view.changed().await;
        assert_eq!(view.now(), roams());
        // Told again, it lasts for longer, and nobody is woken for that.
        sleep(MINUTE / 2).await;
        link.tell(roams(), MINUTE);
        assert!(timeout(MINUTE - Duration::from_secs(1), view.changed()).await.is_err());
        let began = Instant::now();
        view.changed().await;
        assert_eq!((view.now(), began.elapsed()), (Map::new(), Duration::from_secs(1)));
        // And it is news once it is known again.
        assert!(timeout(MINUTE, view.changed()).await.is_err());
        link.tell(roams(), MINUTE);
        assert!(timeout(MINUTE, view.changed()).await.is_ok());
        assert_eq!(view.now(), roams());
    }
}
