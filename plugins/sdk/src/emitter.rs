//! Collects what one call of a node sends, each message with the promise that it carries.

use tokio::time::Instant;

use crate::{
    clock::{self, Now},
    delivery::Delivery,
    envelope::{Envelope, Port},
    held::Held,
    message::Message,
    progress::Progress,
};

/// The most messages that one call may send. What comes beyond makes the call an error.
pub const MOST_EMITTED: usize = 10_000;

/// Collects what a node makes of one message, or of one moment.
#[derive(Default)]
pub struct Emitter {
    emitted: Vec<(Port, Message, Carries)>,
    /// The promise of the message at hand.
    at_hand: Option<Delivery>,
    /// When the message at hand began its way.
    began: Option<Instant>,
    is_too_much: bool,
    was_held: bool,
    progress: Progress,
}

/// The promise that a message carries.
enum Carries {
    /// That of the message at hand.
    AtHand,
    /// That of what was held, if anybody waits for it.
    Held(Option<Delivery>),
}

impl Emitter {
    /// Sends a message on. It carries the promise of the message at hand.
    pub fn emit(&mut self, message: Message) {
        self.emit_to(Port::MAIN, message);
    }

    /// Sends a message to one of the node's outputs. It carries the promise of the message at hand.
    pub fn emit_to(&mut self, port: Port, message: Message) {
        self.push(port, message, Carries::AtHand);
    }

    /// Sends a message that stands for what was held, and carries the promise of that alone. Several
    /// are one by [`Held::join`].
    pub fn emit_held(&mut self, held: Held, port: Port, message: Message) {
        self.push(port, message, Carries::Held(held.into_delivery()));
    }

    /// The promise of the message at hand, for a node that keeps the message. It stays open until it
    /// leaves the node, or is settled or dropped.
    pub fn hold(&mut self) -> Held {
        self.was_held = true;
        Held::new(self.at_hand.clone())
    }

    /// A sink: where to tell how much of a batch is taken while the rest is under way.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// What time it is, by both clocks.
    pub fn now(&self) -> Now {
        clock::now()
    }

    /// Whether nothing was emitted.
    pub fn is_empty(&self) -> bool {
        self.emitted.is_empty()
    }

    fn push(&mut self, port: Port, message: Message, carries: Carries) {
        match self.emitted.len() < MOST_EMITTED {
            true => self.emitted.push((port, message, carries)),
            // What it carried is broken with it, and the call is an error.
            false => self.is_too_much = true,
        }
    }
}

/// For whoever calls the node.
impl Emitter {
    /// Begins a call for a message with this promise.
    pub fn begin(&mut self, at_hand: Option<Delivery>) {
        self.at_hand = at_hand;
        self.began = None;
        self.was_held = false;
    }

    /// Whether the node kept the message at hand, or something of it.
    pub fn was_held(&self) -> bool {
        self.was_held
    }

    /// The message at hand began its way then.
    pub fn at_hand_began(&mut self, began: Option<Instant>) {
        self.began = began;
    }

    /// Ends the call. An error when the node sent more than it may.
    pub fn end(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.is_too_much) {
            anyhow::bail!("the node sent more than {MOST_EMITTED} messages at once");
        }
        Ok(())
    }

    /// The promise of the message at hand once more, for who keeps it back.
    pub fn owed(&self) -> Option<Delivery> {
        self.at_hand.clone()
    }

    /// Takes out what was emitted, in order, with what it carries. The promise of the message at hand
    /// is kept when nothing carries it: the node dropped the message on purpose, or holds it.
    pub fn drain(&mut self) -> impl Iterator<Item = (Port, Envelope)> + '_ {
        let is_at_hand = |emitted: &&(_, _, Carries)| matches!(emitted.2, Carries::AtHand);
        let mut carriers = self.emitted.iter().filter(is_at_hand).count();
        let (mut at_hand, began) = (self.at_hand.take(), self.began.take());
        if carriers == 0 {
            Delivery::settle_all(at_hand.take());
        }
        self.emitted.drain(..).map(move |(port, message, carries)| {
            let (delivery, began) = match carries {
                Carries::Held(delivery) => (delivery, None),
                Carries::AtHand => {
                    carriers -= 1;
                    // The last one gets the promise itself.
                    (if carriers == 0 { at_hand.take() } else { at_hand.clone() }, began)
                }
            };
            (port, Envelope { message, delivery, began })
        })
    }

    /// Throws away what was emitted, with the promises of what was held. Gives back that of the message
    /// at hand.
    pub fn discard(&mut self) -> Option<Delivery> {
        self.emitted.clear();
        // What still tells belongs to a call that is over.
        self.progress = Progress::default();
        self.began = None;
        self.at_hand.take()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delivery::Outcome;

    #[tokio::test]
    async fn what_is_held_is_owed_until_it_leaves() {
        let mut out = Emitter::default();
        let (first, receipt_of_first) = Delivery::track();
        out.begin(Some(first));
        let held = out.hold();
        assert_eq!(out.drain().count(), 0);

        let (second, receipt_of_second) = Delivery::track();
        out.begin(Some(second));
        out.emit(Message::new("second", json!(2)));
        Delivery::settle_all(out.drain().filter_map(|(_, envelope)| envelope.delivery));
        assert_eq!(receipt_of_second.await, Outcome::Delivered);
        assert!(held.is_owed());

        out.emit_held(held, Port::MAIN, Message::new("first", json!(1)));
        Delivery::settle_all(out.drain().filter_map(|(_, envelope)| envelope.delivery));
        assert_eq!(receipt_of_first.await, Outcome::Delivered);
    }

    #[tokio::test]
    async fn each_message_carries_the_promise_and_what_is_thrown_away_breaks_it() {
        let mut out = Emitter::default();
        let (delivery, mut receipt) = Delivery::track();
        out.begin(Some(delivery));
        out.emit(Message::new("first", json!(1)));
        out.emit(Message::new("second", json!(2)));
        let mut sent: Vec<Delivery> =
            out.drain().filter_map(|(_, envelope)| envelope.delivery).collect();
        assert_eq!(sent.len(), 2);
        sent.pop().unwrap().settle();
        assert!(futures_util::FutureExt::now_or_never(&mut receipt).is_none());
        sent.pop().unwrap().settle();
        assert_eq!(receipt.await, Outcome::Delivered);

        let (delivery, receipt) = Delivery::track();
        out.begin(Some(delivery));
        let held = out.hold();
        out.emit_held(held, Port::MAIN, Message::new("held", json!(1)));
        Delivery::settle_all(out.discard());
        assert_eq!(receipt.await, Outcome::Lost);
    }

    #[test]
    fn more_than_a_call_may_send_is_an_error() {
        let mut out = Emitter::default();
        for _ in 0..=MOST_EMITTED {
            out.emit(Message::new("n", json!(1)));
        }
        assert!(out.end().is_err());
        assert_eq!(out.drain().count(), MOST_EMITTED);
        assert!(out.end().is_ok());
    }
}
