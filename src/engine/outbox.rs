//! Where a node's messages leave, and what the wires have not taken yet. It outlives the node too.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use forebay_sdk::{Delivery, Envelope, Fault, Message, Port, Timestamp, outlet::Wires};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    errors::ErrorKind,
    history::Sample,
    inbox::{Inbox, Pushed},
    observer::Observer,
    status::{Count, Status},
    tap::{Compare, Tap},
};
use crate::config::{Name, Places};

/// From one output of a node to the queue of another.
#[derive(Clone)]
pub struct Wire {
    pub port: Port,
    pub inbox: Arc<Inbox>,
    /// How the reader wrote it in its `from:`.
    pub written: Arc<str>,
}

/// The outputs of a node.
pub struct Outbox {
    node: Name,
    status: Arc<Status>,
    state: Mutex<State>,
    draining: AtomicBool,
    tracked: AtomicBool,
    /// Somebody compares what comes in with what goes out.
    is_compared: AtomicBool,
    /// The next message is wanted, for the history of values.
    is_sample_wanted: AtomicBool,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Default)]
struct State {
    wires: Vec<Wire>,
    /// Where the node's scripts stand.
    places: Places,
    /// Posted, and no room yet. Bounded by what a node posts before it waits for room: the outputs
    /// of one message, and what a source sends again of what it has under way.
    pending: VecDeque<(Wire, Envelope)>,
    /// Who looks at what passes.
    taps: Vec<Tap>,
    /// Who looks at what becomes of what.
    compares: Vec<Compare>,
    /// What was sent when it was wanted, and whether that is new to the history of values.
    sample: Option<(Sample, bool)>,
}

impl Outbox {
    pub fn new(node: Name, status: Arc<Status>, observer: Option<Arc<dyn Observer>>) -> Outbox {
        Outbox {
            node,
            status,
            state: Mutex::default(),
            draining: AtomicBool::new(false),
            tracked: AtomicBool::new(false),
            is_compared: AtomicBool::new(false),
            is_sample_wanted: AtomicBool::new(false),
            observer,
        }
    }

    /// Replaces the wires. What waits for a reader that is gone is lost, and its source hears so.
    pub fn rewire(&self, wires: Vec<Wire>) {
        let mut state = self.state();
        let stays = |old: &Wire| wires.iter().any(|wire| Arc::ptr_eq(&wire.inbox, &old.inbox));
        let (left, gone): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|(old, _)| stays(old));
        state.pending = left;
        state.wires = wires;
        drop(state);
        let lost = gone.iter().filter(|(_, envelope)| envelope.delivery.is_none()).count();
        if lost > 0 {
            self.status.lost(lost as u64, "their reader is gone, and had no room for them");
        }
    }

    /// The node's scripts stand there now, wherever they stood before.
    pub fn set_places(&self, places: Places) {
        self.state().places = places;
    }

    /// Somebody looks at what passes.
    pub fn add_tap(&self, tap: Tap) {
        self.state().taps.push(tap);
    }

    /// Somebody looks at what becomes of what.
    pub fn add_compare(&self, compare: Compare) {
        self.state().compares.push(compare);
        self.is_compared.store(true, Ordering::Relaxed);
    }

    /// The node begins with a message, for who compares.
    pub fn before(&self, from: &Arc<str>, message: &Message) {
        if self.is_compared.load(Ordering::Relaxed) {
            self.state().compares.iter_mut().for_each(|compare| compare.before(from, message));
        }
    }

    /// The node is done with it, and kept something of it or not.
    pub fn after(&self, was_held: bool) {
        if self.is_compared.load(Ordering::Relaxed) {
            let mut state = self.state();
            state.compares.retain_mut(|compare| compare.after(was_held));
            self.is_compared.store(!state.compares.is_empty(), Ordering::Relaxed);
        }
    }

    /// A message that was sent since the last call. None when there was none.
    pub fn sample(&self) -> Option<Sample> {
        self.is_sample_wanted.store(true, Ordering::Relaxed);
        let mut state = self.state();
        let (sample, is_new) = state.sample.as_mut()?;
        std::mem::take(is_new).then(|| sample.clone())
    }

    /// What was sent lately. Whoever asks again soon hears what was sent then.
    pub fn last(&self) -> Option<Sample> {
        self.is_sample_wanted.store(true, Ordering::Relaxed);
        self.state().sample.as_ref().map(|(sample, _)| sample.clone())
    }

    /// From now on the node's outlet takes nothing new.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node ever sent a message whose end it wants to know.
    pub fn has_tracked(&self) -> bool {
        self.tracked.load(Ordering::Acquire)
    }

    /// Whether nothing waits for room.
    pub fn is_clear(&self) -> bool {
        self.state().pending.is_empty()
    }

    /// How many messages wait for room.
    pub fn len(&self) -> usize {
        self.state().pending.len()
    }

    /// How many of them nobody sends again.
    pub fn untracked_len(&self) -> usize {
        let state = self.state();
        state.pending.iter().filter(|(_, envelope)| envelope.delivery.is_none()).count()
    }

    /// Whether anybody reads the port.
    pub fn is_read(&self, port: Port) -> bool {
        self.state().wires.iter().any(|wire| wire.port == port)
    }

    /// Posts a message that the node could not handle to its `errors` output, counts and logs it.
    /// False when a reader has no room.
    pub fn post_error(
        &self,
        kind: ErrorKind,
        error: &anyhow::Error,
        about: Option<&Message>,
        delivery: Option<&Delivery>,
    ) -> bool {
        let fault = error.downcast_ref::<Fault>();
        let places = self.state().places.clone();
        let at = fault.map(|fault| places.tell(fault.setting, &fault.at));
        let words = match fault {
            Some(fault) => fault.said(|called| places.tell(fault.setting, called)),
            None => format!("{error:#}"),
        };
        let words = self.status.hide(words);
        let used = fault.map(|fault| self.status.hide(fault.used.clone())).unwrap_or_default();
        let line = at.as_ref().map_or_else(|| words.clone(), |at| format!("{at}: {words}"));
        let kind = kind.unless_panic(error);
        match (self.is_read(Port::ERRORS), about) {
            (true, _) => self.status.handed_on(kind, &line, &used),
            (false, None) => self.status.unheard(kind, &line),
            (false, Some(_)) => self.status.refused(kind, &line, &used),
        }
        let topic =
            about.map_or_else(|| Arc::clone(&self.node), |message| Arc::clone(&message.topic));
        let mut message = Message::new(topic, Value::Null);
        let mut complaint = complaint(&self.node, &words, at, message.time, about);
        if !used.is_empty() {
            complaint["values"] = used.into();
        }
        message.payload = complaint.into();
        message.note_own_time(message.time);
        about.inspect(|about| message.note_own_time(about.time));
        message.meta.source = Some(Arc::clone(&self.node));
        self.post(Port::ERRORS, Envelope::new(message, delivery.cloned()))
    }

    /// Posts a message of which nobody knows whether the node has done what it says.
    pub fn post_in_doubt(&self, why: &str, message: &Message) {
        self.status.add(Count::InDoubt);
        let error = anyhow::anyhow!("in doubt: it may have happened, and is not done again: {why}");
        self.post_error(ErrorKind::InDoubt, &error, Some(message), None);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands one copy to a reader. Gives it back when there is no room.
fn push(wire: &Wire, envelope: Envelope) -> Option<Envelope> {
    match wire.inbox.push(envelope, &wire.written) {
        Pushed::Full(envelope) => Some(envelope),
        Pushed::Taken | Pushed::DroppedOldest | Pushed::DroppedNewest => None,
    }
}

impl Wires for Outbox {
    fn post(&self, port: Port, mut envelope: Envelope) -> bool {
        envelope.began.get_or_insert_with(Instant::now);
        let mut state = self.state();
        if envelope.delivery.is_some() {
            self.tracked.store(true, Ordering::Release);
        }
        if port != Port::ERRORS {
            self.status.add(Count::Emitted);
            self.status.worked();
        }
        let State { wires, pending, taps, compares, sample, .. } = &mut *state;
        if !taps.is_empty() {
            taps.retain_mut(|tap| tap.see(port, &envelope.message));
        }
        if port == Port::MAIN && self.is_sample_wanted.load(Ordering::Relaxed) {
            self.is_sample_wanted.store(false, Ordering::Relaxed);
            *sample = Some((Sample::of(&envelope.message), true));
        }
        compares.iter_mut().for_each(|compare| compare.made(port, &envelope.message));
        if let Some(observer) = &self.observer {
            observer.came_out(&self.node, port, &envelope.message);
        }
        let mut readers = wires.iter().filter(|wire| wire.port == port).peekable();
        let mut left = Some(envelope);
        while let Some(wire) = readers.next() {
            // The last reader gets the envelope itself.
            let copy = if readers.peek().is_some() { left.clone() } else { left.take() };
            let Some(mut copy) = copy else { break };
            if let Some(observer) = &self.observer {
                let promise = observer.goes_in(wire.inbox.status().name(), &copy.message);
                copy.delivery = Delivery::join(copy.delivery.into_iter().chain(promise));
            }
            // Behind what waits already, so that order is kept.
            let refused = if pending.is_empty() { push(wire, copy) } else { Some(copy) };
            pending.extend(refused.map(|envelope| (wire.clone(), envelope)));
        }
        if left.is_some() && port != Port::ERRORS {
            self.status.add(Count::Unread);
        }
        // Where nobody reads, there is nothing to promise.
        Delivery::settle_all(left.and_then(|envelope| envelope.delivery));
        pending.is_empty()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            loop {
                let full = {
                    let mut state = self.state();
                    loop {
                        let Some((wire, envelope)) = state.pending.pop_front() else {
                            return self.status.has_room();
                        };
                        if let Some(envelope) = push(&wire, envelope) {
                            let inbox = Arc::clone(&wire.inbox);
                            state.pending.push_front((wire, envelope));
                            break inbox;
                        }
                    }
                };
                self.status.held_up(full.status());
                full.room().await;
            }
        }
        .boxed()
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn report(&self, error: &anyhow::Error, about: Option<Message>) -> bool {
        self.post_error(ErrorKind::NotRead, error, about.as_ref(), None)
    }

    fn ready(&self) {
        self.status.running();
    }
}

/// What comes out of an `errors` output: all that is known, so that any sink can keep it.
fn complaint(
    node: &Name,
    error: &str,
    at: Option<String>,
    now: Timestamp,
    about: Option<&Message>,
) -> Value {
    let mut complaint = json!({ "node": &**node, "error": error });
    if let Some(at) = at {
        complaint["at"] = at.into();
    }
    complaint["time"] = now.to_rfc3339().into();
    if let Some(message) = about {
        let payload = message.payload.to_value_lossy();
        complaint["message"] = json!({
            "topic": &*message.topic, "time": message.time.to_rfc3339(), "payload": payload,
        });
    }
    complaint
}
