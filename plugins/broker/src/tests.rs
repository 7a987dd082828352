//! The broker as devices and nodes see it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use forebay_sdk::{Connection, PubSub, connection::Publication};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet,
    Publish, PublishOptions, QoS,
};
use tokio::{task::JoinHandle, time::timeout};

use super::{local::Local, serve::Broker, settings::BrokerSettings};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it happens within the deadline")
}

fn settings(listen: &[&str]) -> BrokerSettings {
    BrokerSettings {
        listen: listen.iter().map(|text| (*text).to_owned()).collect(),
        users: None,
        max_connections: 100,
        max_packet: forebay_sdk::Size(1 << 20),
        max_queued: 1000,
    }
}

/// A broker that runs until it is stopped or dropped.
struct Running {
    local: Arc<Local>,
    addresses: Vec<SocketAddr>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(settings: BrokerSettings) -> Running {
        let most = settings.listen.len();
        let (local, subscribers) = Local::new();
        let mut broker = Broker::new(settings, Arc::clone(&local), subscribers);
        let mut bound = broker.bound();
        let task = tokio::spawn(async move { broker.run(&|| ()).await });
        let addresses = soon(bound.wait_for(|b| b.len() == most)).await.unwrap().clone();
        Running { local, addresses, task }
    }

    /// Drops `run`, as the engine does.
    async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    fn options(&self, client_id: &str) -> MqttOptions {
        let address = self.addresses[0];
        let mut options = MqttOptions::new(client_id, (address.ip().to_string(), address.port()));
        options.set_max_packet_size(1 << 22, 1 << 22);
        options
    }

    async fn client(&self, client_id: &str) -> Client {
        Client::connect(self.options(client_id)).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A device.
struct Client {
    client: AsyncClient,
    eventloop: EventLoop,
}

impl Client {
    async fn connect(options: MqttOptions) -> Result<Client, ConnectionError> {
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(10).build();
        let Event::Incoming(Packet::ConnAck(_)) = soon(eventloop.poll()).await? else {
            panic!("the first packet is a CONNACK");
        };
        Ok(Client { client, eventloop })
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).await.unwrap();
        self.wait_for(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    /// Publishes and waits for the last acknowledgement, if the QoS has one.
    async fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) {
        let options = PublishOptions::new(qos).retain(retain);
        self.client.publish(topic, payload.as_bytes(), options).await.unwrap();
        match qos {
            QoS::AtMostOnce => self.ping().await,
            QoS::AtLeastOnce => {
                self.wait_for(|p| matches!(p, Packet::PubAck(_)).then_some(())).await
            }
            QoS::ExactlyOnce => {
                self.wait_for(|p| matches!(p, Packet::PubComp(_)).then_some(())).await
            }
        }
    }

    /// Has everything before it reach the broker: packets are handled in order.
    async fn ping(&mut self) {
        self.subscribe("ping", QoS::AtMostOnce).await;
    }

    async fn next(&mut self) -> Publish {
        self.wait_for(|packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
    }

    async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        soon(async {
            loop {
                if let Event::Incoming(packet) = self.eventloop.poll().await.unwrap()
                    && let Some(found) = wanted(&packet)
                {
                    return found;
                }
            }
        })
        .await
    }

    /// Polls until the connection breaks.
    async fn lost(&mut self) {
        soon(async { while self.eventloop.poll().await.is_ok() {} }).await;
    }
}

fn publication(topic: &str, payload: &str, qos: u8, retain: bool) -> Publication {
    let payload = payload.to_owned().into();
    Publication { topic: topic.into(), payload, qos, retain }
}

#[tokio::test]
async fn a_stopped_broker_frees_its_port_at_once() {
    let first = Running::start(settings(&["127.0.0.1:0"])).await;
    let address = first.addresses[0].to_string();
    first.stop().await;
    for round in 0..20 {
        let broker = Running::start(settings(&[&address])).await;
        let mut device = broker.client(&format!("device{round}")).await;
        let _inside = broker.local.subscribe(vec!["#".into()], 1, 1).await.unwrap();
        broker.stop().await;
        device.lost().await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Running::start(settings(&["127.0.0.1:0"])).await;
    let address = first.addresses[0];
    let (local, subscribers) = Local::new();
    let mut second = Broker::new(settings(&[&address.to_string()]), local, subscribers);
    let error = soon(second.run(&|| ())).await.unwrap_err();
    let port = address.port();
    assert_eq!(error.to_string(), format!("port {port} of 127.0.0.1 is in use by another program"));

    let (local, subscribers) = Local::new();
    let mut elsewhere = Broker::new(settings(&["192.0.2.1:1883"]), local, subscribers);
    let error = soon(elsewhere.run(&|| ())).await.unwrap_err();
    assert_eq!(error.to_string(), "this device does not have the address 192.0.2.1");
}

#[tokio::test]
async fn devices_and_nodes_reach_each_other_at_every_qos() {
    let broker = Running::start(settings(&["127.0.0.1:0", "127.0.0.1:0"])).await;
    let mut device = broker.client("device").await;
    device.subscribe("down/#", QoS::ExactlyOnce).await;
    let mut inside = broker.local.subscribe(vec!["up/+".into()], 2, 10).await.unwrap();
    for (number, qos) in
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate()
    {
        let number = number as u8;
        device.publish("up/a", "hello", qos, false).await;
        let got = soon(inside.recv()).await.unwrap();
        assert_eq!(got, publication("up/a", "hello", number, false));

        broker.local.publish(publication("down/b", "hi", number, false)).await.unwrap();
        let got = device.next().await;
        assert_eq!((&got.topic[..], &got.payload[..], got.qos), (&b"down/b"[..], &b"hi"[..], qos));
    }
}

#[tokio::test]
async fn what_is_retained_comes_first() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut device = broker.client("device").await;
    device.publish("state/a", "on", QoS::AtLeastOnce, true).await;
    broker.local.publish(publication("state/b", "off", 1, true)).await.unwrap();

    let filters = vec!["state/+".into(), "state/a".into()];
    let mut inside = broker.local.subscribe(filters, 1, 10).await.unwrap();
    broker.local.publish(publication("state/c", "new", 1, false)).await.unwrap();
    let mut kept = vec![soon(inside.recv()).await.unwrap(), soon(inside.recv()).await.unwrap()];
    kept.sort_by(|one, other| one.topic.cmp(&other.topic));
    let expected = [publication("state/a", "on", 1, true), publication("state/b", "off", 1, true)];
    assert_eq!(kept, expected);
    assert_eq!(soon(inside.recv()).await.unwrap(), publication("state/c", "new", 1, false));

    // An empty message clears what is kept.
    broker.local.publish(publication("state/a", "", 1, true)).await.unwrap();
    device.subscribe("state/#", QoS::AtLeastOnce).await;
    let got = device.next().await;
    assert_eq!((&got.topic[..], got.retain), (&b"state/b"[..], true));
}

#[tokio::test]
async fn only_users_with_their_password_get_in() {
    let users = [("plc".to_owned(), forebay_sdk::Secret::new("secret"))];
    let settings = BrokerSettings { users: Some(users.into()), ..settings(&["127.0.0.1:0"]) };
    let broker = Running::start(settings).await;
    let login = async |name: &str, password: &str| {
        let mut options = broker.options("device");
        if !name.is_empty() {
            options.set_credentials(name, password.to_owned());
        }
        Client::connect(options).await.map(|_| ())
    };
    assert!(login("plc", "secret").await.is_ok());
    for (name, password) in [("plc", "wrong"), ("plc", ""), ("other", "secret"), ("", "")] {
        let refused = login(name, password).await.unwrap_err();
        let ConnectionError::ConnectionRefused(code) = refused else { panic!("{refused}") };
        assert_eq!(code, ConnectReturnCode::BadUserNamePassword, "{name}");
    }
}

#[tokio::test]
async fn connections_and_packets_are_bounded() {
    let settings = BrokerSettings {
        max_connections: 1,
        max_packet: forebay_sdk::Size(2048),
        ..settings(&["127.0.0.1:0"])
    };
    let broker = Running::start(settings).await;
    let mut first = broker.client("first").await;
    assert!(Client::connect(broker.options("second")).await.is_err());

    first.client.publish("t", vec![0; 4096], PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    first.lost().await;
    // The place of the first is free again.
    soon(async { while Client::connect(broker.options("third")).await.is_err() {} }).await;
}

#[tokio::test]
async fn remembered_sessions_are_bounded() {
    let settings = BrokerSettings { max_connections: 2, ..settings(&["127.0.0.1:0"]) };
    let broker = Running::start(settings).await;
    let remember = async |client_id: &str| {
        let mut options = broker.options(client_id);
        options.set_clean_session(false);
        let mut client = Client::connect(options).await?;
        client.client.try_disconnect_now().unwrap();
        client.lost().await;
        Ok::<_, ConnectionError>(())
    };
    for client_id in ["a", "b", "c", "d", "a"] {
        soon(remember(client_id)).await.unwrap();
    }
    let refused = remember("e").await.unwrap_err();
    let ConnectionError::ConnectionRefused(code) = refused else { panic!("{refused}") };
    assert_eq!(code, ConnectReturnCode::ServiceUnavailable);
}

#[tokio::test]
async fn a_device_that_was_away_gets_what_it_missed() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut options = broker.options("device");
    options.set_clean_session(false);
    let mut device = Client::connect(options.clone()).await.unwrap();
    device.subscribe("cmd", QoS::AtLeastOnce).await;
    device.client.try_disconnect_now().unwrap();
    device.lost().await;

    broker.local.publish(publication("cmd", "start", 1, false)).await.unwrap();
    let mut device = Client::connect(options).await.unwrap();
    assert_eq!(&device.next().await.payload[..], b"start");
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_has_a_bounded_queue_that_drops_its_oldest() {
    let broker = Running::start(BrokerSettings { max_queued: 10, ..settings(&[]) }).await;
    let mut slow = broker.local.subscribe(vec!["t".into()], 1, 1).await.unwrap();
    const SENT: usize = 400;
    for number in 0..SENT {
        broker.local.publish(publication("t", &number.to_string(), 1, false)).await.unwrap();
    }
    let mut got = Vec::new();
    while let Ok(next) = timeout(Duration::from_secs(1), slow.recv()).await {
        let text = String::from_utf8(next.unwrap().payload.to_vec()).unwrap();
        got.push(text.parse::<usize>().unwrap());
    }
    // In order: what fitted on the short way, then the newest of what came after.
    assert!(got.is_sorted() && got.len() < SENT, "{got:?}");
    assert_eq!(got[..256], (0..256).collect::<Vec<_>>());
    assert_eq!(got[got.len() - 10..], (SENT - 10..SENT).collect::<Vec<_>>());

    // Once it has caught up, messages take the short way again.
    broker.local.publish(publication("t", "again", 1, false)).await.unwrap();
    assert_eq!(soon(slow.recv()).await.unwrap().payload, "again");
}

#[tokio::test(start_paused = true)]
async fn a_node_learns_that_the_broker_stopped() {
    let broker = Running::start(settings(&[])).await;
    let mut inside = broker.local.subscribe(vec!["t".into()], 1, 1).await.unwrap();
    let local = Arc::clone(&broker.local);
    broker.stop().await;
    assert_eq!(soon(inside.recv()).await, None);
    let error = soon(local.publish(publication("t", "x", 1, false))).await.unwrap_err();
    assert_eq!(error.to_string(), "the broker in this program is not running");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_ends() {
    let broker = Running::start(settings(&[])).await;
    let router = broker.local.router().await.unwrap();
    let subscription = broker.local.subscribe(vec!["t".into()], 1, 1).await.unwrap();
    assert_eq!((router.client_count().await, router.topic_count().await), (1, 1));
    drop(subscription);
    soon(async {
        while router.client_count().await + router.topic_count().await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn wrong_topics_and_filters_are_refused() {
    let broker = Running::start(settings(&[])).await;
    assert!(broker.local.publish(publication("a/+", "x", 1, false)).await.is_err());
    assert!(broker.local.subscribe(vec!["a/#/b".into()], 1, 1).await.is_err());
}
