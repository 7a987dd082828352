//! Who is let in. Whoever comes is, and when there are too many, another has to leave: so nobody keeps others out by
//! coming often, saying nothing, or taking nothing.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::task::{AbortHandle, JoinSet};

/// So many are there at once.
pub(super) const MOST_GUESTS: usize = 32;
/// So many of them may look on, for as long as they like.
pub(super) const MOST_LOOKING_ON: usize = 12;

/// Those who are there. They end with this.
#[derive(Default)]
pub(super) struct Guests {
    served: JoinSet<()>,
    /// The oldest first.
    there: Vec<Guest>,
}

struct Guest {
    /// None for those of this machine who come by the socket.
    from: Option<IpAddr>,
    progress: Arc<Progress>,
    task: AbortHandle,
}

/// How far a guest has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Has not asked yet.
    Comes,
    /// Is being answered.
    Asked,
    /// Is told what changes.
    LooksOn,
}

/// What a guest has reached, as the task that serves it sees it.
#[derive(Default)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    pub(super) fn reach(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    pub(super) fn is_at(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Relaxed) == stage as u8
    }
}

impl Guests {
    /// Lets one more in.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        from: Option<IpAddr>,
        work: impl FnOnce(Arc<Progress>) -> F,
    ) {
        while self.served.try_join_next().is_some() {}
        self.there.retain(|guest| !guest.task.is_finished());
        if self.there.len() >= MOST_GUESTS
            && let Some(at) = self.leaves()
        {
            self.there.remove(at).task.abort();
        }
        let progress = Arc::default();
        let task = self.served.spawn(work(Arc::clone(&progress)));
        self.there.push(Guest { from, progress, task });
    }

    /// Who has not asked yet leaves before who is being answered; of them the oldest of those who come from where most
    /// do. Who looks on stays.
    fn leaves(&self) -> Option<usize> {
        [Stage::Comes, Stage::Asked].into_iter().find_map(|stage| {
            let at_it = || self.there.iter().enumerate().filter(|(_, it)| it.progress.is_at(stage));
            let like = |guest: &Guest| at_it().filter(|(_, it)| it.from == guest.from).count();
            // Of equals, the last one that it sees.
            at_it().rev().max_by_key(|(_, guest)| like(guest)).map(|(at, _)| at)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_has_another_leave() {
        let mut guests = Guests::default();
        let mut come = |from: [u8; 4], stage| {
            guests.serve(Some(from.into()), |progress| {
                progress.reach(stage);
                pending()
            });
            let there = |from: [u8; 4]| {
                guests.there.iter().filter(|guest| guest.from == Some(from.into())).count()
            };
            (there([10, 0, 0, 1]), there([10, 0, 0, 2]), there([10, 0, 0, 3]))
        };
        for _ in 0..MOST_LOOKING_ON {
            come([10, 0, 0, 1], Stage::LooksOn);
        }
        assert_eq!(come([10, 0, 0, 2], Stage::Comes), (MOST_LOOKING_ON, 1, 0));
        // A flood of one address throws out itself.
        let left = MOST_GUESTS - MOST_LOOKING_ON - 1;
        for _ in 0..500 {
            come([10, 0, 0, 3], Stage::Comes);
        }
        assert_eq!(come([10, 0, 0, 3], Stage::Asked), (MOST_LOOKING_ON, 1, left));
        for _ in 0..500 {
            come([10, 0, 0, 3], Stage::Asked);
        }
        assert_eq!(come([10, 0, 0, 2], Stage::Asked), (MOST_LOOKING_ON, 1, left));
    }
}
