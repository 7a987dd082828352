//! Keeps a connection up for the nodes that share it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::{Configured, Node, Shared, Site, Voice, World, connection::DynConnection};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{
    backoff::Backoff,
    post::{guard, guard_call},
    status::{State, Status},
};
use crate::config::Name;

/// Saying good-bye may take this long.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// A connection and the task that serves it.
pub struct RunningConnection {
    /// None when it could not be made.
    pub shared: Option<Shared>,
    pub status: Arc<Status>,
    /// Goes on from one life to the next: a connection that panics at once must not do so all day.
    pub backoff: Arc<Mutex<Backoff>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// Connections that panicked and are to be made anew, with all that use them.
#[derive(Default)]
pub struct Damaged {
    names: Mutex<BTreeSet<Name>>,
    told: Notify,
}

/// What must have said good-bye before others begin, which may hold the same port or client id.
pub type Farewell = watch::Receiver<bool>;

impl Damaged {
    fn add(&self, name: Name) {
        self.names().insert(name);
        self.told.notify_one();
    }

    /// Resolves when there is one. Dropping the future loses nothing.
    pub async fn next(&self) -> Name {
        loop {
            let first = self.names().first().cloned();
            if let Some(name) = first {
                return name;
            }
            self.told.notified().await;
        }
    }

    /// It is being made anew, or is gone.
    pub fn remove(&self, name: &str) {
        self.names().remove(name);
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a connection is to run.
pub struct Place {
    pub site: Site,
    pub status: Arc<Status>,
    /// It begins once those that go have said good-bye.
    pub farewell: Farewell,
    pub damaged: Arc<Damaged>,
    /// That of the one that panicked and that it takes the place of.
    pub backoff: Arc<Mutex<Backoff>>,
}

impl RunningConnection {
    /// Makes a connection and serves it.
    pub fn start(configured: &dyn Configured, place: Place) -> RunningConnection {
        let Place { site, status, farewell, damaged, backoff } = place;
        let (stop, stopped) = watch::channel(false);
        let (name, world, voice) = (Arc::clone(&site.name), site.world.clone(), site.voice.clone());
        let (shared, task) = match guard_call(|| configured.build(site)) {
            Ok(Node::Connection(shared, connection)) => {
                let (status, backoff) = (Arc::clone(&status), Arc::clone(&backoff));
                let run = Run { connection, name, world, voice, status, backoff, damaged };
                (Some(shared), Some(tokio::spawn(run.serve(farewell, stopped))))
            }
            Ok(_) => unreachable!("a connection type is registered under its own role"),
            Err(panic) => {
                status.broken(&panic);
                (None, None)
            }
        };
        RunningConnection { shared, status, backoff, stop, task }
    }
}

/// Nobody has to say good-bye.
pub fn nothing_to_say() -> Farewell {
    watch::channel(true).1
}

/// Ends connections, in a task of its own; whoever shares them is stopped by now. All are asked before
/// any is waited for, so that none complains of another's end. Those that were asked `before` come
/// first.
pub fn close(
    connections: impl IntoIterator<Item = RunningConnection>,
    before: &Farewell,
) -> Farewell {
    let connections: Vec<RunningConnection> = connections.into_iter().collect();
    if connections.is_empty() {
        return before.clone();
    }
    for connection in &connections {
        connection.stop.send_replace(true);
    }
    let ((done, farewell), before) = (watch::channel(false), before.clone());
    tokio::spawn(async move {
        for mut task in connections.into_iter().filter_map(|connection| connection.task) {
            if timeout(GOOD_BYE + GOOD_BYE, &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
            }
        }
        said(before).await;
        done.send_replace(true);
    });
    farewell
}

/// Resolves when all have said good-bye.
pub async fn said(mut farewell: Farewell) {
    // The other end is dropped without a word only when the program ends.
    let _ = farewell.wait_for(|done| *done).await;
}

/// A connection that runs.
struct Run {
    connection: Box<dyn DynConnection>,
    name: Name,
    world: World,
    voice: Voice,
    status: Arc<Status>,
    backoff: Arc<Mutex<Backoff>>,
    damaged: Arc<Damaged>,
}

impl Run {
    async fn serve(mut self, farewell: Farewell, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => (),
            () = async { said(farewell).await; self.keep_up().await } => (),
        }
        let _ = timeout(GOOD_BYE, guard(self.connection.close())).await;
    }

    /// Never returns.
    async fn keep_up(&mut self) {
        loop {
            let (error, panicked) = match guard(self.connection.run(&self.voice)).await {
                Ok(Ok(())) => (anyhow::anyhow!("the other side closed the connection"), false),
                Ok(Err(error)) => (error, false),
                Err(panic) => (panic, true),
            };
            if self.status.state() == State::Running && !panicked {
                self.backoff().reset();
            }
            self.status.waiting(&error);
            let mut backoff = self.backoff().clone();
            let pause = backoff.pause(&self.world);
            pause.await;
            *self.backoff() = backoff;
            if panicked {
                // Half changed, as it is, it must not run again. Nor may those that share it go on.
                self.damaged.add(Arc::clone(&self.name));
                std::future::pending::<()>().await;
            }
        }
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
