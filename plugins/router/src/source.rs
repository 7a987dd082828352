//! Reads groups of a router, each at its own beat, and sends what is due together as one message.

use std::{any::Any, collections::BTreeSet, sync::Arc};

use anyhow::Context;
use forebay_sdk::{
    Configured, Fields, Figure, Message, Node, Outlet, Period, Problem, Sends, Site, Source, Voice,
};
use tokio::time::{Instant, sleep_until};

use crate::{
    deadband::{Deadbands, SentBefore},
    group::Group,
    modem::Identifiers,
    router::{Router, SharedRouter, Speaks},
};

/// A source that was understood.
pub struct RouterSource {
    pub asked: Vec<Asked>,
    pub identifiers: Identifiers,
    pub deadbands: Deadbands,
    /// None for the name of the node.
    pub topic: Option<Arc<str>>,
}

/// A group, and how often it is read.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub group: Group,
    pub every: Period,
}

impl Configured for RouterSource {
    fn build(&self, site: Site) -> Node {
        Node::source(Reading {
            router: site.connection(),
            asked: self.asked.clone(),
            identifiers: self.identifiers,
            deadbands: self.deadbands.clone(),
            topic: self.topic.clone().unwrap_or(site.name),
            voice: site.voice,
        })
    }

    fn fields(&self) -> Fields {
        let names: BTreeSet<String> =
            self.asked.iter().map(|asked| asked.group.name().to_owned()).collect();
        Fields { reads: Vec::new(), sends: Sends::Only(names) }
    }

    fn check_on(&self, connection: &dyn Any) -> Vec<Problem> {
        const HIDDEN: [Group; 3] = [Group::Gps, Group::Io, Group::Pulses];
        let Some(router) = connection.downcast_ref::<Router>() else { return Vec::new() };
        let asks_kernel = router.speaks == Speaks::Linux || router.place.is_none();
        let of = |(at, asked): (usize, &Asked)| {
            let name = asked.group.name();
            let message = format!("the kernel knows nothing of `{name}`");
            let label = "expected a connection to a router, with a `url`";
            Problem::new(format!("groups[{at}]"), message, label)
        };
        let hidden = self.asked.iter().enumerate().filter(|(_, it)| HIDDEN.contains(&it.group));
        if asks_kernel { hidden.map(of).collect() } else { Vec::new() }
    }
}

struct Reading {
    /// None when the connection is something else.
    router: Option<Arc<SharedRouter>>,
    asked: Vec<Asked>,
    identifiers: Identifiers,
    deadbands: Deadbands,
    topic: Arc<str>,
    voice: Voice,
}

impl Source for Reading {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let router = self.router.clone().context("using the connection: it is no router")?;
        let mut sent = SentBefore::default();
        let mut due = vec![Instant::now(); self.asked.len()];
        loop {
            let Some(next) = due.iter().min().copied() else { return Ok(()) };
            sleep_until(next).await;
            let groups = self.turn(&mut due);
            match router.read(groups, self.identifiers).await {
                Ok(read) => {
                    out.ready();
                    let read = sent.thin(read, &self.deadbands);
                    if !read.is_empty() {
                        out.send(Message::new(
                            Arc::clone(&self.topic),
                            serde_json::Value::from(read),
                        ))
                        .await;
                    }
                }
                Err(down) => out.error(&down.into(), None).await,
            }
        }
    }
}

impl Reading {
    /// The groups whose time has come, and when it comes next. What was missed is not made up for.
    fn turn(&self, due: &mut [Instant]) -> Vec<Group> {
        let now = Instant::now();
        let mut groups = Vec::new();
        for (asked, due) in self.asked.iter().zip(due).filter(|(_, due)| **due <= now) {
            let missed = (now - *due).as_nanos() / asked.every.as_nanos();
            self.voice.count(Figure::Overruns, u64::try_from(missed).unwrap_or(u64::MAX));
            let beats = u32::try_from(missed + 1).unwrap_or(u32::MAX);
            *due += *asked.every * beats;
            groups.push(asked.group);
        }
        groups
    }
}
