//! Source and sink against a broker that others wrote.

use std::net::SocketAddr;

use mqtt5::broker::{BrokerConfig, MqttBroker, StorageBackendType, StorageConfig};
use tokio::net::TcpListener;

use super::*;

/// A broker, and the URL where it is.
async fn broker() -> (Task, String) {
    // mqtt5 does not tell which port it got, so it is given one that was free a moment ago.
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let storage = StorageConfig::new().with_backend(StorageBackendType::Memory);
    let config = BrokerConfig::new().with_bind_address(address).with_storage(storage);
    let mut broker = MqttBroker::with_config(config).await.unwrap();
    let task = tokio::spawn(async move { broker.run().await.unwrap() });
    (Task(task), format!("mqtt://{address}"))
}

#[tokio::test]
async fn what_a_sink_publishes_a_source_receives_at_every_qos() {
    every_qos("3.1.1").await;
}

#[tokio::test]
async fn what_a_sink_publishes_a_source_receives_at_every_qos_of_mqtt_5() {
    every_qos("5").await;
}

async fn every_qos(version: &str) {
    let (_broker, url) = broker().await;
    let reader = Running::start(&format!("url: {url}\nversion: {version:?}"));
    let mut reading = reader.source("topics: [site/+/out]\nqos: 2");
    let writer = Running::start(&format!("url: {url}\nversion: {version:?}"));
    // A retained message tells that the subscription is there.
    let mut sink = writer.sink("topic: site/a/out\nretain: true");
    soon(sink.connect()).await.unwrap();
    assert_eq!(said(soon(sink.write(&[message("", "hello")])).await), "written");
    assert_eq!(reading.delivered().await, ("site/a/out".into(), "hello".into()));
    for qos in 0..=2 {
        let mut sink = writer.sink(&format!("qos: {qos}"));
        soon(sink.connect()).await.unwrap();
        let batch: Vec<_> = (0..100).map(|number| message("site/b/out", number)).collect();
        let (written, ()) = soon(async {
            tokio::join!(sink.write(&batch), async {
                for number in 0..100 {
                    assert_eq!(reading.delivered().await, ("site/b/out".into(), number.into()));
                }
            })
        })
        .await;
        assert_eq!(said(written), "written");
    }
}

#[tokio::test]
async fn a_session_that_is_kept_brings_what_came_meanwhile() {
    kept_session("3.1.1").await;
}

#[tokio::test]
async fn a_session_that_is_kept_brings_what_came_meanwhile_with_mqtt_5() {
    kept_session("5").await;
}

async fn kept_session(version: &str) {
    let (_broker, url) = broker().await;
    let persistent =
        format!("url: {url}\nclient_id: site-a\nclean_session: false\nversion: {version:?}");
    let reader = Running::start(&persistent);
    let mut reading = reader.source("topics: [cmd]");
    let writer = Running::start(&format!("url: {url}"));
    let mut sink = writer.sink("topic: cmd\nretain: true");
    soon(sink.connect()).await.unwrap();
    soon(sink.write(&[message("", "first")])).await.unwrap();
    assert_eq!(reading.delivered().await.1, "first");
    reading.task.stop().await;
    reader.task.stop().await;

    let mut sink = writer.sink("topic: cmd");
    soon(sink.connect()).await.unwrap();
    let missed: Vec<_> = (0..10).map(|number| message("", number)).collect();
    soon(sink.write(&missed)).await.unwrap();
    let reader = Running::start(&persistent);
    let mut reading = reader.source("topics: [cmd]");
    let mut got = Vec::new();
    soon(async {
        while got.len() < 10 {
            // The retained one comes too, because the source subscribes again.
            let (_, value) = reading.delivered().await;
            got.extend(value.as_u64());
        }
    })
    .await;
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stolen_client_id_ends_the_connection_with_an_error() {
    let (_broker, url) = broker().await;
    let settings = format!("url: {url}\nclient_id: same");
    let mut first = Running::start(&settings);
    let mut sink = first.sink("topic: t");
    soon(sink.connect()).await.unwrap();
    let (_, mut second) = connection(&settings, site(None));
    let second = Task(tokio::spawn(async move { drop(second.run(&Voice::unheard()).await) }));
    let error = first.error().await;
    assert!(error.ends_with("closed the connection"), "{error}");
    drop(second);
}
