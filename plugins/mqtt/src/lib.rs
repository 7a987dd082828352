//! MQTT 3.1.1 and 5: a session with a broker as a connection, and the nodes that subscribe and publish
//! on it, or on the broker in this process.
//!
//! The one thing to know: a session carries everybody's messages and acknowledgements over one
//! TCP connection, so the task that owns it (`connection.rs`) never waits for a node.

mod address;
mod asked;
mod client;
mod cloud;
mod connection;
mod declared;
mod dialect;
mod doubts;
mod exactly_once;
mod examine;
mod frames;
mod gate;
mod inbound;
mod lazy;
mod ledger;
mod link_state;
mod once;
mod pace;
mod presets;
mod properties;
mod rules;
mod segments;
mod session;
mod settings;
mod sink;
mod source;
mod understood;
mod version;
mod websocket;
mod wire;
mod words;
mod words5;

#[cfg(test)]
mod tests;

use forebay_sdk::{Native, Plugin, Role};

use crate::{
    presets::{AwsSettings, AzureSettings, FlespiSettings, HiveMqSettings, ThingsBoardSettings},
    settings::{MqttSinkSettings, MqttSourceSettings, MqttStateSettings, SessionSettings},
};

const CONNECTION: Role = Role::Connection;
/// A pipeline that shows the connections to services.
const SERVICES: &str = include_str!("../services.yaml");
/// What MQTT goes over.
const OVER: [&str; 7] =
    ["mqtt", "broker", "aws-iot", "azure-iot", "hivemq-cloud", "flespi", "thingsboard"];

/// What this folder offers.
pub fn plugin() -> Plugin {
    Plugin::new("mqtt", include_str!("../sample.yaml"))
        .offers(connection())
        .offers(Native::<AwsSettings>::new(CONNECTION, "aws-iot", "A thing of AWS IoT Core."))
        .offers(Native::<AzureSettings>::new(
            CONNECTION,
            "azure-iot",
            "A device of an Azure IoT hub.",
        ))
        .offers(Native::<HiveMqSettings>::new(
            CONNECTION,
            "hivemq-cloud",
            "A cluster of HiveMQ Cloud.",
        ))
        .offers(Native::<FlespiSettings>::new(CONNECTION, "flespi", "The broker of flespi."))
        .offers(Native::<ThingsBoardSettings>::new(
            CONNECTION,
            "thingsboard",
            "A device, or a gateway, of ThingsBoard.",
        ))
        .offers(source())
        .offers(sink())
        .offers(
            Native::<MqttStateSettings>::new(
                Role::Source,
                "mqtt-state",
                "Says whether a connection is there.",
            )
            .using(&OVER),
        )
        .sample("mqtt-state", include_str!("../state.yaml"))
        .sample("aws-iot", SERVICES)
        .sample("azure-iot", SERVICES)
        .sample("hivemq-cloud", SERVICES)
        .sample("flespi", SERVICES)
        .sample("thingsboard", SERVICES)
        .rules(&rules::RULES)
}

fn connection() -> Native<SessionSettings> {
    Native::new(Role::Connection, "mqtt", "A session with an MQTT broker.")
}

fn source() -> Native<MqttSourceSettings> {
    Native::new(Role::Source, "mqtt", "Subscribes to topics of an MQTT broker.").using(&OVER)
}

fn sink() -> Native<MqttSinkSettings> {
    Native::new(Role::Sink, "mqtt", "Publishes to topics of an MQTT broker.").using(&OVER)
}
