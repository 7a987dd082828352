//! Our part of a session that the broker keeps: which messages of QoS 2 are under way. The next
//! connection goes on with them under their packet ids, so that none comes twice.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forebay_sdk::mqtt::Publication;
use tokio::sync::oneshot;

use super::terms::{MOST_IN_FLIGHT, Resumed, Untaken};

/// What is under way over one connection after the other.
#[derive(Debug, Default)]
pub struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// In the order in which it was sent.
    all: Vec<UnderWay>,
    /// Who hears how what goes on over this connection ends, by packet id.
    ends: HashMap<u16, oneshot::Sender<Result<(), Untaken>>>,
}

/// A message of QoS 2 that the broker has not completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Its packet id.
    pub packet: u16,
    /// How far it is.
    pub phase: Phase,
}

/// How far a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody knows whether the broker has it.
    Sent(Publication),
    /// The broker has it, or nobody knows what it has under that id, and may forget the id.
    Released(Option<Publication>),
}

impl Phase {
    fn publication(&self) -> Option<&Publication> {
        match self {
            Phase::Sent(publication) => Some(publication),
            Phase::Released(publication) => publication.as_ref(),
        }
    }
}

impl Kept {
    /// That of a process that ended without notice: each id may be one that the broker remembers. It would
    /// take a new message under it for the old one.
    pub fn unknown() -> Kept {
        let released = |packet| UnderWay { packet, phase: Phase::Released(None) };
        let all = (1..=MOST_IN_FLIGHT).map(released).collect();
        Kept(Mutex::new(State { all, ends: HashMap::new() }))
    }

    /// What is to go on.
    pub fn under_way(&self) -> Vec<UnderWay> {
        self.lock().all.clone()
    }

    /// What is under way now, in place of all before. The client does not know any more what it was that it
    /// releases.
    pub fn note(&self, under_way: impl Iterator<Item = UnderWay>) {
        let state = &mut *self.lock();
        let mut before: HashMap<u16, Phase> =
            state.all.drain(..).map(|before| (before.packet, before.phase)).collect();
        state.all.extend(under_way.map(|UnderWay { packet, phase }| {
            match (phase, before.remove(&packet)) {
                (Phase::Released(None), Some(Phase::Sent(publication))) => {
                    UnderWay { packet, phase: Phase::Released(Some(publication)) }
                }
                (Phase::Released(None), Some(released)) => UnderWay { packet, phase: released },
                (phase, _) => UnderWay { packet, phase },
            }
        }));
        // What the broker refuses, it does before that.
        for packet in before.into_iter().filter(|(_, it)| matches!(it, Phase::Released(_))) {
            state.tell(packet.0, Ok(()));
        }
    }

    /// The broker has refused what went under this id.
    pub fn refused(&self, packet: u16, why: Untaken) {
        self.lock().tell(packet, Err(why));
    }

    /// The broker knows nothing of the session.
    pub fn forget(&self) {
        self.lock().all.clear();
    }

    /// Forgets what has a packet id above this, which is the most that the broker takes at once: the client cannot
    /// go on with it. Whether there was any.
    pub fn limit(&self, most: u16) -> bool {
        let all = &mut self.lock().all;
        let before = all.len();
        all.retain(|under_way| under_way.packet <= most);
        all.len() < before
    }

    /// Sends nothing on that the broker may not want: whoever publishes it does so anew, under another id.
    pub fn give_up(&self) {
        for UnderWay { phase, .. } in &mut self.lock().all {
            *phase = Phase::Released(None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&mut self, packet: u16, how: Result<(), Untaken>) {
        if let Some(end) = self.ends.remove(&packet) {
            // Nobody may have published it again.
            let _ = end.send(how);
        }
    }
}

/// What goes on over one connection, as long as that lives.
pub struct GoingOn(Arc<Kept>);

impl GoingOn {
    /// In a session that the broker has resumed, or that is a new one.
    pub fn of(kept: &Arc<Kept>) -> (GoingOn, Vec<Resumed>) {
        let mut resumed = Vec::new();
        let state = &mut *kept.lock();
        for UnderWay { packet, phase } in &state.all {
            let Some(publication) = phase.publication() else { continue };
            let (ended, end) = oneshot::channel();
            state.ends.insert(*packet, ended);
            resumed.push((publication.clone(), end));
        }
        (GoingOn(Arc::clone(kept)), resumed)
    }
}

impl Drop for GoingOn {
    fn drop(&mut self) {
        self.0.lock().ends.clear();
    }
}

/// The connection is to be made anew, with an account of what is under way.
#[derive(Clone, Copy, Debug)]
pub struct Anew;

impl fmt::Display for Anew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is made anew for messages of QoS 2")
    }
}

impl std::error::Error for Anew {}
