//! What the broker says of itself, below `$SYS`, by the names that Mosquitto has for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{broker::Census, message::Message};

/// What passed since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// Packets.
    pub packets_in: AtomicU64,
    /// Packets with messages.
    pub messages_in: AtomicU64,
    pub messages_out: AtomicU64,
    /// Messages that a client will not get.
    pub dropped: AtomicU64,
}

/// Adds to a count.
pub fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}

/// The topics, and what was last said at each.
#[derive(Debug)]
pub struct Status {
    began: Instant,
    said: BTreeMap<&'static str, String>,
}

impl Status {
    /// Of a broker that begins.
    pub fn new(now: Instant) -> Status {
        Status { began: now, said: BTreeMap::new() }
    }

    /// What has changed since it was last asked, as messages.
    pub fn news(
        &mut self,
        census: &Census,
        counts: &Counts,
        memory_bytes: usize,
        now: Instant,
    ) -> Vec<Message> {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
        let uptime = now.saturating_duration_since(self.began).as_secs();
        let away = census.sessions - census.connected;
        let said = [
            ("$SYS/broker/version", format!("forebay version {}", env!("CARGO_PKG_VERSION"))),
            ("$SYS/broker/uptime", format!("{uptime} seconds")),
            ("$SYS/broker/clients/total", census.sessions.to_string()),
            ("$SYS/broker/clients/connected", census.connected.to_string()),
            ("$SYS/broker/clients/disconnected", away.to_string()),
            ("$SYS/broker/clients/maximum", census.most_connected.to_string()),
            ("$SYS/broker/messages/received", count(&counts.packets_in)),
            ("$SYS/broker/publish/messages/received", count(&counts.messages_in)),
            ("$SYS/broker/publish/messages/sent", count(&counts.messages_out)),
            ("$SYS/broker/publish/messages/dropped", count(&counts.dropped)),
            ("$SYS/broker/bytes/received", count(&counts.bytes_in)),
            ("$SYS/broker/bytes/sent", count(&counts.bytes_out)),
            ("$SYS/broker/retained messages/count", census.retained.to_string()),
            ("$SYS/broker/store/messages/count", census.waiting.to_string()),
            ("$SYS/broker/subscriptions/count", census.subscriptions.to_string()),
            ("$SYS/broker/heap/current", memory_bytes.to_string()),
        ];
        let mut news = Vec::new();
        for (topic, text) in said {
            if self.said.get(topic) != Some(&text) {
                news.push(message(topic, &text));
                self.said.insert(topic, text);
            }
        }
        news
    }
}

fn message(topic: &'static str, text: &str) -> Message {
    Message {
        topic: Arc::from(topic),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        qos: 0,
        retain: true,
        properties: Bytes::new(),
        expires_at: None,
    }
}
