//! How nodes that share a connection ask its owner, who alone talks to the other side and serves one of them
//! after the other.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::connection::Down;

/// Jobs that wait for the owner to take them. A node has two under way at most, so this is no limit that anybody
/// sees.
const QUEUE_JOBS: usize = 16;
const STOPPED: &str = "the connection was stopped";

/// The end of the nodes.
pub struct Line<J> {
    state: watch::Receiver<State<J>>,
    /// How long to wait for the owner to open the connection for the first time.
    opening: Duration,
}

/// The end of the owner. Dropped, nobody is served any more.
pub struct LineOwner<J>(watch::Sender<State<J>>);

/// The jobs of a connection that is open. Dropped, it is not open any more.
pub struct Jobs<J> {
    queue: mpsc::Receiver<J>,
    line: watch::Sender<State<J>>,
}

/// Whether jobs are taken.
enum State<J> {
    /// The owner has not tried yet.
    Opening,
    Serving(mpsc::Sender<J>),
    /// Why not.
    Down(Arc<str>),
}

/// Both ends. Until the owner has said how it is, nodes wait for it, for `opening` at most.
pub fn line<J>(opening: Duration) -> (Line<J>, LineOwner<J>) {
    let (owner, state) = watch::channel(State::Opening);
    (Line { state, opening }, LineOwner(owner))
}

impl<J> Line<J> {
    /// Waits until jobs are taken. After `longest` it says why they are not.
    ///
    /// # Errors
    ///
    /// What the owner said last.
    pub async fn ready(&self, longest: Duration) -> Result<(), Down> {
        let mut state = self.state.clone();
        let served = state.wait_for(|state| matches!(state, State::Serving(_)));
        match timeout(longest, served).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.down()),
        }
    }

    /// Lines up with a job, made of where its answer goes. The answer fails when the owner stops, however it does;
    /// [`Line::down`] says why then.
    ///
    /// # Errors
    ///
    /// When no jobs are taken. Nobody has seen this one.
    pub async fn enter<R>(
        &self,
        job: impl FnOnce(oneshot::Sender<R>) -> J,
    ) -> Result<oneshot::Receiver<R>, Down> {
        let jobs = self.jobs().await?;
        let (reply, answer) = oneshot::channel();
        match jobs.send(job(reply)).await {
            Ok(()) => Ok(answer),
            Err(_) => Err(self.down()),
        }
    }

    /// Why no jobs are taken.
    pub fn down(&self) -> Down {
        match &*self.state.borrow() {
            State::Down(why) => Down::new(Arc::clone(why)),
            State::Opening => Down::new("the connection is still being opened"),
            // It ended a moment ago.
            State::Serving(_) => Down::new(STOPPED),
        }
    }

    async fn jobs(&self) -> Result<mpsc::Sender<J>, Down> {
        if let State::Serving(jobs) = &*self.state.borrow() {
            return Ok(jobs.clone());
        }
        let mut state = self.state.clone();
        let opened = state.wait_for(|state| !matches!(state, State::Opening));
        if let Ok(Ok(state)) = timeout(self.opening, opened).await
            && let State::Serving(jobs) = &*state
        {
            return Ok(jobs.clone());
        }
        Err(self.down())
    }
}

impl<J> LineOwner<J> {
    /// The connection is open: jobs are taken from now on.
    pub fn serve(&self) -> Jobs<J> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
        self.0.send_replace(State::Serving(jobs));
        Jobs { queue, line: self.0.clone() }
    }

    /// It is not. Whoever waits learns why.
    pub fn down(&self, why: impl Into<Arc<str>>) {
        self.0.send_replace(State::Down(why.into()));
    }
}

impl<J> Drop for LineOwner<J> {
    fn drop(&mut self) {
        self.down(STOPPED);
    }
}

impl<J> Jobs<J> {
    /// Waits for the next one.
    pub async fn next(&mut self) -> J {
        match self.queue.recv().await {
            Some(job) => job,
            // The line holds a sender, so this does not end.
            None => pending().await,
        }
    }

    /// The next one that waits, if one does.
    pub fn next_waiting(&mut self) -> Option<J> {
        self.queue.try_recv().ok()
    }
}

impl<J> Drop for Jobs<J> {
    fn drop(&mut self) {
        self.line.send_if_modified(|state| {
            let is_served = matches!(state, State::Serving(_));
            if is_served {
                *state = State::Down(STOPPED.into());
            }
            is_served
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::{spawn, time::Instant};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    type Job = (u32, oneshot::Sender<u32>);

    async fn double(line: &Line<Job>, number: u32) -> Result<u32, String> {
        let words = |down: Down| down.to_string();
        let answer = line.enter(|reply| (number, reply)).await.map_err(words)?;
        answer.await.map_err(|_| words(line.down()))
    }

    /// Answers so many, and then drops the next one and ends.
    async fn serve(mut jobs: Jobs<Job>, count: u32) {
        for _ in 0..count {
            let (number, reply) = jobs.next().await;
            let _ = reply.send(number * 2);
        }
        jobs.next().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_early_waits_for_the_owner_and_not_for_ever() {
        let (line, owner) = line(MINUTE);
        let began = Instant::now();
        let words = double(&line, 1).await.unwrap_err();
        assert_eq!((began.elapsed(), &*words), (MINUTE, "the connection is still being opened"));
        let server = spawn(async move {
            tokio::time::sleep(MINUTE / 2).await;
            serve(owner.serve(), 2).await;
            owner
        });
        assert_eq!(line.ready(MINUTE).await.map_err(|down| down.to_string()), Ok(()));
        assert_eq!(double(&line, 1).await, Ok(2));
        assert_eq!(double(&line, 2).await, Ok(4));
        // It is seen, and never answered.
        assert_eq!(double(&line, 3).await, Err(STOPPED.to_owned()));
        let owner = server.await.unwrap();
        assert_eq!(double(&line, 4).await, Err(STOPPED.to_owned()));
        owner.down("no route");
        let began = Instant::now();
        assert_eq!(double(&line, 5).await, Err("no route".to_owned()));
        assert_eq!(began.elapsed(), Duration::ZERO, "it is known already");
        let not_ready = line.ready(MINUTE).await.map_err(|down| down.to_string());
        assert_eq!((not_ready, began.elapsed()), (Err("no route".to_owned()), MINUTE));
        drop(owner);
        assert_eq!(double(&line, 6).await, Err(STOPPED.to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_serves_no_more_is_not_ready() {
        let (line, owner) = line::<Job>(MINUTE);
        drop(owner.serve());
        assert!(line.ready(MINUTE).await.is_err());
    }
}
