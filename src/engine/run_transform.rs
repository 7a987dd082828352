//! Feeds a transform from its queue, wakes it when it asks for that, and posts what it makes.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Delivery, Emitter, Envelope, Input, Message, Meta, Node, Payload, Saved, Timestamp, Transform,
    clock, node::SMALL_STATE, outlet::Wires,
};
use tokio::time::{Instant, sleep_until};

use super::{
    errors::ErrorKind,
    keeper::WORTH_A_WRITE,
    post::{Post, guard_call},
    status::Count,
};
use crate::config::StateKept;

/// Messages handled before others get their turn.
const MOST_IN_A_ROW: usize = 64;
/// The same, for slow scripts.
const LONGEST_IN_A_ROW: Duration = Duration::from_millis(5);

/// Runs until its queue was closed and is empty, until it is told to stop, or until it cannot be
/// made anew after a panic. What it remembers is with its keeper then.
pub async fn run_transform(transform: Box<dyn Transform>, post: Post, state: StateKept) {
    let every = match state {
        StateKept::Memory => None,
        StateKept::Persist { every } => Some(every),
    };
    let mut run = TransformRun {
        transform: Some(transform),
        post,
        every,
        write_at: None,
        is_small: true,
        remembers: true,
    };
    run.post.status.running();
    run.remember();
    // What a predecessor owes.
    run.write_at =
        every.filter(|_| run.post.keeper.is_behind()).map(|every| Instant::now() + every);
    let mut emitter = Emitter::default();
    while run.turn(&mut emitter).await {}
    run.hand_over();
}

/// What a transform is to do.
enum Event {
    Messages,
    Wake,
    ClockMoved,
    Write,
    End,
}

struct TransformRun {
    /// None once it panicked and could not be made anew.
    transform: Option<Box<dyn Transform>>,
    post: Post,
    /// How often what it remembers is written to disk, at most.
    every: Option<Duration>,
    /// When it is written next.
    write_at: Option<Instant>,
    /// What it remembers is little, and is asked for after each message.
    is_small: bool,
    /// It remembered something when it was last asked.
    remembers: bool,
}

impl TransformRun {
    /// Waits for something to do, and does some of it. False when that was the last.
    async fn turn(&mut self, emitter: &mut Emitter) -> bool {
        let TransformRun { post, write_at, .. } = &*self;
        let Some(transform) = &self.transform else { return false };
        let wake_at = transform.wake_at();
        let takes_more = self.every.is_none() || post.keeper.has_room();
        let inbox = async {
            // Also what a predecessor posted.
            while !post.outbox.is_clear() {
                tokio::select! {
                    biased;
                    () = post.outbox.room() => (),
                    () = post.stop.asked() => return false,
                }
            }
            if !takes_more {
                post.stop.asked().await;
            }
            post.inbox.wait(&post.stop).await
        };
        // What is due by a clock comes first, and then what waits has its turn too.
        let event = tokio::select! {
            biased;
            () = at(*write_at) => Event::Write,
            () = at(wake_at) => Event::Wake,
            () = post.site.world.clock_was_moved(), if wake_at.is_some() => Event::ClockMoved,
            is_open = inbox => if is_open { Event::Messages } else { Event::End },
        };
        match event {
            Event::End => return false,
            Event::Messages => self.work(emitter).await,
            Event::Wake => {
                if self.call(emitter, None, |node, out| node.wake(clock::now(), out)) {
                    self.work(emitter).await;
                }
            }
            Event::ClockMoved => {
                self.call(emitter, None, |node, out| node.clock_was_moved(clock::now(), out));
            }
            Event::Write => self.write().await,
        }
        true
    }

    /// Handles what waits, for a while.
    async fn work(&mut self, emitter: &mut Emitter) {
        // No `await` from taking a message to posting what it became: both happen or neither does.
        let until = Instant::now() + LONGEST_IN_A_ROW;
        for _ in 0..MOST_IN_A_ROW {
            let Some((envelope, from)) = self.post.inbox.pop() else { break };
            let Envelope { message, delivery, began } = envelope;
            self.post.status.add(Count::Received);
            self.post.outbox.before(&from, &message);
            let original = Original::of(&message);
            emitter.begin(delivery);
            emitter.at_hand_began(began);
            let input = Input { message, from };
            let had_room = self.call(emitter, Some(original), |node, out| node.apply(input, out));
            self.post.outbox.after(emitter.was_held());
            if !had_room || self.transform.is_none() || Instant::now() >= until {
                break;
            }
        }
        if self.every.is_some() && self.post.keeper.owed() >= WORTH_A_WRITE {
            self.write().await;
        }
        tokio::task::yield_now().await;
    }

    /// Calls the node, and posts what it sent or its error. False when a reader has no room.
    fn call(
        &mut self,
        emitter: &mut Emitter,
        about: Option<Original>,
        work: impl FnOnce(&mut dyn Transform, &mut Emitter) -> anyhow::Result<()>,
    ) -> bool {
        let Some(node) = &mut self.transform else { return true };
        let outcome = guard_call(|| work(&mut **node, emitter));
        let panicked = outcome.is_err();
        let outcome = outcome.flatten().and_then(|()| emitter.end());
        if panicked {
            self.make_anew();
        }
        match outcome {
            Ok(()) => {
                self.post.status.worked();
                // With a state on disk a message is dealt with once that is safe.
                if let Some(every) = self.every {
                    let owed = emitter.owed();
                    let pause = match &owed {
                        Some(_) => self.post.keeper.pause().min(every),
                        None => every,
                    };
                    self.post.keeper.owe(owed);
                    let at = Instant::now() + pause;
                    self.write_at = Some(self.write_at.map_or(at, |before| before.min(at)));
                }
                let mut had_room = true;
                for (port, envelope) in emitter.drain() {
                    had_room &= self.post.outbox.post(port, envelope);
                }
                if self.is_small {
                    self.remember();
                }
                had_room
            }
            Err(error) => {
                // What it carried of held messages is broken with it, and comes again.
                let at_hand = emitter.discard();
                let about = about.map(Original::into_message);
                let (kind, about) = (ErrorKind::NotHandled, about.as_ref());
                let had_room = self.post.outbox.post_error(kind, &error, about, at_hand.as_ref());
                Delivery::settle_all(at_hand);
                had_room
            }
        }
    }

    /// Writes down what the node remembers, for after a panic in one of the next messages.
    fn remember(&mut self) {
        let saved = self.save();
        if !std::mem::replace(&mut self.remembers, saved.is_some()) && saved.is_none() {
            return;
        }
        self.is_small =
            saved.as_ref().is_none_or(|saved| saved.values(SMALL_STATE + 1) <= SMALL_STATE);
        // A large one would be old by the time it is needed.
        self.post.keeper.remember(saved.filter(|_| self.is_small));
    }

    fn save(&self) -> Option<Saved> {
        let node = self.transform.as_ref()?;
        guard_call(|| node.save()).unwrap_or_else(|panic| {
            self.post.status.trouble(&panic.context("writing down what the node remembers"));
            None
        })
    }

    /// After a panic: the old node goes first, then a new one begins with what the old one remembered
    /// before the message at hand, or, when that is much, as it stands.
    fn make_anew(&mut self) {
        if !self.is_small {
            self.post.keeper.remember(self.save());
        }
        drop(self.transform.take());
        match self.post.build() {
            Ok(Node::Transform(fresh)) => {
                self.transform = Some(fresh);
                // What is kept here besides would keep promises open that the node drops.
                self.remember();
            }
            Ok(_) => unreachable!("a node type is registered under its own role"),
            Err(panic) => self.post.status.broken(&panic),
        }
    }

    /// Writes what the node remembers to disk, after what is being written.
    async fn write(&mut self) {
        self.post.keeper.rest().await;
        let saved = self.save();
        self.post.keeper.write(saved);
        // Until it is known to be there.
        let is_behind = self.post.keeper.is_behind();
        self.write_at = self.every.filter(|_| is_behind).map(|every| Instant::now() + every);
    }

    /// Leaves what the node remembers to its successor, or for the next start.
    fn hand_over(&mut self) {
        if self.transform.is_some() {
            self.post.keeper.remember(self.save());
        }
    }
}

/// A message as it came, for the `errors` output. It does not share a payload that came as bytes,
/// because the node would have to copy a shared one before it changes it.
struct Original {
    topic: Arc<str>,
    time: Timestamp,
    payload: Payload,
}

impl Original {
    fn of(message: &Message) -> Original {
        let (topic, time) = (Arc::clone(&message.topic), message.time);
        Original { topic, time, payload: message.payload.kept() }
    }

    fn into_message(self) -> Message {
        let Original { topic, time, payload } = self;
        Message { topic, time, payload, meta: Meta::default() }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
