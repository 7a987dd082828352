//! Keeps a connection up for the nodes that share it.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use forebay_sdk::{
    Configured, Figure, Node, Shared, Site, Voice, World,
    connection::{DynConnection, Refused},
    voice::Hears,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    backoff::{Backoff, GOOD_AFTER},
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
        let Place { mut site, status, farewell, damaged, backoff } = place;
        backoff.lock().unwrap_or_else(PoisonError::into_inner).aim(configured.capabilities());
        let trial = Arc::new(Trial::new(Arc::clone(&status)));
        site.voice = Voice::new(Arc::clone(&trial) as Arc<dyn Hears>);
        let (stop, stopped) = watch::channel(false);
        let (name, world, voice) = (Arc::clone(&site.name), site.world.clone(), site.voice.clone());
        let (shared, task) = match guard_call(|| configured.build(site)) {
            Ok(Node::Connection(shared, connection)) => {
                let backoff = Arc::clone(&backoff);
                let run = Run { connection, name, world, voice, trial, backoff, damaged };
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

impl RunningConnection {
    /// Ends it as it stands, without a good-bye.
    pub async fn kill(self) {
        if let Some(task) = self.task {
            task.abort();
            let _ = task.await;
        }
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
    trial: Arc<Trial>,
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
            self.trial.begin();
            let (error, panicked) = match self.run_once().await {
                Ok(Ok(())) => (anyhow::anyhow!("the other side closed the connection"), false),
                Ok(Err(error)) => (error, false),
                Err(panic) => (panic, true),
            };
            if self.trial.is_good() && !panicked && !error.is::<Refused>() {
                self.backoff().reset();
            }
            self.trial.status.waiting(&error);
            let mut backoff = self.backoff().clone();
            backoff.pause(&error, &self.world).await;
            *self.backoff() = backoff;
            if panicked {
                // Half changed, as it is, it must not run again. Nor may those that share it go on.
                self.damaged.add(Arc::clone(&self.name));
                std::future::pending::<()>().await;
            }
        }
    }

    /// Runs until the connection ends, and sees whether it lasts.
    async fn run_once(&mut self) -> anyhow::Result<anyhow::Result<()>> {
        let trial = &self.trial;
        let mut run = pin!(guard(self.connection.run(&self.voice)));
        tokio::select! {
            biased;
            ended = &mut run => return ended,
            () = trial.lasts() => trial.works(),
        }
        run.await
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears how a connection is, and takes it for good once something got through, or it lasted. Until
/// then no trouble is over: an other side that lets everybody in and hangs up on the first word would
/// be called twice a second for ever.
struct Trial {
    status: Arc<Status>,
    is_good: AtomicBool,
    ready_at: watch::Sender<Option<Instant>>,
}

impl Trial {
    fn new(status: Arc<Status>) -> Trial {
        Trial { status, is_good: AtomicBool::new(false), ready_at: watch::Sender::default() }
    }

    /// Another attempt.
    fn begin(&self) {
        self.is_good.store(false, Ordering::Relaxed);
        self.ready_at.send_replace(None);
    }

    fn is_good(&self) -> bool {
        self.is_good.load(Ordering::Relaxed)
    }

    /// Resolves when the other side has been there for long enough.
    async fn lasts(&self) {
        let mut ready_at = self.ready_at.subscribe();
        if let Ok(Some(since)) = ready_at.wait_for(Option::is_some).await.map(|since| *since) {
            sleep_until(since + GOOD_AFTER).await;
        }
    }
}

impl Hears for Trial {
    fn ready(&self) {
        self.ready_at.send_replace(Some(Instant::now()));
        // There is no trouble yet that this could be the end of.
        if self.status.state() == State::Starting {
            self.status.running();
        }
    }

    fn works(&self) {
        if !self.is_good.swap(true, Ordering::Relaxed) {
            self.status.running();
        }
    }

    fn trouble(&self, error: &anyhow::Error) {
        self.status.trouble(error);
    }

    fn trouble_lasts(&self, what: &str, why: &anyhow::Error) {
        self.status.trouble_lasts(what, why);
    }

    fn trouble_is_over(&self, what: &str) {
        self.status.trouble_is_over(what);
    }

    fn count(&self, figure: Figure, by: u64) {
        self.status.count(figure, by);
    }

    fn dropped(&self, by: u64, why: &str) {
        self.status.dropped(by, why);
    }

    fn busy(&self, share: f64) {
        Hears::busy(&*self.status, share);
    }
}
