//! Many readings in one message, so that each costs less than a packet of its own.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use forebay_sdk::{
    Format, WriteError,
    mqtt::{Properties, Publication},
    payload::join,
};

/// How many readings go into one message, and how they stand there.
#[derive(Clone, Debug)]
pub struct Segments {
    /// The name under which a map has the list. A list alone when None.
    pub name: Option<String>,
    pub max_messages: usize,
    pub max_bytes: usize,
}

/// A reading as it stands in a message, and what has to be the same for all in one.
pub struct Segment {
    pub topic: Arc<str>,
    pub properties: Option<Properties>,
    pub item: Bytes,
}

/// Readings that go out in one message.
struct Group {
    topic: Arc<str>,
    properties: Option<Properties>,
    items: Vec<Bytes>,
    bytes: usize,
    /// Which of the batch they are.
    members: Vec<usize>,
}

/// The readings of a batch, by the message in which they go out.
pub struct Grouped(Vec<Group>);

impl Segments {
    /// Puts together what goes to one topic, in order.
    pub fn group(&self, segments: Vec<Segment>) -> Grouped {
        let mut groups: Vec<Group> = Vec::new();
        for (member, Segment { topic, properties, item }) in segments.into_iter().enumerate() {
            // The latest of a topic is the one that may have room.
            let latest = groups
                .iter_mut()
                .rfind(|group| group.topic == topic && group.properties == properties);
            let bytes = item.len() + 1;
            let has_room = |group: &&mut Group| {
                group.items.len() < self.max_messages && group.bytes + bytes <= self.max_bytes
            };
            match latest.filter(has_room) {
                Some(group) => {
                    group.items.push(item);
                    group.members.push(member);
                    group.bytes += bytes;
                }
                None => {
                    let (items, members) = (vec![item], vec![member]);
                    groups.push(Group { topic, properties, items, bytes, members });
                }
            }
        }
        Grouped(groups)
    }

    /// What all readings of one message are, written in this format.
    fn payload(&self, items: &[Bytes], format: Format) -> Bytes {
        join(items, self.name.as_deref(), format)
    }
}

impl Grouped {
    /// The messages. `publication` makes one for a topic.
    pub fn publications(
        &self,
        segments: &Segments,
        format: Format,
        publication: impl Fn(&Arc<str>, Bytes) -> Publication,
    ) -> Vec<Publication> {
        let make = |group: &Group| {
            let publication = publication(&group.topic, segments.payload(&group.items, format));
            match &group.properties {
                Some(properties) => publication.properties(properties.clone()),
                None => publication,
            }
        };
        self.0.iter().map(make).collect()
    }

    /// The same error, counted in readings instead of messages.
    pub fn in_readings(&self, error: WriteError) -> WriteError {
        match error {
            WriteError::Retry { error, after, taken } => {
                WriteError::Retry { error, after, taken: self.dealt_with(taken) }
            }
            WriteError::RejectSome { dealt_with, refused } => {
                let dealt_with = self.dealt_with(dealt_with);
                let mut readings = Vec::new();
                for (group, error) in refused {
                    let members = self.0.get(group).map_or(&[][..], |group| &group.members);
                    let dealt_with = members.iter().filter(|member| **member < dealt_with);
                    let why = format!("{error:#}");
                    readings
                        .extend(dealt_with.map(|member| (*member, anyhow::anyhow!(why.clone()))));
                }
                readings.sort_by_key(|(member, _)| *member);
                WriteError::RejectSome { dealt_with, refused: readings }
            }
            other => other,
        }
    }

    /// How many readings at the front are in the first so many messages. Others that are there too are
    /// sent once more.
    fn dealt_with(&self, messages: usize) -> usize {
        let members: BTreeSet<usize> =
            self.0.iter().take(messages).flat_map(|group| group.members.iter().copied()).collect();
        members.iter().zip(0..).take_while(|(member, at)| *member == at).count()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn grouped(readings: &[(&str, &str)], max_messages: usize, max_bytes: usize) -> Grouped {
        let segments = Segments { name: None, max_messages, max_bytes };
        let segment = |(topic, item): &(&str, &str)| {
            let item = Bytes::copy_from_slice(item.as_bytes());
            Segment { topic: Arc::from(*topic), properties: None, item }
        };
        segments.group(readings.iter().map(segment).collect())
    }

    fn payloads(grouped: &Grouped) -> Vec<String> {
        let segments = Segments { name: Some("s".to_owned()), max_messages: 1, max_bytes: 1 };
        let made = |topic: &Arc<str>, payload| Publication::new(Arc::clone(topic), payload);
        let publications = grouped.publications(&segments, Format::Json, made);
        let shown =
            |it: Publication| format!("{} {}", it.topic, String::from_utf8_lossy(&it.payload));
        publications.into_iter().map(shown).collect()
    }

    #[test]
    fn readings_of_one_topic_go_out_together_within_the_limits() {
        let readings = [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5"), ("a", "6")];
        assert_eq!(
            payloads(&grouped(&readings, 3, 1000)),
            [r#"a {"s":[1,3,4]}"#, r#"b {"s":[2,5]}"#, r#"a {"s":[6]}"#]
        );
        assert_eq!(
            payloads(&grouped(&[("a", "12345"), ("a", "1"), ("a", "2")], 9, 6)),
            [r#"a {"s":[12345]}"#, r#"a {"s":[1,2]}"#]
        );
    }

    #[test]
    fn only_the_readings_in_what_the_broker_took_are_settled() {
        let grouped = grouped(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")], 9, 1000);
        let taken =
            |messages| match grouped.in_readings(WriteError::retry(anyhow!("x")).taken(messages)) {
                WriteError::Retry { taken, .. } => taken,
                other => panic!("{other:?}"),
            };
        assert_eq!([0, 1, 2, 3].map(taken), [0, 1, 3, 4]);
        let refused = vec![(0, anyhow!("no")), (2, anyhow!("never"))];
        match grouped.in_readings(WriteError::RejectSome { dealt_with: 3, refused }) {
            WriteError::RejectSome { dealt_with: 4, refused } => {
                let refused: Vec<_> =
                    refused.iter().map(|(at, why)| (*at, why.to_string())).collect();
                let no = |at: usize, why: &str| (at, why.to_owned());
                assert_eq!(refused, [no(0, "no"), no(2, "no"), no(3, "never")]);
            }
            other => panic!("{other:?}"),
        }
    }
}
