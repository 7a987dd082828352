//! Whether more is read from the broker: MQTT 3.1.1 has no other way to say "not so fast".

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// Stands between a session, whose readers can be full, and the byte stream of its connection.
#[derive(Default)]
pub struct Gate(Mutex<State>);

#[derive(Default)]
struct State {
    is_full: bool,
    /// Who waits for an answer of the broker, which comes behind what nobody has room for.
    awaited: usize,
    /// The one that would read.
    waker: Option<Waker>,
}

/// As long as it lives, everything is read.
pub struct Awaited(Arc<Gate>);

impl Gate {
    /// There is no room: nothing is read but for those who wait for an answer.
    pub fn close(&self) {
        self.lock().is_full = true;
    }

    /// There is room.
    pub fn open(&self) {
        let mut state = self.lock();
        state.is_full = false;
        state.wake();
    }

    /// Keeps the gate open for an answer of the broker. Otherwise a source that waits for a sink
    /// of its own session would wait for ever.
    pub fn await_answer(self: &Arc<Gate>) -> Awaited {
        let mut state = self.lock();
        state.awaited += 1;
        state.wake();
        Awaited(Arc::clone(self))
    }

    /// Whether nothing is to be read. Then the waker is woken when that changes.
    pub fn is_closed(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        let is_closed = state.is_full && state.awaited == 0;
        if is_closed {
            state.waker = Some(waker.clone());
        }
        is_closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.lock().awaited -= 1;
    }
}
