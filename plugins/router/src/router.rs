//! A router as its settings describe it, and as its nodes see it: they line up, and the owner
//! (`connection.rs`) asks for them one at a time.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use forebay_sdk::{Period, Rate, Secret, connection::Down};
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    action::{Action, Kind},
    group::Group,
    modem::Identifiers,
    place::Place,
    rutos::ActFailure,
};

/// How long a sink waits for the router, which its owner tries again and again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const STOPPED: &str = "the connection was stopped";

/// A router that was understood.
#[derive(Clone, Debug)]
pub struct Router {
    /// None for a machine that is asked by its kernel alone.
    pub place: Option<Place>,
    pub speaks: Speaks,
    pub username: String,
    pub password: Secret,
    pub ca: Option<String>,
    /// Where the root of the machine is mounted.
    pub root: PathBuf,
    pub timeout: Period,
    pub allow: BTreeSet<Kind>,
    /// The most actions.
    pub rate: Rate,
    /// How often the link is looked at, when somebody wants to know of it.
    pub link_every: Period,
}

/// How a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// As it turns out.
    Auto,
    Rutos,
    Ubus,
    Linux,
}

/// A router as its nodes see it.
pub struct SharedRouter {
    pub line: watch::Receiver<Line>,
}

/// Whether questions are answered.
#[derive(Clone)]
pub enum Line {
    /// The owner has not tried yet.
    Opening,
    Serving(mpsc::Sender<Job>),
    /// Why not.
    Down(Arc<str>),
}

/// What a node wants of the owner.
pub enum Job {
    Read {
        groups: Vec<Group>,
        identifiers: Identifiers,
        reply: oneshot::Sender<Result<Map<String, Value>, Arc<str>>>,
    },
    Act {
        action: Action,
        reply: oneshot::Sender<Result<(), ActFailure>>,
    },
}

impl SharedRouter {
    /// Waits until the router answers. After a while it says why it does not.
    pub async fn ready(&self) -> Result<(), Down> {
        let mut line = self.line.clone();
        let served = line.wait_for(|line| matches!(line, Line::Serving(_)));
        match timeout(LONGEST_WAIT, served).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.down()),
        }
    }

    /// Reads groups: a map of those that the router has.
    pub async fn read(
        &self,
        groups: Vec<Group>,
        identifiers: Identifiers,
    ) -> Result<Map<String, Value>, Down> {
        let jobs = self.jobs().await?;
        let (reply, answer) = oneshot::channel();
        let job = Job::Read { groups, identifiers, reply };
        jobs.send(job).await.map_err(|_| self.down())?;
        match answer.await {
            Ok(read) => read.map_err(Down::new),
            Err(_) => Err(self.down()),
        }
    }

    /// Has the router do something. Dropped or stopped meanwhile, nobody knows.
    pub async fn act(&self, action: Action) -> Result<(), ActFailure> {
        let not_done = |down: Down| ActFailure::NotDone(down.into());
        let jobs = self.jobs().await.map_err(not_done)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job::Act { action, reply }).await.map_err(|_| not_done(self.down()))?;
        answer.await.unwrap_or_else(|_| Err(ActFailure::InDoubt(self.down().into())))
    }

    /// The queue, unless the router does not answer.
    async fn jobs(&self) -> Result<mpsc::Sender<Job>, Down> {
        let mut line = self.line.clone();
        let opened = line.wait_for(|line| !matches!(line, Line::Opening));
        let line = match timeout(LONGEST_WAIT, opened).await {
            Ok(Ok(line)) => line.clone(),
            Ok(Err(_)) => return Err(Down::new(STOPPED)),
            Err(_) => Line::Opening,
        };
        match line {
            Line::Serving(jobs) => Ok(jobs),
            line => Err(down(&line)),
        }
    }

    fn down(&self) -> Down {
        down(&self.line.borrow())
    }
}

fn down(line: &Line) -> Down {
    match line {
        Line::Down(why) => Down::new(Arc::clone(why)),
        Line::Opening => Down::new("the router is still being looked for"),
        // Its owner was dropped a moment ago.
        Line::Serving(_) => Down::new(STOPPED),
    }
}
