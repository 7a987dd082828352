//! A message inside the broker.

use std::sync::Arc;

use bytes::Bytes;
use forebay_sdk::mqtt::{Properties, Publication};
use tokio::time::{Duration, Instant};

use crate::{
    budget::{Budget, Charge, Use},
    wire::{Publish, Will, properties_of, publish_properties},
};

/// What a message takes beside its text, in bytes: its parts, and what the allocator adds.
const OVERHEAD: usize = 256;

/// A message. Cloning shares its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// What MQTT 5 says beside the payload and is passed on, as it is on the wire.
    pub properties: Bytes,
    pub expires_at: Option<Instant>,
}

impl Message {
    /// What a device published, its alias resolved.
    pub fn of(publish: Publish, now: Instant) -> Message {
        let Publish { topic, payload, qos, retain, properties, expiry_seconds, .. } = publish;
        let expires_at = expiry(expiry_seconds, now);
        Message { topic, payload, qos, retain, properties, expires_at }
    }

    /// The will of a device that was lost.
    pub fn of_will(will: Will, now: Instant) -> Message {
        let Will { topic, payload, qos, retain, properties, expiry_seconds, .. } = will;
        let expires_at = expiry(expiry_seconds, now);
        Message { topic, payload, qos, retain, properties, expires_at }
    }

    /// What a node publishes.
    pub fn of_node(publication: Publication, now: Instant) -> Message {
        let Publication { topic, payload, qos, retain, properties, .. } = publication;
        let expires = properties.as_ref().and_then(|said| said.expires_after_seconds);
        let properties = properties.map(|said| properties_of(&said).into()).unwrap_or_default();
        let expires_at = expiry(expires, now);
        Message { topic, payload, qos, retain, properties, expires_at }
    }

    /// What a node gets, at a QoS.
    pub fn publication(&self, qos: u8, now: Instant) -> Publication {
        let properties = Properties {
            expires_after_seconds: self.seconds_left(now),
            ..publish_properties(&self.properties)
        };
        let publication = Publication::new(Arc::clone(&self.topic), self.payload.clone());
        publication.qos(qos).retain(self.retain).properties(properties)
    }

    /// How many bytes it takes.
    pub fn size_bytes(&self) -> usize {
        OVERHEAD + self.topic.len() + self.payload.len() + self.properties.len()
    }

    /// Nobody need get it any more.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// How many seconds are left until it expires. None when it does not.
    pub fn seconds_left(&self, now: Instant) -> Option<u32> {
        let left = self.expires_at?.saturating_duration_since(now);
        // What is begun counts: 0 would say that it has expired.
        Some(u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
    }
}

fn expiry(seconds: Option<u32>, now: Instant) -> Option<Instant> {
    now.checked_add(Duration::from_secs(seconds?.into()))
}

/// How many bytes a publication takes that a node is to get.
pub fn publication_bytes(publication: &Publication) -> usize {
    const TEXT: usize = 48;
    let user = |said: &Arc<Properties>| {
        let pairs = said.user.iter().map(|(name, value)| 2 * TEXT + name.len() + value.len());
        let texts = [&said.content_type, &said.response_topic];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        pairs.sum::<usize>() + texts + said.correlation_data.as_ref().map_or(0, Bytes::len)
    };
    let properties = publication.properties.as_ref().map_or(0, user);
    OVERHEAD + publication.topic.len() + publication.payload.len() + properties
}

/// A message that somebody keeps, and the memory that it takes.
#[derive(Debug)]
pub struct Kept {
    pub message: Message,
    _charge: Charge,
}

impl Kept {
    /// None when there is no memory for it.
    pub fn new(message: &Message, budget: &Budget, what: Use) -> Option<Arc<Kept>> {
        let charge = budget.take(what, message.size_bytes())?;
        Some(Arc::new(Kept { message: message.clone(), _charge: charge }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_publishes_comes_as_it_was() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = Properties {
            is_text: true,
            expires_after_seconds: Some(60),
            content_type: Some("text/csv".to_owned()),
            response_topic: Some("answers/a".to_owned()),
            correlation_data: Some("7".into()),
            user: vec![pair("site", "a"), pair("unit", "W"), pair("site", "b")],
        };
        let now = Instant::now();
        let publication = Publication::new("t", "1").qos(2).retain(true).properties(properties);
        let message = Message::of_node(publication.clone(), now);
        assert_eq!(message.publication(2, now), publication);
        let later = message.publication(2, now + Duration::from_millis(1500));
        assert_eq!(later.properties.unwrap().expires_after_seconds, Some(59));
        assert!(!message.is_expired(now) && message.is_expired(now + Duration::from_secs(60)));
        let plain = Publication::new("t", "1");
        assert_eq!(Message::of_node(plain.clone(), now).publication(0, now), plain);
    }
}
