//! A router as its settings describe it, and as its nodes see it: they line up, and the owner
//! (`connection.rs`) asks for them one at a time.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use forebay_sdk::{
    Period, Problem, Rate, Secret,
    connection::Down,
    line::{Line, LineOwner, line},
};
use schemars::JsonSchema;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::{
    action::{Action, Kind},
    group::Group,
    modem::Identifiers,
    place::Place,
    rutos::ActFailure,
};

/// How long a sink waits for the router, which its owner tries again and again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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

impl Router {
    /// What is wrong with a setting of a node that has it do something.
    pub fn refuses(&self, setting: &str, action: Kind) -> Option<Problem> {
        if self.allow.contains(&action) {
            return None;
        }
        let name = action.name();
        let message = format!("the connection does not allow `{name}`");
        let label = format!("expected `allow: [{name}]` on the connection");
        let names: Vec<&str> = self.allow.iter().map(|kind| kind.name()).chain([name]).collect();
        let problem = Problem::new(setting, message, label);
        Some(problem.of_connection("allow", format!("[{}]", names.join(", "))))
    }
}

/// How a router is asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ProviderName")]
pub enum Speaks {
    /// As it turns out: RutOS, then ubus, with a `url`; else the kernel.
    #[default]
    Auto,
    /// By the REST interface of RutOS.
    Rutos,
    /// By ubus, as OpenWrt has it over HTTP.
    Ubus,
    /// By what the kernel shows below `/proc` and `/sys`.
    Linux,
}

impl Speaks {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Speaks::Auto => "auto",
            Speaks::Rutos => "rutos",
            Speaks::Ubus => "ubus",
            Speaks::Linux => "linux",
        }
    }
}

/// What a node wants of the owner.
pub enum Job {
    Read {
        groups: Vec<Group>,
        identifiers: Identifiers,
        reply: oneshot::Sender<Result<Map<String, Value>, Down>>,
    },
    /// What one message asks for, in this order.
    Act { actions: Vec<Action>, reply: oneshot::Sender<Result<(), Stopped>> },
}

/// Why not all actions were carried out, and how many were before.
#[derive(Debug)]
pub struct Stopped {
    pub failure: ActFailure,
    pub done: usize,
}

impl From<ActFailure> for Stopped {
    fn from(failure: ActFailure) -> Stopped {
        Stopped { failure, done: 0 }
    }
}

/// A router as its nodes see it.
pub struct SharedRouter(Line<Job>);

impl SharedRouter {
    /// The router, and the end of the line at which its owner serves.
    pub fn new() -> (SharedRouter, LineOwner<Job>) {
        let (line, owner) = line(LONGEST_WAIT);
        (SharedRouter(line), owner)
    }

    /// Waits until the router answers. After a while it says why it does not.
    pub async fn ready(&self) -> Result<(), Down> {
        self.0.ready(LONGEST_WAIT).await
    }

    /// Reads groups: a map of those that the router has.
    pub async fn read(
        &self,
        groups: Vec<Group>,
        identifiers: Identifiers,
    ) -> Result<Map<String, Value>, Down> {
        let job = |reply| Job::Read { groups, identifiers, reply };
        let answer = self.0.enter(job).await?;
        answer.await.unwrap_or_else(|_| Err(self.0.down()))
    }

    /// Has the router do things, one after the other. Dropped or stopped meanwhile, nobody knows.
    pub async fn act(&self, actions: Vec<Action>) -> Result<(), Stopped> {
        let entered = self.0.enter(|reply| Job::Act { actions, reply }).await;
        let answer = entered.map_err(|down| ActFailure::not_done(down.into()))?;
        let in_doubt = || ActFailure::InDoubt(self.0.down().into()).into();
        answer.await.unwrap_or_else(|_| Err(in_doubt()))
    }
}
