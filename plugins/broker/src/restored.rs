//! What the file of the last run says, put together.

use std::{collections::BTreeMap, sync::Arc};

use forebay_sdk::Timestamp;
use tokio::time::{Duration, Instant};

use crate::{
    message::Message,
    records::{Recipient, Record, Stored, Subscription},
    tree::SessionId,
};

/// What was there.
#[derive(Debug, Default)]
pub struct Restored {
    pub retained: BTreeMap<Arc<str>, Stored>,
    pub sessions: BTreeMap<SessionId, Remembered>,
    pub messages: BTreeMap<u64, (Stored, BTreeMap<SessionId, Recipient>)>,
}

/// A session.
#[derive(Debug)]
pub struct Remembered {
    pub client_id: Arc<str>,
    pub user: Option<Arc<str>>,
    pub expiry_seconds: u32,
    pub subscriptions: BTreeMap<Arc<str>, Subscription>,
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
                let before = self.sessions.remove(&id).map(|session| session.subscriptions);
                let subscriptions = before.unwrap_or_default();
                let session = Remembered { client_id, user, expiry_seconds, subscriptions };
                self.sessions.insert(id, session);
            }
            Record::Ended(id) => {
                self.sessions.remove(&id);
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
                self.messages.insert(number, (stored, recipients));
            }
            Record::Done(id, number) => {
                let Some((_, recipients)) = self.messages.get_mut(&number) else { return };
                recipients.remove(&id);
                if recipients.is_empty() {
                    self.messages.remove(&number);
                }
            }
        }
    }
}

/// A message as it was kept, with what is left of its time. Where nobody knows how long that was ago, no time
/// has passed.
pub fn message_of(stored: Stored, now: Instant) -> Message {
    let Stored { message, expires } = stored;
    let wall = Timestamp::now();
    let expires_at = expires.and_then(|(seconds, at)| {
        let passed = match wall.clock_was_set() {
            true => u64::try_from(wall.unix_millis() - at).unwrap_or(0),
            false => 0,
        };
        let left =
            Duration::from_secs(seconds.into()).saturating_sub(Duration::from_millis(passed));
        now.checked_add(left)
    });
    Message { expires_at, ..message }
}
