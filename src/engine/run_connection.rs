//! Keeps a connection up for the nodes that share it.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Configured, Links, Node, Shared, connection::DynConnection};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    backoff::Backoff,
    station::guard,
    status::{State, Status},
};
use crate::config::Name;

/// Saying good-bye may take this long.
const GOOD_BYE: Duration = Duration::from_secs(1);

/// A connection and the task that serves it.
pub struct RunningConnection {
    pub shared: Shared,
    pub status: Arc<Status>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl RunningConnection {
    pub fn start(links: Links, configured: &dyn Configured) -> RunningConnection {
        let name = Arc::clone(&links.name);
        let Node::Connection(shared, connection) = configured.build(links) else {
            unreachable!("a connection type is registered under its own role")
        };
        let status = Arc::new(Status::new());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(connection, name, Arc::clone(&status), stopped));
        RunningConnection { shared, status, stop, task }
    }
}

/// Ends connections; whoever shares them is stopped by now. All are asked before any is waited
/// for, so that none complains of another's end.
pub async fn close(connections: impl IntoIterator<Item = RunningConnection>) {
    let connections: Vec<RunningConnection> = connections.into_iter().collect();
    for connection in &connections {
        let _ = connection.stop.send(true);
    }
    for mut connection in connections {
        let task = &mut connection.task;
        if timeout(GOOD_BYE + GOOD_BYE, &mut *task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn run(
    mut connection: Box<dyn DynConnection>,
    name: Name,
    status: Arc<Status>,
    mut stopped: watch::Receiver<bool>,
) {
    let keep_up = async {
        let mut backoff = Backoff::new();
        let ready = {
            let (name, status) = (Arc::clone(&name), Arc::clone(&status));
            move || status.running(&name)
        };
        loop {
            let error = match guard(connection.run(&ready)).await {
                Ok(Ok(())) => anyhow::anyhow!("the other side closed the connection"),
                Ok(Err(error)) | Err(error) => error,
            };
            if status.state() == State::Running {
                backoff.reset();
            }
            status.waiting(&name, &error);
            backoff.pause().await;
        }
    };
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop) => (),
        () = keep_up => (),
    }
    let _ = timeout(GOOD_BYE, guard(connection.close())).await;
}
