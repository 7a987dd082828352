//! Looking at the messages of a wire as they pass, without slowing it: what the looker does not take in time,
//! and what is more than was asked for, is left out and counted.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{Message, Port};
use tokio::{sync::mpsc, time::Instant};

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
    pub became: Option<Became>,
    of: Nodes,
}

/// What became of a message.
#[derive(Default)]
pub struct Became {
    /// What the node sent at once, in order.
    pub made: Vec<Named>,
    /// How many more of these are not told.
    pub more: u64,
    /// The node kept something of it for later.
    pub is_kept: bool,
}

/// A message, and the output that it came out of.
pub type Named = (Arc<str>, Message);

/// The nodes that a message comes from: what is not to be shown of their settings is not shown of it.
pub(super) type Nodes = Arc<[Arc<Status>]>;

/// A text, without what is not to be shown of the settings of nodes.
pub(super) fn hide(of: &[Arc<Status>], text: String) -> String {
    of.iter().fold(text, |text, node| node.hide(text))
}

impl Tapped {
    /// One that is shown by itself.
    pub(super) fn new(output: Arc<str>, message: Message, of: Nodes) -> Tapped {
        Tapped { output, message, left_out: 0, became: None, of }
    }

    /// A text about it, without what is not to be shown of the nodes' settings.
    pub fn hide(&self, text: String) -> String {
        hide(&self.of, text)
    }
}

/// Who is told of messages, as many as were asked for.
struct Looker {
    of: Nodes,
    messages: mpsc::Sender<Tapped>,
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
}

impl Looker {
    fn new(of: Nodes, messages: mpsc::Sender<Tapped>, every: Duration) -> Looker {
        Looker { of, messages, every, next: None, left_out: 0 }
    }

    fn is_gone(&self) -> bool {
        self.messages.is_closed()
    }

    /// Whether the next one is to be told. If not, it is counted.
    fn is_due(&mut self) -> bool {
        let is_due = self.next.is_none_or(|next| Instant::now() >= next);
        let is_due = is_due && self.messages.capacity() > 0;
        self.left_out += u64::from(!is_due);
        is_due
    }

    fn tell(&mut self, output: Arc<str>, message: Message, became: Option<Became>) {
        let (left_out, of) = (self.left_out, Arc::clone(&self.of));
        match self.messages.try_send(Tapped { output, message, left_out, became, of }) {
            Ok(()) => {
                self.left_out = 0;
                self.next = Some(Instant::now() + self.every);
            }
            Err(_) => self.left_out += 1,
        }
    }
}

/// What looks at an output.
pub(super) struct Tap {
    port: Port,
    output: Arc<str>,
    looker: Looker,
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
        Tap { port, output, looker: Looker::new(of, looker, every) }
    }

    /// A message passes. False when nobody looks any more.
    pub(super) fn see(&mut self, port: Port, message: &Message) -> bool {
        if port == self.port && self.looker.is_due() {
            self.looker.tell(Arc::clone(&self.output), message.clone(), None);
        }
        !self.looker.is_gone()
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
    looker: Looker,
    /// The node is at work on a message.
    is_at_work: bool,
    /// That message, when it is to be told.
    at_hand: Option<(Named, Became)>,
}

impl Compare {
    pub(super) fn new(
        names: Names,
        of: Nodes,
        looker: mpsc::Sender<Tapped>,
        every: Duration,
    ) -> Compare {
        let looker = Looker::new(of, looker, every);
        Compare { names, looker, is_at_work: false, at_hand: None }
    }

    /// The node begins with a message.
    pub(super) fn before(&mut self, from: &Arc<str>, message: &Message) {
        self.is_at_work = true;
        if !self.looker.is_due() {
            return;
        }
        let named = self.names.inputs.iter().find(|(written, _)| written == from);
        let output = named.map_or(from, |(_, name)| name);
        self.at_hand = Some(((Arc::clone(output), message.kept()), Became::default()));
    }

    /// The node sends this.
    pub(super) fn made(&mut self, port: Port, message: &Message) {
        let named = self.names.outputs.iter().find(|(known, _)| *known == port);
        let Some((_, name)) = named else { return };
        match &mut self.at_hand {
            Some((_, became)) if became.made.len() < MOST_MADE => {
                became.made.push((Arc::clone(name), message.clone()));
            }
            Some((_, became)) => became.more += 1,
            // What it sends by a clock came of no message alone.
            None if !self.is_at_work && self.looker.is_due() => {
                self.looker.tell(Arc::clone(name), message.clone(), None);
            }
            None => (),
        }
    }

    /// The node is done with the message, and kept something of it or not. False when nobody looks any more.
    pub(super) fn after(&mut self, is_kept: bool) -> bool {
        self.is_at_work = false;
        if let Some(((output, message), became)) = self.at_hand.take() {
            self.looker.tell(output, message, Some(Became { is_kept, ..became }));
        }
        !self.looker.is_gone()
    }
}
