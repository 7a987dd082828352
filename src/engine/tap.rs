//! Looking at the messages of a wire as they pass, without slowing it: what the looker does not take in time,
//! and what is more than was asked for, is left out and counted.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Message, Port};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::status::Status;

/// Messages that passed and were not looked at yet.
const MOST_WAITING: usize = 64;

/// A message that passed.
pub struct Tapped {
    /// The output that it came out of: `boiler/meter`, `boiler/route.high`.
    pub output: Arc<str>,
    /// As it passed.
    pub message: Message,
    /// How many passed before it, since the last one that is told, and are left out.
    pub left_out: u64,
    /// What a transform made of it. None when that was not asked.
    pub became: Option<Vec<Named>>,
    of: Nodes,
}

/// A message, and the output that it came out of.
pub type Named = (Arc<str>, Message);

/// The nodes that a message comes from: what is not to be shown of their settings is not shown of it.
pub(super) type Nodes = Arc<[Arc<Status>]>;

impl Tapped {
    /// One that is shown by itself.
    pub(super) fn new(output: Arc<str>, message: Message, of: Nodes) -> Tapped {
        Tapped { output, message, left_out: 0, became: None, of }
    }

    /// A text about it, without what is not to be shown of the nodes' settings.
    pub fn hide(&self, text: String) -> String {
        self.of.iter().fold(text, |text, node| node.hide(text))
    }
}

/// What looks at an output.
pub(super) struct Tap {
    port: Port,
    output: Arc<str>,
    of: Nodes,
    looker: mpsc::Sender<Tapped>,
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
}

/// Where those who look are told.
pub(super) fn channel() -> (mpsc::Sender<Tapped>, mpsc::Receiver<Tapped>) {
    mpsc::channel(MOST_WAITING)
}

impl Tap {
    pub(super) fn new(
        (port, output): (Port, Arc<str>),
        of: Nodes,
        looker: mpsc::Sender<Tapped>,
        every: Duration,
    ) -> Tap {
        Tap { port, output, of, looker, every, next: None, left_out: 0 }
    }

    /// A message passes. False when nobody looks any more.
    pub(super) fn see(&mut self, port: Port, message: &Message) -> bool {
        if port != self.port {
            return !self.looker.is_closed();
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            self.left_out += 1;
            return !self.looker.is_closed();
        }
        let tapped = Tapped {
            left_out: self.left_out,
            ..Tapped::new(Arc::clone(&self.output), message.clone(), Arc::clone(&self.of))
        };
        match self.looker.try_send(tapped) {
            Ok(()) => {
                self.left_out = 0;
                self.next = Some(now + self.every);
                true
            }
            Err(TrySendError::Full(_)) => {
                self.left_out += 1;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// Of what became of one message, so many are told.
const MOST_MADE: usize = 20;

/// Names of outputs, by what stands for them inside.
pub(super) struct Names {
    /// By how the node wrote them in its `from:`.
    pub inputs: Vec<(Arc<str>, Arc<str>)>,
    pub outputs: Vec<(Port, Arc<str>)>,
}

/// What looks at messages before and after a transform.
pub(super) struct Compare {
    names: Names,
    of: Nodes,
    looker: mpsc::Sender<Tapped>,
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
    /// The message at hand, when it is to be told.
    at_hand: Option<(Named, Vec<Named>)>,
}

impl Compare {
    pub(super) fn new(
        names: Names,
        of: Nodes,
        looker: mpsc::Sender<Tapped>,
        every: Duration,
    ) -> Compare {
        Compare { names, of, looker, every, next: None, left_out: 0, at_hand: None }
    }

    /// The node begins with a message.
    pub(super) fn before(&mut self, from: &Arc<str>, message: &Message) {
        let is_due = self.next.is_none_or(|next| Instant::now() >= next);
        if !is_due || self.looker.capacity() == 0 {
            self.left_out += 1;
            return;
        }
        let named = self.names.inputs.iter().find(|(written, _)| written == from);
        let output = named.map_or(from, |(_, name)| name);
        self.at_hand = Some(((Arc::clone(output), message.kept()), Vec::new()));
    }

    /// The node sends this.
    pub(super) fn made(&mut self, port: Port, message: &Message) {
        let Some((_, made)) = &mut self.at_hand else { return };
        let named = self.names.outputs.iter().find(|(known, _)| *known == port);
        if let Some((_, name)) = named.filter(|_| made.len() < MOST_MADE) {
            made.push((Arc::clone(name), message.clone()));
        }
    }

    /// The node is done with the message. False when nobody looks any more.
    pub(super) fn after(&mut self) -> bool {
        if let Some(((output, message), became)) = self.at_hand.take() {
            let (left_out, became) = (self.left_out, Some(became));
            let tapped = Tapped::new(output, message, Arc::clone(&self.of));
            match self.looker.try_send(Tapped { left_out, became, ..tapped }) {
                Ok(()) => {
                    self.left_out = 0;
                    self.next = Some(Instant::now() + self.every);
                }
                Err(_) => self.left_out += 1,
            }
        }
        !self.looker.is_closed()
    }
}
