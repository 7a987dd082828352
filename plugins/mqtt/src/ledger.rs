//! What came from the broker at QoS 1 or 2 and is not acknowledged yet.
//!
//! Acknowledgements leave in the order in which the messages came [MQTT-4.6.0-2], and only on the
//! connection on which they came: a packet id of an earlier connection means another message now.

use std::collections::{HashMap, HashSet, VecDeque};

use forebay_sdk::mqtt::Publication;

/// Accounts for arrivals by number. Has no clock and does no I/O.
#[derive(Default)]
pub struct Ledger {
    next: u64,
    arrivals: HashMap<u64, Arrival>,
    /// To be acknowledged on this connection, oldest first.
    due: VecDeque<u64>,
    /// What is due, by packet id.
    open: HashMap<u16, u64>,
    /// Not acknowledged when its connection ended, by packet id. The broker sends it again.
    unfinished: HashMap<u16, u64>,
    /// QoS 2: acknowledged, and not yet released by the broker.
    unreleased: HashSet<u16>,
}

struct Arrival {
    publication: Publication,
    packet: u16,
    /// How many readers have not settled it yet.
    owed: usize,
}

/// An acknowledgement that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// For QoS 1.
    PubAck(u16),
    /// For QoS 2.
    PubRec(u16),
}

impl Ledger {
    /// A connection begins on which the broker sends again what was not acknowledged before.
    pub fn resume(&mut self) {
        self.open.clear();
        for number in std::mem::take(&mut self.due) {
            let Some(arrival) = self.arrivals.get(&number) else { continue };
            if let Some(older) = self.unfinished.insert(arrival.packet, number) {
                self.forget_settled(older);
            }
        }
    }

    /// A connection begins on which the broker knows nothing of the one before.
    pub fn start_afresh(&mut self) {
        self.due.clear();
        self.open.clear();
        self.unfinished.clear();
        self.unreleased.clear();
        self.arrivals.retain(|_, arrival| arrival.owed > 0);
    }

    /// Whether a message that comes in is in hand or dealt with already, so that nobody needs to
    /// be given it again. `again` is the broker's mark for what it sends once more.
    pub fn recognise(&mut self, publication: &Publication, packet: u16, again: bool) -> bool {
        if self.open.contains_key(&packet) {
            return true;
        }
        if publication.qos == 2 && self.unreleased.contains(&packet) {
            self.enter(publication.clone(), packet, 0);
            return true;
        }
        let known = self.unfinished.get(&packet).copied().filter(|number| {
            let arrival = self.arrivals.get(number);
            again && arrival.is_some_and(|arrival| arrival.publication.is_same(publication))
        });
        match known {
            Some(number) => {
                self.unfinished.remove(&packet);
                self.open.insert(packet, number);
                self.due.push_back(number);
                true
            }
            None => false,
        }
    }

    /// Enters a message that `owed` readers are to settle, and gives its number.
    pub fn enter(&mut self, publication: Publication, packet: u16, owed: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.arrivals.insert(number, Arrival { publication, packet, owed });
        self.open.insert(packet, number);
        self.due.push_back(number);
        number
    }

    /// One reader has settled the message.
    pub fn settle(&mut self, number: u64) {
        let Some(arrival) = self.arrivals.get_mut(&number) else { return };
        arrival.owed = arrival.owed.saturating_sub(1);
        let packet = arrival.packet;
        let awaited = |numbers: &HashMap<u16, u64>| numbers.get(&packet) == Some(&number);
        if !awaited(&self.open) && !awaited(&self.unfinished) {
            self.forget_settled(number);
        }
    }

    /// The oldest acknowledgement that is due, when its message is settled.
    pub fn next_ack(&self) -> Option<Ack> {
        let arrival = self.arrivals.get(self.due.front()?)?;
        match (arrival.owed, arrival.publication.qos) {
            (0, 1) => Some(Ack::PubAck(arrival.packet)),
            (0, _) => Some(Ack::PubRec(arrival.packet)),
            _ => None,
        }
    }

    /// What [`Ledger::next_ack`] gave has been sent.
    pub fn acknowledged(&mut self) {
        let Some(arrival) = self.due.pop_front().and_then(|number| self.arrivals.remove(&number))
        else {
            return;
        };
        self.open.remove(&arrival.packet);
        if arrival.publication.qos == 2 {
            self.unreleased.insert(arrival.packet);
        }
    }

    /// The broker has released a message of QoS 2: its packet id is free for another.
    pub fn released(&mut self, packet: u16) {
        self.unreleased.remove(&packet);
    }

    fn forget_settled(&mut self, number: u64) {
        if self.arrivals.get(&number).is_some_and(|arrival| arrival.owed == 0) {
            self.arrivals.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(payload: &'static str, qos: u8) -> Publication {
        Publication::new("t", payload).qos(qos)
    }

    /// All that may be acknowledged now.
    fn acks(ledger: &mut Ledger) -> Vec<Ack> {
        std::iter::from_fn(|| ledger.next_ack().inspect(|_| ledger.acknowledged())).collect()
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_arrival() {
        let mut ledger = Ledger::default();
        let first = ledger.enter(publication("a", 1), 7, 1);
        let second = ledger.enter(publication("b", 2), 3, 2);
        ledger.settle(second);
        ledger.settle(second);
        assert_eq!(acks(&mut ledger), []);
        ledger.settle(first);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(7), Ack::PubRec(3)]);
        assert!(ledger.arrivals.is_empty());
    }

    #[test]
    fn every_reader_must_settle() {
        let mut ledger = Ledger::default();
        let number = ledger.enter(publication("a", 1), 1, 2);
        ledger.settle(number);
        assert_eq!(acks(&mut ledger), []);
        ledger.settle(number);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(1)]);
    }

    #[test]
    fn what_is_settled_late_is_not_acknowledged_on_a_new_connection() {
        let mut ledger = Ledger::default();
        let old = ledger.enter(publication("a", 1), 1, 1);
        ledger.start_afresh();
        let new = ledger.enter(publication("b", 1), 1, 1);
        ledger.settle(old);
        assert_eq!(acks(&mut ledger), []);
        ledger.settle(new);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(1)]);
        assert!(ledger.arrivals.is_empty());
    }

    #[test]
    fn what_the_broker_sends_again_is_acknowledged_and_not_given_out_twice() {
        let mut ledger = Ledger::default();
        let pending = ledger.enter(publication("a", 1), 1, 1);
        let settled = ledger.enter(publication("b", 1), 2, 1);
        ledger.settle(settled);
        ledger.resume();
        assert_eq!(acks(&mut ledger), []);
        assert!(ledger.recognise(&publication("a", 1), 1, true));
        assert!(ledger.recognise(&publication("b", 1), 2, true));
        ledger.settle(pending);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(1), Ack::PubAck(2)]);
        assert!(ledger.arrivals.is_empty() && ledger.unfinished.is_empty());
    }

    #[test]
    fn another_message_under_an_old_packet_id_is_another_message() {
        let mut ledger = Ledger::default();
        ledger.enter(publication("a", 1), 1, 1);
        ledger.resume();
        assert!(!ledger.recognise(&publication("b", 1), 1, true));
        assert!(!ledger.recognise(&publication("a", 1), 1, false));
    }

    #[test]
    fn two_reconnects_in_a_row_forget_nothing() {
        let mut ledger = Ledger::default();
        let first = ledger.enter(publication("a", 1), 1, 1);
        ledger.resume();
        ledger.enter(publication("b", 1), 2, 1);
        ledger.resume();
        assert!(ledger.recognise(&publication("a", 1), 1, true));
        ledger.settle(first);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(1)]);
    }

    #[test]
    fn exactly_once_outlives_a_reconnect() {
        let mut ledger = Ledger::default();
        let number = ledger.enter(publication("a", 2), 5, 1);
        ledger.settle(number);
        assert_eq!(acks(&mut ledger), [Ack::PubRec(5)]);
        // The broker did not hear it.
        ledger.resume();
        assert!(ledger.recognise(&publication("a", 2), 5, true));
        assert_eq!(acks(&mut ledger), [Ack::PubRec(5)]);
        ledger.released(5);
        assert!(!ledger.recognise(&publication("a", 2), 5, false));
    }

    #[test]
    fn the_same_packet_twice_on_one_connection_is_one_message() {
        let mut ledger = Ledger::default();
        let number = ledger.enter(publication("a", 1), 1, 1);
        assert!(ledger.recognise(&publication("a", 1), 1, true));
        ledger.settle(number);
        assert_eq!(acks(&mut ledger), [Ack::PubAck(1)]);
    }
}
