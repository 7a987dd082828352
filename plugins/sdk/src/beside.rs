//! Work that may take long, such as that of a disk: it is done on a thread beside the nodes, which all
//! share one.
//!
//! Which of two threads is done first is chance. So a world in memory has such work [`at_once`], and a run there is
//! the same each time.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Begins work on a thread beside the nodes. Dropping what it gives does not end the work.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Beside<T> {
    match AT_ONCE.get() {
        true => Beside::Done(Some(work())),
        false => Beside::Begun(spawn_blocking(work)),
    }
}

/// Has this thread do such work itself, until the guard is dropped.
pub fn at_once() -> AtOnce {
    AtOnce(AT_ONCE.replace(true))
}

/// Puts back how it was before.
#[must_use = "dropping it puts back how it was before"]
pub struct AtOnce(bool);

impl Drop for AtOnce {
    fn drop(&mut self) {
        AT_ONCE.set(self.0);
    }
}

/// Resolves with what came of the work, or says that it panicked.
pub enum Beside<T> {
    /// It is done, and was not asked for.
    Done(Option<T>),
    /// Another thread does it.
    Begun(JoinHandle<T>),
}

// Nothing in it is pinned.
impl<T> Unpin for Beside<T> {}

impl<T> Future for Beside<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Beside::Done(done) => Poll::Ready(Ok(done.take().expect("asked for once"))),
            Beside::Begun(handle) => Pin::new(handle).poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_beside_the_nodes_unless_a_world_wants_it_at_once() {
        let here = std::thread::current().id();
        let there = || std::thread::current().id();
        assert_ne!(beside(there).await.unwrap(), here);
        let guard = at_once();
        assert_eq!(beside(there).await.unwrap(), here);
        drop(guard);
        assert_ne!(beside(there).await.unwrap(), here);
    }
}
