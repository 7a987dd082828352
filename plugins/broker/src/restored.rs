//! What the file of the last run says, put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::time::{Duration, Instant};

use crate::{
    message::Message,
    records::{LastWill, Recipient, Record, Stored, Subscription, UnderWay},
    tree::SessionId,
};

/// What was there.
#[derive(Debug, Default)]
pub struct Restored {
    pub retained: BTreeMap<Arc<str>, Stored>,
    pub sessions: BTreeMap<SessionId, Remembered>,
    pub messages: BTreeMap<u64, Undelivered>,
    pub wills: BTreeMap<SessionId, LastWill>,
}

/// A message that sessions have not had.
#[derive(Debug)]
pub struct Undelivered {
    pub stored: Stored,
    pub recipients: BTreeMap<SessionId, Recipient>,
    /// To whom it is on its way, at QoS 2.
    pub sent: BTreeMap<SessionId, UnderWay>,
}

/// A session.
#[derive(Debug)]
pub struct Remembered {
    pub client_id: Arc<str>,
    pub user: Option<Arc<str>>,
    pub expiry_seconds: u32,
    pub subscriptions: BTreeMap<Arc<str>, Subscription>,
    /// The packet ids of QoS 2 that its client has not released.
    pub received: BTreeSet<u16>,
}

impl Restored {
    /// Goes one step on.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Retained(topic, Some(stored)) => {
                self.retained.insert(topic, stored);
            }
            Record::Retained(topic, None) => {
                self.retained.remove(&topic);
            }
            Record::Session { id, client_id, user, expiry_seconds } => {
                let before = self.sessions.remove(&id);
                let (subscriptions, received) =
                    before.map(|it| (it.subscriptions, it.received)).unwrap_or_default();
                let session =
                    Remembered { client_id, user, expiry_seconds, subscriptions, received };
                self.sessions.insert(id, session);
            }
            Record::Ended(id) => {
                self.sessions.remove(&id);
                self.wills.remove(&id);
            }
            Record::Subscribed(id, subscription) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    let filter = Arc::clone(&subscription.filter);
                    session.subscriptions.insert(filter, subscription);
                }
            }
            Record::Unsubscribed(id, filter) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.subscriptions.remove(&filter);
                }
            }
            Record::Message { number, stored, recipients } => {
                let recipients = recipients.into_iter().map(|it| (it.id, it)).collect();
                let message = Undelivered { stored, recipients, sent: BTreeMap::new() };
                self.messages.insert(number, message);
            }
            Record::Done(id, number) => {
                let Some(message) = self.messages.get_mut(&number) else { return };
                message.recipients.remove(&id);
                if message.recipients.is_empty() {
                    self.messages.remove(&number);
                }
            }
            Record::Sent(id, number, way) => {
                if let Some(message) = self.messages.get_mut(&number) {
                    message.sent.insert(id, way);
                }
            }
            Record::Received(id, packet_id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.received.insert(packet_id);
                }
            }
            Record::Released(id, packet_id) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.received.remove(&packet_id);
                }
            }
            Record::Will(id, will) => {
                self.wills.insert(id, will);
            }
            Record::NoWill(id) => {
                self.wills.remove(&id);
            }
        }
    }
}

/// A message as it was kept, with what is left of its time. Where nobody knows how long that was ago, no time
/// has passed.
pub fn message_of(stored: Stored, now: Instant) -> Message {
    let Stored { message, expires } = stored;
    let expires_at = expires.and_then(|(seconds, when)| {
        let left = Duration::from_secs(seconds.into()).saturating_sub(when.age());
        now.checked_add(left)
    });
    Message { expires_at, ..message }
}
