//! The broker as devices and nodes see it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use forebay_sdk::{
    Connection, Endpoint, Figure, Voice, World, WriteError,
    mqtt::{self, Claim, Parcel, Properties, PubSub, Publication, Subscribe, Subscription},
    testing::{Heard, voice},
    world::{Dial, memory::Memory},
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet,
    Publish, PublishOptions, QoS,
};
use tokio::{
    task::{JoinHandle, yield_now},
    time::{advance, timeout},
};

use super::{
    connection::{BrokerConnection, Embedded},
    house::Terms,
    local::Local,
    place::HOLD,
};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it happens within the deadline")
}

fn settings(listen: &[&str]) -> BrokerConnection {
    let terms = Terms {
        users: None,
        max_connections: 100,
        max_packet: forebay_sdk::Size(1 << 20),
        max_queued: 1000,
    };
    let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
    BrokerConnection { listen, claims: Vec::new(), terms }
}

fn with_terms(listen: &[&str], change: impl FnOnce(&mut Terms)) -> BrokerConnection {
    let mut settings = settings(listen);
    change(&mut settings.terms);
    settings
}

/// A broker that runs until it is stopped or dropped.
struct Running {
    local: Arc<Local>,
    heard: Arc<Heard>,
    voice: Voice,
    addresses: Vec<SocketAddr>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(settings: BrokerConnection) -> Running {
        Running::start_in(World::system(), settings).await
    }

    async fn start_in(world: World, settings: BrokerConnection) -> Running {
        let (voice, heard) = voice();
        let local = Local::new(voice.clone());
        let (task, addresses) = run(world, settings, &local, &voice).await;
        Running { local, heard, voice, addresses, task }
    }

    /// Runs it once more, as the engine does.
    async fn start_again(&mut self, settings: BrokerConnection) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
        (self.task, self.addresses) =
            run(World::system(), settings, &self.local, &self.voice).await;
    }

    fn reader(&self, name: &str, filters: &[&str], qos: u8, capacity: usize) -> Reader {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let wish = Subscribe { reader: name.into(), filters, qos, capacity };
        Reader(self.local.subscribe(wish))
    }

    async fn publish(&self, publication: Publication) {
        soon(self.local.publish(vec![publication])).await.unwrap();
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

/// Runs a broker; resolves once it listens.
async fn run(
    world: World,
    settings: BrokerConnection,
    local: &Arc<Local>,
    voice: &Voice,
) -> (JoinHandle<anyhow::Result<()>>, Vec<SocketAddr>) {
    let most = settings.listen.len();
    let mut broker = Embedded::new(settings, world, Arc::clone(local));
    let (mut bound, voice) = (broker.bound(), voice.clone());
    let task = tokio::spawn(async move { broker.run(&voice).await });
    let addresses = soon(bound.wait_for(|b| b.len() == most)).await.unwrap().clone();
    soon(local.router()).await.unwrap();
    (task, addresses)
}

/// A node that reads.
struct Reader(Box<dyn Subscription>);

impl Reader {
    /// The next message, not settled.
    async fn take(&mut self) -> (Publication, Option<Box<dyn Claim>>) {
        match soon(self.0.next()).await {
            mqtt::Event::Parcel(Parcel { publication, claim, .. }) => (publication, claim),
            mqtt::Event::Granted => Box::pin(self.take()).await,
            mqtt::Event::Refused { filter, why } => panic!("{filter} was refused: {why}"),
            mqtt::Event::Ended => panic!("ended"),
        }
    }

    /// The next message, settled.
    async fn next(&mut self) -> Publication {
        let (publication, claim) = self.take().await;
        if let Some(claim) = claim {
            claim.settle();
        }
        publication
    }

    async fn number(&mut self) -> usize {
        std::str::from_utf8(&self.next().await.payload).unwrap().parse().unwrap()
    }

    /// Waits until the broker has subscribed.
    async fn granted(mut self) -> Reader {
        match soon(self.0.next()).await {
            mqtt::Event::Granted => self,
            _ => panic!("it is granted first"),
        }
    }

    async fn is_idle(&mut self) -> bool {
        timeout(Duration::from_secs(1), self.take()).await.is_err()
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
    Publication::new(topic, payload.to_owned()).qos(qos).retain(retain)
}

#[tokio::test]
async fn a_stopped_broker_frees_its_port_at_once() {
    let first = Running::start(settings(&["127.0.0.1:0"])).await;
    let address = first.addresses[0].to_string();
    first.stop().await;
    for round in 0..20 {
        let broker = Running::start(settings(&[&address])).await;
        let mut device = broker.client(&format!("device{round}")).await;
        let _inside = broker.reader("a", &["#"], 1, 1).granted().await;
        broker.stop().await;
        device.lost().await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Running::start(settings(&["127.0.0.1:0"])).await;
    let address = first.addresses[0];
    let embedded = |listen: &str| {
        Embedded::new(settings(&[listen]), World::system(), Local::new(Voice::unheard()))
    };
    let mut second = embedded(&address.to_string());
    let error = soon(second.run(&Voice::unheard())).await.unwrap_err();
    let port = address.port();
    assert_eq!(error.to_string(), format!("port {port} of 127.0.0.1 is in use by another program"));

    let error = soon(embedded("192.0.2.1:1883").run(&Voice::unheard())).await.unwrap_err();
    assert_eq!(error.to_string(), "this device does not have the address 192.0.2.1");
}

#[tokio::test]
async fn devices_and_nodes_reach_each_other_at_every_qos() {
    let broker = Running::start(settings(&["127.0.0.1:0", "127.0.0.1:0"])).await;
    let mut device = broker.client("device").await;
    device.subscribe("down/#", QoS::ExactlyOnce).await;
    let mut inside = broker.reader("a", &["up/+"], 2, 10).granted().await;
    for (number, qos) in
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate()
    {
        let number = number as u8;
        device.publish("up/a", "hello", qos, false).await;
        assert_eq!(inside.next().await, publication("up/a", "hello", number, false));

        broker.publish(publication("down/b", "hi", number, false)).await;
        let got = device.next().await;
        assert_eq!((&got.topic[..], &got.payload[..], got.qos), (&b"down/b"[..], &b"hi"[..], qos));
    }
}

#[tokio::test]
async fn what_is_retained_comes_first() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut device = broker.client("device").await;
    device.publish("state/a", "on", QoS::AtLeastOnce, true).await;
    broker.publish(publication("state/b", "off", 1, true)).await;

    let mut inside = broker.reader("a", &["state/+", "state/a"], 1, 10).granted().await;
    broker.publish(publication("state/c", "new", 1, false)).await;
    let mut kept = vec![inside.next().await, inside.next().await];
    kept.sort_by(|one, other| one.topic.cmp(&other.topic));
    let expected = [publication("state/a", "on", 1, true), publication("state/b", "off", 1, true)];
    assert_eq!(kept, expected);
    assert_eq!(inside.next().await, publication("state/c", "new", 1, false));

    // An empty message clears what is kept.
    broker.publish(publication("state/a", "", 1, true)).await;
    device.subscribe("state/#", QoS::AtLeastOnce).await;
    let got = device.next().await;
    assert_eq!((&got.topic[..], got.retain), (&b"state/b"[..], true));
}

#[tokio::test]
async fn only_users_with_their_password_get_in() {
    let users = [("plc".to_owned(), forebay_sdk::Secret::new("secret"))];
    let settings = with_terms(&["127.0.0.1:0"], |terms| terms.users = Some(users.into()));
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
    let refused = "refused a login from 127.0.0.1: bad user name or password";
    assert_eq!(broker.heard.said().troubles, [refused; 4]);
}

#[tokio::test]
async fn connections_and_packets_are_bounded() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| {
        terms.max_connections = 1;
        terms.max_packet = forebay_sdk::Size(2048);
    });
    let broker = Running::start(settings).await;
    let mut first = broker.client("first").await;
    assert!(Client::connect(broker.options("second")).await.is_err());
    let refused = "refused a connection from 127.0.0.1: `max_connections` reached";
    assert_eq!(broker.heard.said().troubles, [refused]);

    first.client.publish("t", vec![0; 4096], PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    first.lost().await;
    // The place of the first is free again.
    soon(async { while Client::connect(broker.options("third")).await.is_err() {} }).await;
}

#[tokio::test]
async fn remembered_sessions_are_bounded() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| terms.max_connections = 2);
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

    broker.publish(publication("cmd", "start", 1, false)).await;
    let mut device = Client::connect(options).await.unwrap();
    assert_eq!(&device.next().await.payload[..], b"start");
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_has_a_bounded_queue_and_what_it_drops_is_told() {
    let broker = Running::start(with_terms(&[], |terms| terms.max_queued = 10)).await;
    let mut slow = broker.reader("slow", &["t"], 1, 1).granted().await;
    const SENT: usize = 400;
    for number in 0..SENT {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
    }
    let mut got = Vec::new();
    while got.last() != Some(&(SENT - 1)) {
        got.push(slow.number().await);
    }
    // In order: what fitted on the short way, then the newest of what came after.
    assert!(got.is_sorted(), "{got:?}");
    assert_eq!(got[..256], (0..256).collect::<Vec<_>>());
    assert_eq!(got[got.len() - 10..], (SENT - 10..SENT).collect::<Vec<_>>());
    let lost = (SENT - got.len()) as u64;
    assert!(lost > 100, "{got:?}");
    assert_eq!(broker.heard.figure(Figure::Dropped), lost);
    assert!(broker.heard.said().dropped[0].contains("`max_queued`"));

    // Once it has caught up, messages take the short way again, and nothing is lost.
    broker.publish(publication("t", "500", 1, false)).await;
    assert_eq!(slow.number().await, 500);
    assert_eq!(broker.heard.figure(Figure::Dropped), lost);
}

#[tokio::test(start_paused = true)]
async fn a_slow_node_holds_up_who_publishes_before_anything_is_dropped() {
    let broker = Running::start(settings(&[])).await;
    let mut slow = broker.reader("slow", &["t"], 1, 1).granted().await;
    let batch: Vec<_> =
        (0..400).map(|number| publication("t", &number.to_string(), 1, false)).collect();
    let read = async {
        for expected in 0..400 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(slow.number().await, expected);
        }
    };
    let (written, ()) = tokio::join!(broker.local.publish(batch), read);
    written.unwrap();
    assert_eq!(broker.heard.figure(Figure::Dropped), 0);
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_qos_0_does_not_wait_for_a_slow_node_and_is_counted() {
    let broker = Running::start(settings(&[])).await;
    let mut slow = broker.reader("slow", &["t"], 0, 5).granted().await;
    for number in 0..20 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
        yield_now().await;
    }
    for expected in 0..5 {
        assert_eq!(slow.number().await, expected);
    }
    assert!(slow.is_idle().await);
    assert_eq!(broker.heard.figure(Figure::Dropped), 15);
}

#[tokio::test(start_paused = true)]
async fn a_node_takes_no_more_than_it_may_have_unsettled() {
    let broker = Running::start(settings(&[])).await;
    let mut reader = broker.reader("a", &["t"], 2, 2).granted().await;
    for number in 0..5 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
    }
    let (first, second) = (reader.take().await, reader.take().await);
    assert!(reader.is_idle().await);
    first.1.unwrap().settle();
    let third = reader.take().await;
    assert_eq!(third.0.payload, "2");
    // What is not settled is given back, and comes in its order.
    drop((second, third));
    for expected in [1, 2, 3, 4] {
        assert_eq!(reader.number().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_replaced_leaves_what_it_holds_to_its_successor() {
    let broker = Running::start(settings(&[])).await;
    let mut old = broker.reader("a", &["t"], 1, 10).granted().await;
    let mut other = broker.reader("b", &["t"], 1, 10).granted().await;
    for number in 0..4 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
    }
    let (first, second, third) = (old.take().await, old.take().await, old.take().await);
    second.1.unwrap().settle();
    drop(third);
    drop(old);
    // What comes while nobody is there waits too, and what is retained does not come anew.
    broker.publish(publication("t", "4", 1, true)).await;
    advance(HOLD / 2).await;
    let mut new = broker.reader("a", &["t"], 1, 10);
    assert_eq!([new.number().await, new.number().await, new.number().await], [2, 3, 4]);
    // The old pipeline gives up: it comes twice rather than never.
    drop(first);
    assert_eq!(new.number().await, 0);
    assert!(new.is_idle().await);
    for expected in 0..5 {
        assert_eq!(other.number().await, expected);
    }
    assert!(other.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn while_two_of_a_node_overlap_the_new_one_reads() {
    let broker = Running::start(settings(&[])).await;
    let mut old = broker.reader("a", &["t"], 1, 10).granted().await;
    let mut new = broker.reader("a", &["u"], 1, 10).granted().await;
    broker.publish(publication("t", "0", 1, false)).await;
    broker.publish(publication("u", "1", 1, false)).await;
    assert_eq!(new.number().await, 1);
    assert!(old.is_idle().await);
    drop(old);
    advance(2 * HOLD).await;
    broker.publish(publication("u", "2", 1, false)).await;
    assert_eq!(new.number().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_for_good_is_forgotten() {
    let broker = Running::start(settings(&[])).await;
    let router = broker.local.router().await.unwrap();
    let reader = broker.reader("a", &["t", "u/#"], 1, 10).granted().await;
    assert_eq!((router.client_count().await, router.topic_count().await), (1, 2));
    drop(reader);
    broker.publish(publication("t", "0", 1, false)).await;
    broker.publish(publication("t", "0", 0, false)).await;
    tokio::time::sleep(HOLD + Duration::from_secs(1)).await;
    assert_eq!((router.client_count().await, router.topic_count().await), (0, 0));
    assert_eq!(broker.heard.figure(Figure::Dropped), 1);
    assert!(broker.local.unfed().is_empty());

    let mut reader = broker.reader("a", &["t"], 1, 10).granted().await;
    assert!(reader.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_has_not_settled_outlives_the_broker() {
    let mut broker = Running::start(settings(&[])).await;
    let mut reader = broker.reader("a", &["t"], 1, 10).granted().await;
    for number in 0..3 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
    }
    let (first, second) = (reader.take().await, reader.take().await);
    broker.start_again(settings(&[])).await;
    let mut reader = reader.granted().await;
    broker.publish(publication("t", "3", 1, false)).await;
    drop(second);
    first.1.unwrap().settle();
    assert_eq!([reader.number().await, reader.number().await], [1, 2]);
    assert_eq!(reader.number().await, 3);
}

#[tokio::test(start_paused = true)]
async fn who_publishes_learns_that_the_broker_stopped() {
    let broker = Running::start(settings(&[])).await;
    let local = Arc::clone(&broker.local);
    broker.stop().await;
    let failed = soon(local.publish(vec![publication("t", "x", 1, false)])).await.unwrap_err();
    let WriteError::Retry { error, taken: 0, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(error.to_string(), "the broker in this program is not running");
    let error = soon(local.ready()).await.unwrap_err();
    assert_eq!(error.to_string(), "the broker in this program is not running");
}

#[tokio::test(start_paused = true)]
async fn wrong_topics_and_filters_are_refused() {
    let broker = Running::start(settings(&[])).await;
    let mut all = broker.reader("all", &["#"], 1, 10).granted().await;
    let batch = vec![publication("a", "x", 1, false), publication("a/+", "x", 1, false)];
    let refused = soon(broker.local.publish(batch)).await.unwrap_err();
    assert!(matches!(refused, WriteError::Reject(_)), "{refused:?}");
    assert!(all.is_idle().await);

    let mut partly = broker.reader("a", &["a/#/b", "t"], 1, 1);
    let mqtt::Event::Refused { filter, .. } = soon(partly.0.next()).await else {
        panic!("refused")
    };
    assert_eq!(filter, "a/#/b");
    let mut partly = partly.granted().await;
    broker.publish(publication("t", "1", 1, false)).await;
    assert_eq!(partly.number().await, 1);
}

#[tokio::test(start_paused = true)]
async fn properties_of_mqtt_5_come_through() {
    let broker = Running::start(settings(&[])).await;
    let mut reader = broker.reader("a", &["t"], 1, 10).granted().await;
    let user = vec![("site".to_owned(), "a".to_owned())];
    let properties = Properties { user, is_text: true, ..Properties::default() };
    let publication = publication("t", "1", 1, false).properties(properties);
    broker.publish(publication.clone()).await;
    assert_eq!(reader.next().await, publication);
}

#[tokio::test(start_paused = true)]
async fn in_a_world_in_memory_nodes_reach_the_broker_and_sockets_do_not() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings(&["127.0.0.1:1883"])).await;
    let mut reader = broker.reader("a", &["t"], 1, 10).granted().await;
    let to = Endpoint { host: "127.0.0.1".to_owned(), port: 1883 };
    let _stream = memory.world().connect(Dial::new(to)).await.unwrap();
    broker.publish(publication("t", "1", 1, false)).await;
    assert_eq!(reader.number().await, 1);
    let refused = "refused a connection from 127.0.0.1: it is no TCP socket";
    assert_eq!(broker.heard.said().troubles, [refused]);
}
