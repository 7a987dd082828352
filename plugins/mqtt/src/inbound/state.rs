//! Who reads what, and what is not settled. Everything here is done at once, under one lock.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::bail;
use forebay_sdk::{Tally, connection::Publication};
use rumqttc::{AsyncClient, ManualAck, PubAck, PubRec};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::warn;

use super::{Standing, Wanted};
use crate::{
    ledger::{Ack, Ledger},
    topic::Filter,
};

/// How long a message or a subscription outlives its reader. A reload replaces a source within
/// that time, and the new one goes on where the old one stopped.
pub(super) const HOLD: Duration = Duration::from_secs(30);

/// The most bytes of QoS 1 and 2 that wait for one reader. The protocol bounds their number:
/// each holds one of 65,535 packet ids until it is acknowledged.
pub(super) const MOST_QUEUED_BYTES: usize = 4 << 20;

/// The most messages that wait for a reader that is not there.
pub(super) const MOST_WAITING: usize = 1000;

pub(super) struct State {
    pub ledger: Ledger,
    /// Set while connected. Acknowledgements go here.
    pub client: Option<AsyncClient>,
    pub readers: Vec<Reader>,
    pub next_reader: u64,
    pub waiting: VecDeque<Waiting>,
    /// Subscriptions of readers that are gone, and when they end.
    departed: Vec<(Filter, Instant)>,
    /// Until then, what nobody asked for waits instead of being dropped.
    hold_until: Instant,
    unwanted: Tally,
}

pub(super) struct Reader {
    pub id: u64,
    node: Arc<str>,
    pub filters: Vec<Filter>,
    qos: u8,
    /// The most messages that may be claimed and not settled; and, at QoS 0, in the queue.
    most: usize,
    /// In the queue, or claimed and not settled.
    pub unsettled: usize,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    arrived: Arc<Notify>,
    pub standing: watch::Sender<Standing>,
    dropped: Tally,
}

/// One reader's copy of a message.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub publication: Publication,
    pub again: bool,
    /// Its number in the ledger. None at QoS 0.
    pub arrival: Option<u64>,
}

impl Item {
    fn size_bytes(&self) -> usize {
        size_of::<Item>() + self.publication.topic.len() + self.publication.payload.len()
    }
}

/// A copy whose reader is gone or never came.
pub(super) struct Waiting {
    node: Option<Arc<str>>,
    item: Item,
    since: Instant,
}

impl State {
    pub fn new() -> State {
        State {
            ledger: Ledger::default(),
            client: None,
            readers: Vec::new(),
            next_reader: 0,
            waiting: VecDeque::new(),
            departed: Vec::new(),
            hold_until: Instant::now() + HOLD,
            unwanted: Tally::default(),
        }
    }

    /// A connection begins.
    pub fn begin(&mut self, client: AsyncClient, resumed: bool) {
        match resumed {
            true => self.ledger.resume(),
            false => self.ledger.start_afresh(),
        }
        self.client = Some(client);
        self.hold_until = Instant::now() + HOLD;
        for reader in &self.readers {
            reader.standing.send_if_modified(|standing| {
                std::mem::replace(standing, Standing::Asked) != Standing::Asked
            });
        }
    }

    pub fn take_in(
        &mut self,
        publication: Publication,
        packet: u16,
        again: bool,
    ) -> anyhow::Result<()> {
        let tracked = publication.qos > 0;
        if tracked && self.ledger.recognise(&publication, packet, again) {
            self.send_acks();
            return Ok(());
        }
        let readers = self.readers_of(&publication.topic);
        if let Some(full) =
            readers.iter().map(|at| &self.readers[*at]).find(|r| tracked && r.full_of_tracked())
        {
            bail!(
                "the queue of {} is full: {} messages are not delivered yet; closing the session so \
                 that the broker sends the next one again",
                full.node,
                full.unsettled
            );
        }
        if readers.is_empty() {
            return self.take_in_unwanted(publication, packet, again);
        }
        let arrival =
            tracked.then(|| self.ledger.enter(publication.clone(), packet, readers.len()));
        for at in readers {
            let item = Item { publication: publication.clone(), again, arrival };
            self.readers[at].offer(item);
        }
        Ok(())
    }

    /// Right after a start or a reload the reader may be about to come. Later on, this is what an
    /// old subscription brings that the broker remembers.
    fn take_in_unwanted(
        &mut self,
        publication: Publication,
        packet: u16,
        again: bool,
    ) -> anyhow::Result<()> {
        if publication.qos == 0 {
            return Ok(());
        }
        let since = Instant::now();
        if since >= self.hold_until {
            self.ledger.enter(publication.clone(), packet, 0);
            self.send_acks();
            self.count_unwanted(&publication);
            return Ok(());
        }
        if self.waiting.len() >= MOST_WAITING {
            bail!(
                "{MOST_WAITING} messages wait for sources that are not there; closing the session"
            );
        }
        let arrival = Some(self.ledger.enter(publication.clone(), packet, 1));
        let item = Item { publication, again, arrival };
        self.waiting.push_back(Waiting { node: None, item, since });
        Ok(())
    }

    /// The readers of a topic. While a source is being replaced there are two of the same node:
    /// the new one counts. One that the broker refused is not running, and would only fill up.
    fn readers_of(&self, topic: &str) -> Vec<usize> {
        let asks = |at: &usize| self.readers[*at].asks(topic);
        let newest = |at: &usize| {
            let node = &self.readers[*at].node;
            !self.readers[*at + 1..].iter().any(|later| later.node == *node && later.asks(topic))
        };
        (0..self.readers.len()).filter(asks).filter(newest).collect()
    }

    pub fn take_up_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            let meant = |at: &&usize| {
                waiting.node.as_ref().is_none_or(|node| self.readers[**at].node == *node)
            };
            let readers = self.readers_of(&waiting.item.publication.topic);
            match readers.iter().find(meant) {
                Some(at) => self.readers[*at].accept(waiting.item),
                None => self.waiting.push_back(waiting),
            }
        }
    }

    /// A reader did not settle its copy: it, or whoever takes its place, gets it again.
    pub fn give_back(&mut self, reader: u64, node: &Arc<str>, item: Item) {
        if let Some(reader) = self.readers.iter_mut().find(|r| r.id == reader) {
            reader.unsettled -= 1;
            return reader.accept(item);
        }
        if item.arrival.is_none() {
            return;
        }
        let node = Some(Arc::clone(node));
        self.waiting.push_back(Waiting { node, item, since: Instant::now() });
        self.take_up_waiting();
    }

    pub fn settle(&mut self, reader: u64, arrival: Option<u64>) {
        if let Some(reader) = self.readers.iter_mut().find(|r| r.id == reader) {
            reader.unsettled -= 1;
            // It may take the next one now.
            reader.arrived.notify_one();
        }
        if let Some(arrival) = arrival {
            self.ledger.settle(arrival);
            self.send_acks();
        }
    }

    pub fn depart(&mut self, reader: u64) {
        let Some(at) = self.readers.iter().position(|r| r.id == reader) else { return };
        let reader = self.readers.remove(at);
        let until = Instant::now() + HOLD;
        self.hold_until = self.hold_until.max(until);
        self.departed.extend(reader.filters.iter().map(|filter| (filter.clone(), until)));
        for item in reader.queue {
            self.give_back(reader.id, &reader.node, item);
        }
    }

    pub fn send_acks(&mut self) {
        let Some(client) = &self.client else { return };
        while let Some(ack) = self.ledger.next_ack() {
            let ack = match ack {
                Ack::PubAck(packet) => ManualAck::PubAck(PubAck::new(packet)),
                Ack::PubRec(packet) => ManualAck::PubRec(PubRec::new(packet)),
            };
            // A full channel empties as the connection goes on, which then calls this again.
            match client.try_manual_ack(ack) {
                Ok(()) => self.ledger.acknowledged(),
                Err(_) => return,
            }
        }
    }

    pub fn wanted(&mut self, now: Instant) -> Wanted {
        self.expire(now);
        let mut wanted = Wanted::default();
        for reader in &self.readers {
            if reader.refused() {
                continue;
            }
            for filter in &reader.filters {
                let qos = wanted.filters.entry(filter.as_str().to_owned()).or_default();
                *qos = reader.qos.max(*qos);
            }
        }
        wanted.kept = self.departed.iter().map(|(filter, _)| filter.as_str().to_owned()).collect();
        let ends = self.departed.iter().map(|(_, until)| *until);
        wanted.until = ends.chain(self.waiting.iter().map(|w| w.since + HOLD)).min();
        wanted
    }

    fn expire(&mut self, now: Instant) {
        self.departed.retain(|(_, until)| *until > now);
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.since + HOLD > now {
                self.waiting.push_back(waiting);
                continue;
            }
            // Its node is gone for good; another that asks for the same may be its new name.
            match self.readers_of(&waiting.item.publication.topic).first() {
                Some(at) => self.readers[*at].accept(waiting.item),
                None => {
                    self.count_unwanted(&waiting.item.publication);
                    if let Some(arrival) = waiting.item.arrival {
                        self.ledger.settle(arrival);
                    }
                }
            }
        }
        self.send_acks();
    }

    fn count_unwanted(&mut self, publication: &Publication) {
        if let Some(dropped) = self.unwanted.add(Instant::now()) {
            let topic = &publication.topic;
            warn!(%topic, dropped, "no source asks for this topic, dropped what the broker sent");
        }
    }
}

impl Reader {
    pub fn new(
        id: u64,
        node: Arc<str>,
        filters: Vec<Filter>,
        qos: u8,
        most: usize,
        arrived: &Arc<Notify>,
        standing: watch::Sender<Standing>,
    ) -> Reader {
        Reader {
            id,
            node,
            filters,
            qos,
            most,
            unsettled: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            arrived: Arc::clone(arrived),
            standing,
            dropped: Tally::default(),
        }
    }

    fn refused(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Refused(_))
    }

    fn asks(&self, topic: &str) -> bool {
        !self.refused() && self.filters.iter().any(|filter| filter.matches(topic))
    }

    fn full(&self) -> bool {
        self.unsettled >= self.most
    }

    fn full_of_tracked(&self) -> bool {
        self.queued_bytes >= MOST_QUEUED_BYTES
    }

    /// The next copy, unless as many are claimed as may be.
    pub fn claim(&mut self) -> Option<Item> {
        if self.unsettled - self.queue.len() >= self.most {
            return None;
        }
        let item = self.queue.pop_front()?;
        self.queued_bytes -= item.size_bytes();
        Some(item)
    }

    /// Takes a new copy, or drops it at QoS 0 when there is no room.
    fn offer(&mut self, item: Item) {
        if item.arrival.is_some() || !self.full() {
            return self.accept(item);
        }
        if let Some(dropped) = self.dropped.add(Instant::now()) {
            let node = &self.node;
            warn!(%node, dropped, "the queue of the source is full, dropped messages of QoS 0");
        }
    }

    /// Queues a copy in the order of arrival.
    fn accept(&mut self, item: Item) {
        let later = |queued: &Item| item.arrival.is_some() && queued.arrival > item.arrival;
        let at = self.queue.iter().rposition(|queued| !later(queued)).map_or(0, |at| at + 1);
        self.queued_bytes += item.size_bytes();
        self.queue.insert(at, item);
        self.unsettled += 1;
        self.arrived.notify_one();
    }
}
