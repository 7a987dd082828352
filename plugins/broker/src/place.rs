//! The place of one reader among the nodes: what came for it, and what it has not settled.
//!
//! A reader that is replaced leaves its place to the next of its name, with all that is in it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use forebay_sdk::mqtt::{
    Claim, Event, Manner, Parcel, Publication, Retained, Subscribe, Subscription,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    dues::Ticket,
    message::publication_bytes,
    topics::{check_filter, group_of, matches, pattern_of},
};

/// How long a place outlives its reader. A reload replaces a source within that time, and the new
/// one goes on where the old one stopped.
pub const HOLD: Duration = Duration::from_secs(30);
/// The most bytes in one place, beside what its reader has taken and one message more.
const MOST_BYTES: usize = 4 << 20;

/// The place of one reader.
pub struct Place {
    state: Mutex<State>,
    /// There may be room again.
    room: Notify,
}

struct State {
    wish: Subscribe,
    filters: Vec<Filter>,
    /// The reader has not heard that it is subscribed.
    is_to_grant: bool,
    /// How many readers have had the place. The last one has it.
    holders: u64,
    /// Until when it is kept, when its reader is gone.
    until: Option<Instant>,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    /// Taken by the reader or one before it, and not settled.
    claimed: usize,
    /// Until when wills wait for room. None when there is some.
    patient_until: Option<Instant>,
    arrivals: u64,
    told: VecDeque<Event>,
    waker: Option<Waker>,
}

/// A topic filter of a reader.
#[derive(Clone)]
struct Filter {
    /// As the reader wrote it.
    text: String,
    /// The filter of the topics.
    pattern: String,
    /// The name of those who share it.
    group: Option<String>,
    /// What is retained for it was brought.
    brought: bool,
}

/// How a reader wants a topic.
pub struct Interest {
    pub manner: Manner,
    /// It has a filter of its own for it.
    pub alone: bool,
    /// The shared filters that match, as they are written.
    pub shared: Vec<String>,
    /// Somebody reads.
    pub is_taken: bool,
}

/// One message. A number of its own keeps it in order when it is given back.
struct Item {
    publication: Publication,
    arrival: u64,
    /// Who waits for it to be settled, and its memory.
    _ticket: Option<Arc<Ticket>>,
}

impl Place {
    /// A place for a reader that is about to sit down.
    pub fn new(wish: Subscribe) -> Arc<Place> {
        let state = State {
            wish,
            filters: Vec::new(),
            is_to_grant: false,
            holders: 0,
            until: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            claimed: 0,
            patient_until: None,
            arrivals: 0,
            told: VecDeque::new(),
            waker: None,
        };
        Arc::new(Place { state: Mutex::new(state), room: Notify::new() })
    }

    /// Takes the place, from whoever had it.
    pub fn sit(self: &Arc<Place>, wish: Subscribe) -> Seat {
        let mut state = self.lock();
        state.holders += 1;
        (state.until, state.waker) = (None, None);
        state.follow(wish);
        let holder = state.holders;
        drop(state);
        self.room.notify_waiters();
        Seat { place: Arc::clone(self), holder }
    }

    /// Whether nobody will come for it any more, and nobody has anything of it; and how many
    /// messages of QoS 1 and 2 are left there.
    pub fn is_given_up(&self, now: Instant) -> Option<usize> {
        let state = self.lock();
        let is_over = state.is_over(now) && state.claimed == 0;
        is_over.then(|| state.queue.iter().filter(|item| item.publication.qos > 0).count())
    }

    /// How its reader wants a topic. None when it does not.
    pub fn interest(&self, topic: &str, now: Instant) -> Option<Interest> {
        let state = self.lock();
        if state.is_over(now) {
            return None;
        }
        let (mut alone, mut shared) = (false, Vec::new());
        for filter in &state.filters {
            if matches(&filter.pattern, topic) {
                match filter.group {
                    None => alone = true,
                    Some(_) => shared.push(filter.text.clone()),
                }
            }
        }
        let is_taken = state.until.is_none();
        let is_wanted = alone || !shared.is_empty();
        is_wanted.then_some(Interest { manner: state.wish.manner, alone, shared, is_taken })
    }

    /// The highest QoS that its reader wants.
    pub fn qos(&self) -> u8 {
        self.lock().wish.manner.qos
    }

    /// The filters for which what is retained was not brought, each with those before it. From now
    /// on it counts as brought. What is shared gets nothing of it.
    pub fn unbrought(&self) -> Vec<(String, Vec<String>)> {
        let mut state = self.lock();
        let mut unbrought = Vec::new();
        let mut earlier = Vec::new();
        for filter in state.filters.iter_mut().filter(|filter| filter.group.is_none()) {
            if !mem::replace(&mut filter.brought, true) {
                unbrought.push((filter.pattern.clone(), earlier.clone()));
            }
            earlier.push(filter.pattern.clone());
        }
        unbrought
    }

    /// Tells a new reader that it is subscribed: what is retained was brought.
    pub fn grant(&self) {
        let mut state = self.lock();
        if mem::replace(&mut state.is_to_grant, false) {
            state.told.push_back(Event::Granted);
            state.wake();
        }
    }

    /// Puts a message of QoS 1 or 2 there, with the ticket of whoever waits for it, or what is
    /// retained.
    pub fn put(&self, publication: Publication, ticket: Option<Arc<Ticket>>) {
        self.lock().push(publication, ticket);
    }

    /// Puts a message of QoS 0 there, unless as many wait as its reader may have in hand.
    #[must_use]
    pub fn offer(&self, publication: Publication, ticket: Option<Arc<Ticket>>) -> bool {
        let mut state = self.lock();
        let is_taken = state.has_room() && state.queue.len() < state.wish.capacity;
        if is_taken {
            state.push(publication, ticket);
        }
        is_taken
    }

    /// Whether a message of QoS 1 or 2 can be put there at once.
    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Why there is no room, in words.
    pub fn why_full(&self) -> String {
        self.lock().wish.why_full()
    }

    /// Resolves when there is room for a message of QoS 1 or 2.
    pub async fn room(&self) {
        loop {
            // It hears of what happens from here on.
            let changed = self.room.notified();
            if self.has_room() {
                return;
            }
            changed.await;
        }
    }

    /// The same, but no longer than that since somebody first waited so. False when there is none.
    pub async fn room_within(&self, most: Duration) -> bool {
        let until = {
            let mut state = self.lock();
            if state.has_room() {
                return true;
            }
            *state.patient_until.get_or_insert_with(|| Instant::now() + most)
        };
        timeout_at(until, self.room()).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Follows what a reader wants from now on, and tells it.
    fn follow(&mut self, wish: Subscribe) {
        self.told.clear();
        let known = mem::take(&mut self.filters);
        for text in &wish.filters {
            if let Err(why) = check_filter(text) {
                let (filter, why) = (text.clone(), why.to_owned());
                self.told.push_back(Event::Refused { filter, why });
                continue;
            }
            let brought = wish.manner.retained == Retained::Never
                || known.iter().any(|known| known.text == *text && known.brought);
            let (pattern, group) = (pattern_of(text).to_owned(), group_of(text).map(str::to_owned));
            self.filters.push(Filter { text: text.clone(), pattern, group, brought });
        }
        self.is_to_grant = !self.filters.is_empty();
        self.wish = wish;
    }

    fn push(&mut self, publication: Publication, ticket: Option<Arc<Ticket>>) {
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.queued_bytes += publication_bytes(&publication);
        self.queue.push_back(Item { publication, arrival, _ticket: ticket });
        self.wake();
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn has_room(&self) -> bool {
        self.queued_bytes < MOST_BYTES
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
        self.queued_bytes -= publication_bytes(&item.publication);
        self.patient_until = self.patient_until.filter(|_| !self.has_room());
        if item.publication.qos > 0 {
            self.claimed += 1;
        }
        Some(item)
    }

    /// Puts a message back where it was.
    fn give_back(&mut self, item: Item) {
        self.claimed -= 1;
        let at = self.queue.partition_point(|queued| queued.arrival < item.arrival);
        self.queued_bytes += publication_bytes(&item.publication);
        self.queue.insert(at, item);
        if self.until.is_some() {
            self.until = Some(Instant::now() + HOLD);
        }
        self.wake();
    }
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
            self.place.room.notify_waiters();
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
