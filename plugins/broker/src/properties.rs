//! Publications as mqtt5 has them, and as nodes have them.

use forebay_sdk::mqtt::{Properties, Publication};
use mqtt5::{
    PropertyId, PropertyValue, QoS, broker::storage::QueuedMessage, packet::publish::PublishPacket,
};

/// User properties by which mqtt5 names the client that published, and its user. They are there
/// whatever the client says, and are not what it says.
const OF_THE_BROKER: [&str; 2] = ["x-mqtt-client-id", "x-mqtt-sender"];

/// What a node publishes, for the router.
pub fn packet_of(publication: Publication) -> PublishPacket {
    let Publication { topic, payload, qos, retain, properties, .. } = publication;
    let mut packet = PublishPacket::new(&*topic, payload, QoS::from(qos));
    packet.retain = retain;
    let Some(properties) = properties else { return packet };
    let to = &mut packet.properties;
    if properties.is_text {
        to.set_payload_format_indicator(true);
    }
    if let Some(seconds) = properties.expires_after_seconds {
        to.set_message_expiry_interval(seconds);
    }
    if let Some(text) = &properties.content_type {
        to.set_content_type(text.clone());
    }
    if let Some(topic) = &properties.response_topic {
        to.set_response_topic(topic.clone());
    }
    if let Some(data) = &properties.correlation_data {
        to.set_correlation_data(data.clone());
    }
    for (name, value) in &properties.user {
        to.add_user_property(name.clone(), value.clone());
    }
    packet
}

/// What the router has for a node. `most` is the highest QoS at which the node wants it.
pub fn publication_of(packet: PublishPacket, most: QoS) -> Publication {
    let properties = properties_of(&packet);
    let PublishPacket { topic_name, payload, qos, retain, .. } = packet;
    let qos = (qos as u8).min(most as u8);
    Publication::new(topic_name, payload).qos(qos).retain(retain).properties(properties)
}

/// The same for what waited in a queue of mqtt5.
pub fn queued_publication_of(mut message: QueuedMessage, most: QoS) -> Publication {
    let payload = std::mem::take(&mut message.payload);
    let mut packet = message.to_publish_packet();
    packet.payload = payload.into();
    publication_of(packet, most)
}

fn properties_of(packet: &PublishPacket) -> Properties {
    let mut properties = Properties::default();
    for (id, value) in packet.properties.iter() {
        match (id, value) {
            (PropertyId::PayloadFormatIndicator, PropertyValue::Byte(number)) => {
                properties.is_text = *number == 1;
            }
            (PropertyId::MessageExpiryInterval, PropertyValue::FourByteInteger(seconds)) => {
                properties.expires_after_seconds = Some(*seconds);
            }
            (PropertyId::ContentType, PropertyValue::Utf8String(text)) => {
                properties.content_type = Some(text.clone());
            }
            (PropertyId::ResponseTopic, PropertyValue::Utf8String(topic)) => {
                properties.response_topic = Some(topic.clone());
            }
            (PropertyId::CorrelationData, PropertyValue::BinaryData(data)) => {
                properties.correlation_data = Some(data.clone());
            }
            (PropertyId::UserProperty, PropertyValue::Utf8StringPair(name, value))
                if !OF_THE_BROKER.contains(&name.as_str()) =>
            {
                properties.user.push((name.clone(), value.clone()));
            }
            // Of the way from the publisher to the broker.
            _ => (),
        }
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_through_a_packet_and_a_queue() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let properties = Properties {
            is_text: true,
            expires_after_seconds: Some(60),
            content_type: Some("text/csv".to_owned()),
            response_topic: Some("answers/a".to_owned()),
            correlation_data: Some("7".into()),
            user: vec![pair("site", "a"), pair("unit", "W"), pair("site", "b")],
        };
        let publication =
            Publication::new("t", "1").qos(2).retain(true).properties(properties.clone());
        let mut packet = packet_of(publication.clone());
        packet.properties.inject_client_id(Some("device"));
        packet.properties.inject_sender(Some("user"));
        assert_eq!(publication_of(packet.clone(), QoS::ExactlyOnce), publication);

        let queued = QueuedMessage::new(packet.clone(), "a".to_owned(), QoS::ExactlyOnce, None);
        let lowered = queued_publication_of(queued, QoS::AtLeastOnce);
        let lowered_properties = lowered.properties.as_deref().unwrap();
        assert_eq!((lowered.qos, &*lowered.payload), (1, &b"1"[..]));
        // Time passes in a queue.
        assert!(matches!(lowered_properties.expires_after_seconds, Some(59 | 60)));
        assert_eq!(lowered_properties.user, properties.user);

        let mut plain = packet_of(Publication::new("t", "1"));
        plain.properties.inject_client_id(Some("device"));
        assert_eq!(publication_of(plain, QoS::AtMostOnce), Publication::new("t", "1"));
    }
}
