//! The place of one reader among the nodes: what came for it, and what it has not settled.
//!
//! A reader that is replaced leaves its place to the next of its name, with all that is in it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use forebay_sdk::mqtt::{Claim, Event, Parcel, Publication, Subscribe, Subscription};
use tokio::{sync::Notify, time::Instant};

/// How long a place outlives its reader. A reload replaces a source within that time, and the new
/// one goes on where the old one stopped.
pub const HOLD: Duration = Duration::from_secs(30);
/// The most bytes in one place, beside what its reader has taken and one message more.
const MOST_BYTES: usize = 4 << 20;

/// The place of one reader.
pub struct Place {
    state: Mutex<State>,
    /// The reader wants something else, or came or went.
    asked: Notify,
    /// There is room again.
    room: Notify,
}

struct State {
    wish: Subscribe,
    /// How many readers have had the place. The last one has it.
    holders: u64,
    /// Until when it is kept, when its reader is gone.
    until: Option<Instant>,
    /// The number of the feed that fills it.
    feed: Option<u64>,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    /// Taken by the reader or one before it, and not settled.
    claimed: usize,
    arrivals: u64,
    told: VecDeque<Event>,
    waker: Option<Waker>,
}

/// One message. A number of its own keeps it in order when it is given back.
#[derive(Clone)]
struct Item {
    publication: Publication,
    arrival: u64,
}

/// What a feed is to bring.
pub struct Demand {
    pub wish: Subscribe,
    /// Which reader has this wish: another number is another reader.
    pub holder: u64,
    /// When the place is given up, unless another reader comes.
    pub until: Option<Instant>,
}

impl Place {
    /// A place for a reader that is about to sit down.
    pub fn new(wish: Subscribe) -> Arc<Place> {
        let state = State {
            wish,
            holders: 0,
            until: None,
            feed: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            claimed: 0,
            arrivals: 0,
            told: VecDeque::new(),
            waker: None,
        };
        let (asked, room) = (Notify::new(), Notify::new());
        Arc::new(Place { state: Mutex::new(state), asked, room })
    }

    /// Takes the place, from whoever had it.
    pub fn sit(self: &Arc<Place>, wish: Subscribe) -> Seat {
        let mut state = self.lock();
        state.wish = wish;
        state.holders += 1;
        (state.until, state.waker) = (None, None);
        state.told.clear();
        let holder = state.holders;
        drop(state);
        self.asked.notify_one();
        self.room.notify_one();
        Seat { place: Arc::clone(self), holder }
    }

    /// Whether nobody will come for it any more, and nobody has anything of it; and how many
    /// messages of QoS 1 and 2 are left there.
    pub fn is_given_up(&self, now: Instant) -> Option<usize> {
        let state = self.lock();
        let is_over = state.is_over(now) && state.claimed == 0;
        is_over.then(|| state.queue.iter().filter(|item| item.publication.qos > 0).count())
    }

    /// Begins to fill it, when nobody else does and somebody may come for it.
    pub fn begin_feed(&self, number: u64, now: Instant) -> bool {
        let mut state = self.lock();
        let begins = state.feed.is_none() && !state.is_over(now);
        if begins {
            state.feed = Some(number);
        }
        begins
    }

    /// Nobody fills it any more.
    pub fn end_feed(&self, number: u64) {
        let mut state = self.lock();
        if state.feed == Some(number) {
            state.feed = None;
        }
    }

    /// What its feed is to bring. None when the feed has ended, because nobody came.
    pub fn demand(&self, now: Instant) -> Option<Demand> {
        let mut state = self.lock();
        if state.is_over(now) {
            state.feed = None;
            return None;
        }
        Some(Demand { wish: state.wish.clone(), holder: state.holders, until: state.until })
    }

    /// Resolves when [`Place::demand`] may say something else.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Whether one more message of QoS 1 or 2 may come, or at QoS 0 is not dropped.
    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Resolves when [`Place::has_room`] may say something else.
    pub async fn room(&self) {
        self.room.notified().await;
    }

    /// Puts a message there.
    pub fn put(&self, publication: Publication) {
        let mut state = self.lock();
        let arrival = state.arrivals;
        state.arrivals += 1;
        state.queued_bytes += size_bytes(&publication);
        state.queue.push_back(Item { publication, arrival });
        state.wake();
    }

    /// Tells the reader how its subscriptions stand.
    pub fn tell(&self, event: Event) {
        let mut state = self.lock();
        state.told.push_back(event);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn has_room(&self) -> bool {
        self.queue.len() < self.wish.capacity && self.queued_bytes < MOST_BYTES
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The next message, unless as many are claimed as may be.
    fn claim(&mut self) -> Option<Item> {
        if self.claimed >= self.wish.capacity {
            return None;
        }
        let item = self.queue.pop_front()?;
        self.queued_bytes -= size_bytes(&item.publication);
        if item.publication.qos > 0 {
            self.claimed += 1;
        }
        Some(item)
    }

    /// Puts a message back where it was.
    fn give_back(&mut self, item: Item) {
        self.claimed -= 1;
        let at = self.queue.partition_point(|queued| queued.arrival < item.arrival);
        self.queued_bytes += size_bytes(&item.publication);
        self.queue.insert(at, item);
        if self.until.is_some() {
            self.until = Some(Instant::now() + HOLD);
        }
        self.wake();
    }
}

fn size_bytes(publication: &Publication) -> usize {
    size_of::<Item>() + publication.topic.len() + publication.payload.len()
}

/// Where a reader takes messages from its place.
pub struct Seat {
    place: Arc<Place>,
    holder: u64,
}

impl Subscription for Seat {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let mut state = self.place.lock();
        if state.holders != self.holder {
            // Another reader of that name has the place, and the engine is about to stop this one.
            return Poll::Pending;
        }
        if let Some(event) = state.told.pop_front() {
            return Poll::Ready(event);
        }
        let had_room = state.has_room();
        let Some(item) = state.claim() else {
            match &mut state.waker {
                Some(known) => known.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        if !had_room {
            self.place.room.notify_one();
        }
        drop(state);
        let publication = item.publication.clone();
        let claim = (publication.qos > 0).then(|| {
            let place = Arc::clone(&self.place);
            Box::new(Taken { place, item: Some(item) }) as Box<dyn Claim>
        });
        Poll::Ready(Event::Parcel(Parcel { publication, again: false, claim }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.place.lock();
        if state.holders == self.holder {
            state.until = Some(Instant::now() + HOLD);
            self.place.asked.notify_one();
        }
    }
}

/// A reader's promise to deliver a message.
struct Taken {
    place: Arc<Place>,
    item: Option<Item>,
}

impl Claim for Taken {
    fn settle(mut self: Box<Self>) {
        if self.item.take().is_some() {
            let mut state = self.place.lock();
            let may_not_take = state.claimed >= state.wish.capacity;
            state.claimed -= 1;
            if may_not_take {
                state.wake();
            }
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.place.lock().give_back(item);
        }
    }
}
