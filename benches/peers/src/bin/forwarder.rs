//! The floor: subscribes, and publishes each message as it came. One task, no transform, no promise.

use anyhow::Context;
use forebay_peers::arguments::Arguments;
use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, PublishOptions, QoS};

/// More than any window of the load generator, so that nothing is ever refused.
const MOST_REQUESTS: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let qos = match arguments.get("qos")? {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    };
    let (from, to): (String, String) = (arguments.get("from")?, arguments.get("to")?);
    let mut options = MqttOptions::new("forwarder", ("127.0.0.1", arguments.get("port")?));
    // As Forebay sets them.
    options.set_keep_alive(60).set_inflight(100).set_max_request_batch(64);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut eventloop) = AsyncClient::builder(options).capacity(MOST_REQUESTS).build();
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(arguments.get_or("nodelay", true)?);
    eventloop.set_network_options(network);
    loop {
        match eventloop.poll().await.context("carrying packets")? {
            Event::Incoming(Packet::ConnAck(_)) => client.try_subscribe(from.as_str(), qos)?,
            Event::Incoming(Packet::Publish(publish)) => {
                client.try_publish(to.as_str(), publish.payload, PublishOptions::new(qos))?;
            }
            _ => (),
        }
    }
}
