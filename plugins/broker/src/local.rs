//! Publish and subscribe for the nodes of this program, without a network in between.
//!
//! What is published goes to the places of its readers here, and by way of the broker to the
//! devices. The broker itself does not know the nodes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Progress, Voice, WriteError, Written,
    mqtt::{PubSub, Publication, Subscribe, Subscription},
};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    budget::{Charge, Use},
    dues::{Dues, Receipt},
    house::House,
    message::{Message, publication_bytes},
    place::{Interest, Place},
    terms::Terms,
    topics::{check_topic, is_private, matches},
    tree::SessionId,
};

/// How long a node waits for the broker to start.
const LONGEST_START: Duration = Duration::from_secs(10);
/// How long a batch of a node waits for its readers, before it is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What nodes see of the broker. Outlives a run of it, and so does what they have not settled.
pub struct Local {
    house: watch::Sender<Option<Arc<House>>>,
    /// The places of readers, by their names.
    places: Mutex<BTreeMap<Arc<str>, Arc<Place>>>,
    /// What the devices are owed, by their client ids.
    devices: Mutex<BTreeMap<Arc<str>, Arc<Dues>>>,
    /// What the nodes are owed.
    nodes: Dues,
    /// Whose turn it is among those who share a subscription.
    turn: AtomicUsize,
    /// A reader came.
    asked: Notify,
    /// What the broker is to be.
    terms: watch::Sender<Arc<Terms>>,
    voice: Voice,
}

/// How a message goes to a reader.
pub struct Way {
    place: Arc<Place>,
    qos: u8,
    retain_as_published: bool,
}

impl Way {
    fn at_most(self, qos: u8) -> Way {
        Way { qos: self.qos.min(qos), ..self }
    }
}

/// Whether a reader among the nodes is to settle a message that goes along these ways.
pub fn is_awaited(ways: &[Way]) -> bool {
    ways.iter().any(|way| way.qos > 0)
}

/// Who published a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A node of this program.
    Node,
    /// A device.
    Device(SessionId),
    /// The broker itself, or a device that is gone.
    Nobody,
}

impl Origin {
    fn session(self) -> Option<SessionId> {
        match self {
            Origin::Device(session) => Some(session),
            Origin::Node | Origin::Nobody => None,
        }
    }
}

impl Local {
    /// Without readers. `voice` hears of what is dropped.
    pub fn new(terms: Arc<Terms>, voice: Voice) -> Arc<Local> {
        Arc::new(Local {
            house: watch::Sender::default(),
            places: Mutex::default(),
            devices: Mutex::default(),
            nodes: Dues::default(),
            turn: AtomicUsize::new(0),
            asked: Notify::new(),
            terms: watch::Sender::new(terms),
            voice,
        })
    }

    /// What the broker is to be, now and later.
    pub fn wanted(&self) -> watch::Receiver<Arc<Terms>> {
        self.terms.subscribe()
    }

    /// Has the broker go on with other settings.
    pub fn change(&self, terms: Arc<Terms>) {
        self.terms.send_replace(terms);
    }

    /// The broker runs.
    pub fn open(&self, house: Arc<House>) {
        self.house.send_replace(Some(house));
        self.asked.notify_one();
    }

    /// The broker stopped.
    pub fn close(&self) {
        self.house.send_replace(None);
    }

    /// The broker, once it runs.
    pub async fn house(&self) -> anyhow::Result<Arc<House>> {
        if let Some(house) = &*self.house.borrow() {
            return Ok(Arc::clone(house));
        }
        let mut house = self.house.subscribe();
        let running = timeout(LONGEST_START, house.wait_for(Option::is_some)).await;
        let running = running.ok().and_then(Result::ok).and_then(|house| house.clone());
        running.context("the broker in this program is not running")
    }

    /// Resolves when a reader came for which what is retained may not have been brought.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Brings what is retained to readers with new filters. What matches several of them comes once.
    pub fn bring_retained(&self, house: &House) {
        let places: Vec<Arc<Place>> = lock(&self.places).values().cloned().collect();
        let now = Instant::now();
        for place in places {
            for (pattern, earlier) in place.unbrought() {
                house.with(|broker| {
                    for kept in broker.retained().all(&pattern, now) {
                        if !earlier.iter().any(|other| matches(other, &kept.topic)) {
                            place.put(kept.publication(kept.qos.min(place.qos()), now), None);
                        }
                    }
                });
            }
            place.grant();
        }
    }

    /// Gives up the places to which nobody came back, and forgets devices that are owed nothing.
    pub fn tidy(&self) {
        let now = Instant::now();
        lock(&self.places).retain(|_, place| match place.is_given_up(now) {
            None => true,
            Some(0) => false,
            Some(left) => {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                self.voice.dropped(left, "the source for which they came is gone");
                false
            }
        });
        lock(&self.devices).retain(|_, dues| Arc::strong_count(dues) > 1 || !dues.is_done());
    }

    /// What a device is owed.
    pub fn dues(&self, client_id: &str) -> Arc<Dues> {
        Arc::clone(lock(&self.devices).entry(client_id.into()).or_default())
    }

    /// A device is gone, and forgotten unless something is owed to it.
    pub fn forget(&self, client_id: &str) {
        let mut devices = lock(&self.devices);
        let is_done = |dues: &Arc<Dues>| Arc::strong_count(dues) == 1 && dues.is_done();
        if devices.get(client_id).is_some_and(is_done) {
            devices.remove(client_id);
        }
    }

    /// The ways to the readers of a topic, once each has room for a message of that QoS. At QoS 0
    /// nobody waits.
    pub async fn ways(&self, topic: &str, qos: u8, from: Origin) -> Vec<Way> {
        let ways: Vec<Way> = self.readers(topic, from).map(|way| way.at_most(qos)).collect();
        for way in &ways {
            if way.qos > 0 {
                way.place.room().await;
            }
        }
        ways
    }

    /// The same, but no reader is waited for longer than that since it was full. One that still is gets
    /// it at QoS 0, which it loses, and that is counted.
    pub async fn ways_within(&self, topic: &str, qos: u8, most: Duration) -> Vec<Way> {
        let ways = self.readers(topic, Origin::Nobody).map(async |way| {
            let way = way.at_most(qos);
            let has_room = way.qos == 0 || way.place.room_within(most).await;
            if has_room { way } else { way.at_most(0) }
        });
        join_all(ways).await
    }

    /// Why a message of that topic has to wait, in words.
    fn why_full(&self, topic: &str) -> String {
        let mut full = self.readers(topic, Origin::Node).filter(|way| !way.place.has_room());
        let first = full.next().map(|way| way.place.why_full());
        first.unwrap_or_else(|| "a source on this broker was too slow".to_owned())
    }

    /// The memory for a message until the readers have settled it, once there is some. None when nobody
    /// waits for that.
    pub async fn memory(&self, ways: &[Way], publication: &Publication) -> Option<Charge> {
        let house = if is_awaited(ways) { self.house().await.ok()? } else { return None };
        let bytes = publication_bytes(publication);
        Some(house.budget.take_once_free(Use::Sources, bytes).await)
    }

    /// Publishes along those ways, and to the devices.
    pub async fn send(
        &self,
        message: Message,
        ways: Vec<Way>,
        from: Origin,
        dues: &Dues,
        charge: Option<Charge>,
    ) -> anyhow::Result<Receipt> {
        let house = self.house().await?;
        let now = Instant::now();
        let publication = match ways.is_empty() {
            true => None,
            false => Some(message.publication(message.qos, now)),
        };
        let charge = charge.or_else(|| {
            let bytes = publication_bytes(publication.as_ref()?);
            house.budget.take(Use::Sources, bytes)
        });
        let has_memory = charge.is_some();
        let (ticket, receipt) = dues.ticket(charge);
        for (way, publication) in ways.into_iter().zip(std::iter::repeat(publication).flatten()) {
            // Only what was kept before a reader came is retained for it, unless it wants to know.
            let is_retained = publication.retain && way.retain_as_published;
            let publication = publication.qos(way.qos).retain(is_retained);
            let ticket = Some(Arc::clone(&ticket));
            if way.qos > 0 && has_memory {
                way.place.put(publication, ticket);
            } else if !has_memory || !way.place.offer(publication, ticket) {
                let why = way.place.why_full();
                self.voice.dropped(1, &format!("{why}, and what comes at QoS 0 does not wait"));
            }
        }
        let session = from.session();
        house.with(|broker| broker.publish(&message, session, Some(&ticket), now));
        drop(ticket);
        Ok(receipt)
    }

    /// Who reads a topic, and how. Of those who share a subscription one gets it, if possible one who
    /// is there.
    fn readers(&self, topic: &str, from: Origin) -> impl Iterator<Item = Way> + use<> {
        let now = Instant::now();
        let mut ways: Vec<Way> = Vec::new();
        let mut groups: BTreeMap<String, Vec<(bool, Way)>> = BTreeMap::new();
        for place in lock(&self.places).values() {
            let Some(interest) = place.interest(topic, now) else { continue };
            let Interest { manner, alone, shared, is_taken } = interest;
            if manner.no_local && from == Origin::Node {
                continue;
            }
            let (qos, retain_as_published) = (manner.qos, manner.retain_as_published);
            let way = || Way { place: Arc::clone(place), qos, retain_as_published };
            if alone {
                ways.push(way());
            }
            for group in shared {
                groups.entry(group).or_default().push((is_taken, way()));
            }
        }
        for mut members in groups.into_values() {
            if members.iter().any(|(is_taken, _)| *is_taken) {
                members.retain(|(is_taken, _)| *is_taken);
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            ways.push(members.swap_remove(turn).1);
        }
        ways.into_iter()
    }

    async fn route(&self, batch: Vec<Publication>) -> Result<Written, WriteError> {
        for publication in &batch {
            let topic = &publication.topic;
            check_topic(topic).map_err(|why| {
                WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: {why}, found `{topic}`"
                ))
            })?;
            if is_private(topic) {
                return Err(WriteError::reject(anyhow!(
                    "the message's topic cannot be published to: what begins with `$forebay/` is \
                     the broker's own, found `{topic}`"
                )));
            }
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut open = Open { dues: &self.nodes, messages: Vec::with_capacity(batch.len()) };
        let placed = self.place(batch, deadline, &mut open).await;
        let settled = match placed {
            Ok(()) => timeout_at(deadline, open.settled()).await.is_ok(),
            Err(_) => false,
        };
        if settled {
            // No wire is between us.
            return Ok(Written::default());
        }
        let is_settled = |(_, receipt): &&(Publication, Receipt)| receipt.is_settled();
        let taken = open.messages.iter().take_while(is_settled).count();
        let late = || anyhow!("the pipeline behind a source on this broker takes too long");
        Err(WriteError::retry(placed.err().unwrap_or_else(late)).taken(taken))
    }

    /// Puts a batch to the places of its readers, up to the first message for which there is no room.
    async fn place(
        &self,
        batch: Vec<Publication>,
        deadline: Instant,
        open: &mut Open<'_>,
    ) -> anyhow::Result<()> {
        for publication in batch {
            let receipt = match self.nodes.again(&publication) {
                Some(receipt) => receipt,
                None => {
                    let (topic, qos) = (&publication.topic, publication.qos);
                    let ready = timeout_at(deadline, async {
                        let ways = self.ways(topic, qos, Origin::Node).await;
                        let charge = self.memory(&ways, &publication).await;
                        (ways, charge)
                    });
                    let (ways, charge) = ready.await.map_err(|_| anyhow!(self.why_full(topic)))?;
                    let message = Message::of_node(publication.clone(), Instant::now());
                    self.send(message, ways, Origin::Node, &self.nodes, charge).await?
                }
            };
            open.messages.push((publication, receipt));
        }
        Ok(())
    }
}

/// Messages of a node that readers have not settled. Those left when it is dropped are not put to
/// them once more when the node sends them again.
struct Open<'a> {
    dues: &'a Dues,
    messages: Vec<(Publication, Receipt)>,
}

impl Open<'_> {
    async fn settled(&self) {
        loop {
            let told = self.dues.told();
            if self.messages.iter().all(|(_, receipt)| receipt.is_settled()) {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        for (publication, receipt) in self.messages.drain(..) {
            if !receipt.is_settled() {
                self.dues.leave_late(publication, receipt);
            }
        }
    }
}

impl PubSub for Local {
    fn ready(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { self.house().await.map(drop) }.boxed()
    }

    fn publish(
        &self,
        batch: Vec<Publication>,
        _: Progress,
    ) -> BoxFuture<'_, Result<Written, WriteError>> {
        self.route(batch).boxed()
    }

    fn subscribe(&self, wish: Subscribe) -> Box<dyn Subscription> {
        let mut places = lock(&self.places);
        let new = || Place::new(wish.clone());
        let place = places.entry(Arc::clone(&wish.reader)).or_insert_with(new);
        let seat = place.sit(wish);
        drop(places);
        self.asked.notify_one();
        Box::new(seat)
    }

    fn break_off(&self, _: anyhow::Error) {
        // Nothing is under way that could come late.
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change leaves it whole, so a panic elsewhere does not matter.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
