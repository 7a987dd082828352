//! A script that runs at each beat of a clock.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Beat, Capabilities, Configured, Coverage, Figure, Message, Node, Outlet, Saved, Site, Source,
    Value, Voice, WriteError,
};
use tokio::time::Instant;

use crate::{
    asking::{Asking, Permission},
    transform::Program,
};

/// A source before it runs.
pub(crate) struct BeatingType {
    pub program: Arc<Program>,
    pub every: Duration,
    pub permission: Permission,
}

struct Beating {
    name: Arc<str>,
    asking: Asking,
    every: Duration,
    voice: Voice,
    /// Until then whom it asked wants to be left alone.
    quiet_until: Instant,
}

impl Configured for BeatingType {
    fn build(&self, site: Site) -> Node {
        let asking = Asking::new(Arc::clone(&self.program), self.permission.clone(), &site);
        let (name, voice) = (site.name, site.voice);
        let quiet_until = Instant::now();
        Node::source(Beating { name, asking, every: self.every, voice, quiet_until })
    }

    fn capabilities(&self) -> Capabilities {
        let is_inward = self.permission.places.is_empty();
        Capabilities { is_inward, ..Capabilities::default() }
    }

    fn reaches(&self) -> Vec<String> {
        self.permission.reaches()
    }

    fn noting(&self) -> Option<(Arc<dyn Configured>, Arc<Coverage>)> {
        let (program, coverage) = self.program.noting();
        let permission = self.permission.clone();
        Some((Arc::new(BeatingType { program, every: self.every, permission }), coverage))
    }

    fn outputs(&self) -> Vec<String> {
        self.program.outputs().to_vec()
    }
}

impl Source for Beating {
    async fn run(&mut self, out: &Outlet) -> anyhow::Result<()> {
        let mut beat = Beat::every(self.every);
        loop {
            let skipped = beat.next().await;
            self.voice.count(Figure::Overruns, skipped);
            if Instant::now() < self.quiet_until {
                continue;
            }
            let begun = Message::new(Arc::clone(&self.name), Value::Object(Default::default()));
            match self.asking.run(&begun).await {
                Ok(made) => {
                    out.ready();
                    // In one step with what the script remembers of them.
                    out.send_all(made).await;
                }
                Err(error) => {
                    let (error, after) = said(error);
                    self.quiet_until = Instant::now() + after.unwrap_or_default();
                    out.error(&error, None).await;
                }
            }
        }
    }

    fn save(&mut self) -> Option<Saved> {
        self.asking.save()
    }
}

/// What went wrong, and how long to keep quiet.
fn said(error: WriteError) -> (anyhow::Error, Option<Duration>) {
    match error {
        WriteError::Retry { error, after, .. } => (error, after),
        WriteError::Reject(error) | WriteError::InDoubt(error) => (error, None),
        WriteError::RejectSome { refused, .. } => {
            let first = refused.into_iter().next().map(|(_, error)| error);
            (first.unwrap_or_else(|| anyhow::anyhow!("it was refused")), None)
        }
    }
}
