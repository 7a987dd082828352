//! Publications as mqtt5 has them, and as nodes have them.

use forebay_sdk::mqtt::{Properties, Publication};
use mqtt5::{PropertyId, PropertyValue, QoS, packet::publish::PublishPacket};

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

/// What a node gets, at a QoS.
pub fn publication_of(packet: &PublishPacket, qos: u8) -> Publication {
    let publication = Publication::new(&*packet.topic_name, packet.payload.clone());
    publication.qos(qos).retain(packet.retain).properties(properties_of(packet))
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
            (PropertyId::UserProperty, PropertyValue::Utf8StringPair(name, value)) => {
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
    fn properties_come_through_a_packet() {
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
        assert_eq!(publication_of(&packet_of(publication.clone()), 2), publication);
        let plain = Publication::new("t", "1");
        assert_eq!(publication_of(&packet_of(plain.clone()), 0), plain);
    }
}
