//! Feeds a transform from its queue and posts what it makes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forebay_sdk::{
    Delivery, Emitter, Format, Message, Meta, Node, Payload, Timestamp, Transform,
    outlet::{Envelope, Wires},
};
use tokio::time::{Instant, sleep_until};

use super::{
    station::{Post, guard_call},
    status::Count,
};

/// Messages handled before others get their turn.
const MOST_IN_A_ROW: usize = 64;
/// The same, for slow scripts.
const LONGEST_IN_A_ROW: Duration = Duration::from_millis(5);

pub async fn run_transform(mut transform: Box<dyn Transform>, post: Post) {
    let mut emitter = Emitter::default();
    // Promises of messages that live on inside the node.
    let mut held: Vec<Delivery> = Vec::new();
    let mut next_tick = next_tick(&*transform);
    post.status.running(&post.name);
    loop {
        // Also what a predecessor posted. Stopping the task here loses nothing.
        post.outbox.room().await;
        tokio::select! {
            is_open = post.inbox.wait() => if !is_open { return },
            () = at(next_tick) => {
                let outcome = attempt(&mut transform, &post, |node| node.tick(Instant::now(), &mut emitter));
                next_tick = self::next_tick(&*transform);
                if outcome.is_err() || !emitter.is_empty() {
                    hand_on(outcome, None, Delivery::join(held.drain(..)), &mut emitter, &post);
                }
                continue;
            }
        }
        // No `await` from taking a message to posting what it became: both happen or neither does.
        let until = Instant::now() + LONGEST_IN_A_ROW;
        for _ in 0..MOST_IN_A_ROW {
            let Some(Envelope { message, delivery }) = post.inbox.pop() else { break };
            post.status.add(Count::Received);
            let original = Original::of(&message);
            let outcome = attempt(&mut transform, &post, |node| node.apply(message, &mut emitter));
            let delivery = match (emitter.is_empty(), emitter.holds()) {
                _ if outcome.is_err() => delivery,
                (true, true) => {
                    held.extend(delivery);
                    emitter.drain().for_each(drop);
                    continue;
                }
                // Dropped on purpose: whatever the node holds goes on being held.
                (true, false) => delivery,
                (false, false) => Delivery::join(held.drain(..).chain(delivery)),
                (false, true) => {
                    let before = Delivery::join(held.drain(..));
                    held.extend(delivery);
                    before
                }
            };
            let had_room = hand_on(outcome, Some(original), delivery, &mut emitter, &post);
            if !had_room || Instant::now() >= until {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// A message as it came, for the `errors` output. It does not share a payload that came as bytes,
/// because the node would have to copy a shared one before it changes it.
struct Original {
    topic: Arc<str>,
    time: Timestamp,
    payload: Kept,
}

enum Kept {
    Bytes(Bytes, Format),
    Value(Payload),
}

impl Original {
    fn of(message: &Message) -> Original {
        let payload = match message.payload.as_encoded() {
            Some((bytes, format)) => Kept::Bytes(bytes.clone(), format),
            None => Kept::Value(message.payload.clone()),
        };
        Original { topic: Arc::clone(&message.topic), time: message.time, payload }
    }

    fn into_message(self) -> Message {
        let payload = match self.payload {
            Kept::Bytes(bytes, format) => Payload::encoded(bytes, format),
            Kept::Value(payload) => payload,
        };
        Message { topic: self.topic, time: self.time, payload, meta: Meta::default() }
    }
}

/// Calls the node. One that panics is made anew.
fn attempt(
    transform: &mut Box<dyn Transform>,
    post: &Post,
    work: impl FnOnce(&mut dyn Transform) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    guard_call(|| work(&mut **transform)).unwrap_or_else(|panic| {
        if let Node::Transform(fresh) = post.build() {
            *transform = fresh;
        }
        Err(panic)
    })
}

/// Posts what was emitted, or the error. False when a reader has no room.
fn hand_on(
    outcome: anyhow::Result<()>,
    original: Option<Original>,
    delivery: Option<Delivery>,
    emitter: &mut Emitter,
    post: &Post,
) -> bool {
    let mut had_room = true;
    match outcome {
        Ok(()) => {
            for (port, message) in emitter.drain() {
                let delivery = delivery.clone();
                had_room &= post.outbox.post(port, Envelope { message, delivery });
            }
        }
        Err(error) => {
            emitter.drain().for_each(drop);
            let original = original.map(Original::into_message);
            had_room = post.outbox.post_error(&error, original.as_ref(), delivery.as_ref());
        }
    }
    delivery.into_iter().for_each(Delivery::settle);
    had_room
}

fn next_tick(transform: &dyn Transform) -> Option<Instant> {
    transform.tick_every().map(|every| Instant::now() + every)
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
