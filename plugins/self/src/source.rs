//! The running source.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Beat, Capabilities, Configured, Fields, Message, Node, Outlet, Sends, Site, Source, World,
};
use tokio::time::Instant;

use crate::summary::{self, Shown, Standing, Status};

/// A `self` source that was understood.
pub(crate) struct Own {
    pub every: Duration,
    pub nodes: Shown,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
}

impl Configured for Own {
    fn build(&self, site: Site) -> Node {
        Node::source(Looking {
            every: self.every,
            nodes: self.nodes,
            topic: self.topic.clone().unwrap_or(site.name),
            world: site.world,
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { errors: false, ..Capabilities::default() }
    }

    fn fields(&self) -> Fields {
        let names = summary::NAMES.iter().map(|name| (*name).to_owned());
        Fields { reads: Vec::new(), sends: Sends::Only(names.collect()) }
    }
}

struct Looking {
    every: Duration,
    nodes: Shown,
    topic: Arc<str>,
    world: World,
}

/// How often it looks whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Source for Looking {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let mut looks = Beat::every(LOOK_EVERY);
        let mut told: Option<(Instant, Standing)> = None;
        out.ready();
        loop {
            looks.next().await;
            // None while it begins or ends.
            let Some(status) = self.world.program_status().await else { continue };
            let status: Status = serde_json::from_value(status)?;
            let (now, standing) = (Instant::now(), status.standing());
            let is_due = told.as_ref().is_none_or(|(at, before)| {
                // A look that comes a little early is the one that is meant.
                now + LOOK_EVERY / 2 >= *at + self.every || *before != standing
            });
            if is_due {
                told = Some((now, standing));
                let payload = status.summary(self.nodes);
                out.send(Message::new(Arc::clone(&self.topic), payload)).await;
            }
        }
    }
}
