//! The floor of a sink: publishes so many messages at QoS 1, as fast as they are acknowledged.

use anyhow::Context;
use forebay_peers::arguments::Arguments;
use rumqttc::{AsyncClient, Event, MqttOptions, NetworkOptions, Packet, PublishOptions, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let (topic, count, bytes) =
        (arguments.get::<String>("to")?, arguments.get("count")?, arguments.get("bytes")?);
    let mut options = MqttOptions::new("publisher", ("127.0.0.1", arguments.get("port")?));
    // As Forebay sets them.
    options.set_keep_alive(60).set_inflight(100).set_max_request_batch(64);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut eventloop) = AsyncClient::builder(options).capacity(128).build();
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    eventloop.set_network_options(network);
    let payload = vec![b'7'; bytes];
    let publish = async {
        for _ in 0..count {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            client.publish(topic.as_str(), payload.clone(), options).await?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let acknowledged = async {
        let mut acknowledged: u32 = 0;
        while acknowledged < count {
            let event = eventloop.poll().await.context("carrying packets")?;
            acknowledged += u32::from(matches!(event, Event::Incoming(Packet::PubAck(_))));
        }
        Ok(())
    };
    tokio::select! {
        ended = publish => ended,
        ended = acknowledged => ended,
    }
}
