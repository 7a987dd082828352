//! The broker as devices and nodes see it.

mod entering;
mod fuzz;
mod kept;
mod limits;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use forebay_sdk::{
    Configured, Connection, Endpoint, Figure, Progress, Secret, Shared, Size, SyncPolicy, Voice,
    World, WriteError,
    mqtt::{self, Claim, Manner, Parcel, Properties, PubSub, Publication, Subscribe, Subscription},
    testing::{Heard, voice},
    world::{Dial, Stream, memory::Memory},
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, Publish, PublishOptions, QoS,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{JoinHandle, yield_now},
    time::{Instant, advance, timeout},
};

use super::{
    connection::{BrokerConnection, Embedded},
    dues::{Dues, MOST_ANSWERS, MOST_UNACKNOWLEDGED},
    local::{Local, Origin},
    message::Message,
    place::HOLD,
    roll::{Credential, Roll},
    terms::{Listener, Terms},
};

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("it happens within the deadline")
}

fn settings(listen: &[&str]) -> BrokerConnection {
    let listener = |text: &&str| Listener {
        address: text.parse().unwrap(),
        tls: None,
        websocket: None,
        anonymous: true,
    };
    let terms = Terms {
        listeners: listen.iter().map(listener).collect(),
        users: Roll::default(),
        password_file: None,
        access: None,
        memory: Size(32 << 20),
        sync: None,
        max_connections: 100,
        max_connections_per_address: 100,
        max_sessions: 200,
        session_expiry: Duration::from_secs(24 * 3600),
        max_keep_alive: None,
        max_packet: Size(1 << 20),
        max_queued: 1000,
        max_queued_bytes: Size(1 << 20),
        max_rate: None,
        max_byte_rate: None,
        status_every: None,
        max_in_flight: 100,
        max_subscriptions: 100,
        max_retained: 1000,
        max_retained_bytes: None,
    };
    BrokerConnection { claims: Vec::new(), terms: Arc::new(terms) }
}

fn with_terms(listen: &[&str], change: impl FnOnce(&mut Terms)) -> BrokerConnection {
    let mut settings = settings(listen);
    change(Arc::make_mut(&mut settings.terms));
    settings
}

/// A broker for users with these passwords, or digests of them.
fn with_users(listen: &[&str], users: &[(&str, &str)]) -> BrokerConnection {
    with_terms(listen, |terms| {
        terms.users = roll(users);
        terms.listeners.iter_mut().for_each(|listener| listener.anonymous = false);
    })
}

fn roll(users: &[(&str, &str)]) -> Roll {
    let credential = |text: &str| Credential::read(&Secret::new(text)).unwrap();
    let users = users.iter().map(|(user, text)| ((*user).to_owned(), credential(text)));
    Roll::new(users.collect())
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
        let local = Local::new(Arc::clone(&settings.terms), voice.clone());
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

    /// Goes on with other settings, as a reload has it.
    fn adapt(&self, settings: &BrokerConnection) {
        let shared = Shared::new(Arc::new(mqtt::Broker(Arc::clone(&self.local) as _)));
        settings.adapt(&shared);
    }

    fn reader(&self, name: &str, filters: &[&str], qos: u8, capacity: usize) -> Reader {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let voice = Voice::unheard();
        let manner = Manner::of_qos(qos);
        let wish = Subscribe { reader: name.into(), filters, manner, capacity, voice };
        Reader(self.local.subscribe(wish))
    }

    /// Publishes, and does not wait until the readers have it.
    async fn publish(&self, publication: Publication) {
        let (topic, qos, dues) = (&publication.topic, publication.qos, Dues::default());
        let ways = soon(self.local.ways(topic, qos, Origin::Node)).await;
        let charge = soon(self.local.memory(&ways, &publication)).await;
        let message = Message::of_node(publication, Instant::now());
        soon(self.local.send(message, ways, Origin::Node, &dues, charge)).await.unwrap();
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
    let most = settings.terms.listeners.len();
    local.change(settings.terms);
    let mut broker = Embedded::new(
        Arc::clone(local),
        world,
        Path::new(".").into(),
        &Path::new("no-data").into(),
    );
    let (mut bound, voice) = (broker.bound(), voice.clone());
    let task = tokio::spawn(async move { broker.run(&voice).await });
    let addresses = soon(bound.wait_for(|b| b.len() == most)).await.unwrap().clone();
    soon(local.house()).await.unwrap();
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
async fn while_its_port_is_in_use_a_broker_serves_the_nodes() {
    let first = Running::start(settings(&["127.0.0.1:0"])).await;
    let address = first.addresses[0];
    let (voice, heard) = voice();
    let listen = [&*address.to_string(), "192.0.2.1:1883"];
    let local = Local::new(settings(&listen).terms, voice.clone());
    let mut second = Embedded::new(
        Arc::clone(&local),
        World::system(),
        Path::new(".").into(),
        &Path::new("no-data").into(),
    );
    let mut bound = second.bound();
    let task = tokio::spawn(async move { second.run(&voice).await });
    let second = Running { local, heard, voice: Voice::unheard(), addresses: vec![], task };
    let mut reader = second.reader("a", &["t"], 1, 10).granted().await;
    second.publish(publication("t", "1", 1, false)).await;
    assert_eq!(reader.number().await, 1);
    soon(async {
        while second.heard.said().lasting.len() < 2 {
            yield_now().await
        }
    })
    .await;
    let port = address.port();
    let lasting: Vec<_> = second.heard.said().lasting.into_iter().collect();
    let pair = |what: String, why: String| (what, why);
    let expected = [
        pair(
            format!("the listener at 127.0.0.1:{port}"),
            format!("port {port} of 127.0.0.1 is in use by another program"),
        ),
        pair(
            "the listener at 192.0.2.1:1883".to_owned(),
            "this device does not have the address 192.0.2.1".to_owned(),
        ),
    ];
    assert_eq!(lasting, expected);

    // It listens once the port is free.
    first.stop().await;
    soon(bound.wait_for(|bound| bound.contains(&address))).await.unwrap();
    assert_eq!(second.heard.said().lasting.len(), 1);
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
        let (got, ()) = tokio::join!(inside.next(), device.publish("up/a", "hello", qos, false));
        assert_eq!(got, publication("up/a", "hello", number, false));

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
    let settings = with_users(&["127.0.0.1:0"], &[("plc", "secret")]);
    let broker = Running::start(settings).await;
    let login = async |name: &str, password: &str| {
        let mut options = broker.options("device");
        if !name.is_empty() {
            options.set_credentials(name, password.to_owned());
        }
        Client::connect(options).await.map(|_| ())
    };
    assert!(login("plc", "secret").await.is_ok());
    let (bad, nobody) = (ConnectReturnCode::BadUserNamePassword, ConnectReturnCode::NotAuthorized);
    for (name, password, expected) in
        [("plc", "wrong", bad), ("plc", "", bad), ("other", "secret", bad), ("", "", nobody)]
    {
        let refused = login(name, password).await.unwrap_err();
        let ConnectionError::ConnectionRefused(code) = refused else { panic!("{refused}") };
        assert_eq!(code, expected, "{name}");
    }
    let troubles = broker.heard.said().troubles;
    let who = "with client id `device` from 127.0.0.1";
    let expected = [
        format!("refused a login of user `plc` {who}: bad user name or password"),
        format!("refused a login of user `plc` {who}: bad user name or password"),
        format!("refused a login of user `other` {who}: bad user name or password"),
        format!("refused a login of nobody {who}: it gave no user name"),
    ];
    assert_eq!(troubles, expected);
}

#[tokio::test(start_paused = true)]
async fn guesses_of_a_password_are_slowed_down_and_logged_once() {
    let settings = with_users(&["127.0.0.1:1883"], &[("plc", "secret")]);
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings).await;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let mut stream = dial(&memory).await;
        // A CONNECT of MQTT 3.1.1 with a clean session, a user and a password.
        let body = b"\0\x04MQTT\x04\xc2\0\x3c\0\x01d\0\x03plc\0\x05guess";
        stream.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).await.unwrap();
        let mut connack = [0; 4];
        soon(stream.read_exact(&mut connack)).await.unwrap();
        // 4: bad user name or password.
        assert_eq!((connack[0], connack[3]), (0x20, 4));
        pauses.push(began.elapsed().as_millis());
    }
    let slowed: Vec<_> = pauses.iter().map(|pause| pause / 10 * 10).collect();
    assert_eq!(slowed, [0, 0, 0, 250, 500, 1000, 2000, 4000, 5000]);
    let troubles = broker.heard.said().troubles;
    assert_eq!(troubles.len(), 5, "{troubles:?}");
    assert!(troubles[4].contains("5 times by now; until this address is quiet for 10 minutes"));
}

#[tokio::test]
async fn a_user_cannot_throw_out_the_client_of_another() {
    let settings = with_users(&["127.0.0.1:0"], &[("plc", "secret"), ("guest", "secret")]);
    let broker = Running::start(settings).await;
    let connect = async |user: &str| {
        let mut options = broker.options("pump");
        options.set_credentials(user, "secret");
        Client::connect(options).await
    };
    let mut pump = connect("plc").await.unwrap();
    assert!(connect("guest").await.is_err());
    pump.ping().await;
    let expected = "refused a login of user `guest` with client id `pump` from 127.0.0.1: \
                    the client id is in use by user `plc`";
    assert_eq!(broker.heard.said().troubles, [expected]);
    // Its own user may take it over.
    connect("plc").await.unwrap();
    pump.lost().await;
}

#[tokio::test]
async fn idle_sockets_of_one_address_do_not_lock_a_device_out() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap());
    }
    let refused = "refused a connection from 127.0.0.1: \
                   16 connections of this address have not said who they are";
    soon(async {
        while broker.heard.said().troubles.len() < 104 {
            yield_now().await
        }
    })
    .await;
    assert_eq!(broker.heard.said().troubles[0], refused);
    // A device elsewhere is not concerned.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut elsewhere = soon(socket.connect(broker.addresses[0])).await.unwrap();
    elsewhere.write_all(&connect_for_an_hour("elsewhere")).await.unwrap();
    let mut connack = [0; 4];
    soon(elsewhere.read_exact(&mut connack)).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    // One here gets in as soon as one of these is gone.
    idle.clear();
    soon(async { while Client::connect(broker.options("device")).await.is_err() {} }).await;
}

#[tokio::test]
async fn connections_and_packets_are_bounded() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| {
        terms.max_connections = 1;
        terms.max_packet = Size(2048);
    });
    let broker = Running::start(settings).await;
    let mut first = broker.client("first").await;
    assert!(Client::connect(broker.options("second")).await.is_err());
    let refused = "refused a login of nobody with client id `second` from 127.0.0.1: \
                   `max_connections` reached";
    assert_eq!(broker.heard.said().troubles, [refused]);

    first.client.publish("t", vec![0; 4096], PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    first.lost().await;
    // The place of the first is free again.
    soon(async { while Client::connect(broker.options("third")).await.is_err() {} }).await;
}

#[tokio::test]
async fn remembered_sessions_are_bounded() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| {
        terms.max_connections = 2;
        terms.max_sessions = 4;
    });
    let broker = Running::start(settings).await;
    let remember = async |client_id: &str| {
        let mut options = broker.options(client_id);
        options.set_clean_session(false);
        let mut client = Client::connect(options).await?;
        client.subscribe("t", QoS::AtLeastOnce).await;
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

/// A CONNECT of MQTT 5 with a clean start and a session that outlives the connection for an hour.
fn connect_for_an_hour(client_id: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\x02\0\x3c\x05\x11\0\0\x0e\x10".to_vec();
    body.extend((client_id.len() as u16).to_be_bytes());
    body.extend(client_id.as_bytes());
    [vec![0x10, body.len() as u8], body].concat()
}

#[tokio::test]
async fn a_clean_start_with_a_session_that_lasts_counts_as_a_session() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| {
        terms.max_connections = 2;
        terms.max_sessions = 4;
    });
    let broker = Running::start(settings).await;
    let mut codes = Vec::new();
    for number in 0..6 {
        let mut stream = tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap();
        stream.write_all(&connect_for_an_hour(&format!("device{number}"))).await.unwrap();
        let mut connack = [0; 4];
        soon(stream.read_exact(&mut connack)).await.unwrap();
        codes.push(connack[3]);
        // SUBSCRIBE to `t`, and DISCONNECT. It may be gone by then.
        let _ = stream.write_all(&[0x82, 7, 0, 1, 0, 0, 1, b't', 0, 0xe0, 0]).await;
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    }
    // The rest is told that it is too much.
    assert_eq!(codes, [0, 0, 0, 0, 0x97, 0x97]);
}

/// A PUBLISH of MQTT 3.1.1 at QoS 1 or 2.
fn publish_packet(flags: u8, packet_id: u16, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(packet_id.to_be_bytes());
    body.extend(payload);
    assert!(body.len() < 128);
    [vec![0x30 | flags, body.len() as u8], body].concat()
}

/// A device that sends and reads bytes.
struct Raw(tokio::net::TcpStream);

impl Raw {
    async fn connect(broker: &Running, client_id: &str) -> Raw {
        let mut stream = tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap();
        // No clean session.
        let mut body = b"\0\x04MQTT\x04\0\0\x3c".to_vec();
        body.extend((client_id.len() as u16).to_be_bytes());
        body.extend(client_id.as_bytes());
        stream.write_all(&[vec![0x10, body.len() as u8], body].concat()).await.unwrap();
        let mut connack = [0; 4];
        soon(stream.read_exact(&mut connack)).await.unwrap();
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        Raw(stream)
    }

    async fn send(&mut self, bytes: &[u8]) {
        soon(self.0.write_all(bytes)).await.unwrap();
    }

    /// The packet id of the next acknowledgement, which must be of that kind.
    async fn acknowledged(&mut self, kind: u8) -> u16 {
        let mut packet = [0; 4];
        soon(self.0.read_exact(&mut packet)).await.unwrap();
        assert_eq!(packet[..2], [kind, 2]);
        u16::from_be_bytes([packet[2], packet[3]])
    }

    /// Has an answer of the broker, and nothing before it.
    async fn has_nothing_yet(&mut self) {
        self.send(&[0xc0, 0]).await;
        let mut pong = [0; 2];
        soon(self.0.read_exact(&mut pong)).await.unwrap();
        assert_eq!(pong, [0xd0, 0]);
    }
}

#[tokio::test]
async fn a_message_is_acknowledged_when_every_source_has_delivered_it_and_no_earlier() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut one = broker.reader("one", &["t"], 1, 10).granted().await;
    let mut other = broker.reader("other", &["#"], 2, 10).granted().await;
    let mut unconcerned = broker.reader("unconcerned", &["u"], 2, 10).granted().await;
    let mut device = Raw::connect(&broker, "device").await;
    for number in 1..=3 {
        device.send(&publish_packet(2, number, "t", number.to_string().as_bytes())).await;
    }
    let (first, _held) = (one.take().await, one.take().await);
    first.1.unwrap().settle();
    device.has_nothing_yet().await;
    assert_eq!(other.number().await, 1);
    assert_eq!(device.acknowledged(0x40).await, 1);
    // In their order, whichever is delivered first.
    assert_eq!([one.number().await, other.number().await, other.number().await], [3, 2, 3]);
    device.has_nothing_yet().await;
    _held.1.unwrap().settle();
    assert_eq!([device.acknowledged(0x40).await, device.acknowledged(0x40).await], [2, 3]);
    assert!(unconcerned.is_idle().await);
}

#[tokio::test]
async fn a_device_that_publishes_at_full_speed_is_slowed_down_and_loses_nothing() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut slow = broker.reader("slow", &["t"], 1, 1).granted().await;
    let mut device = Raw::connect(&broker, "device").await;
    const SENT: u16 = 3000;
    let (mut from, mut to) = device.0.split();
    let send = async {
        for number in 1..=SENT {
            let packet = publish_packet(2, number, "t", number.to_string().as_bytes());
            to.write_all(&packet).await.unwrap();
        }
    };
    let read = async {
        for expected in 1..=SENT {
            assert_eq!(slow.number().await, usize::from(expected));
        }
    };
    let acknowledged = async {
        for expected in 1..=SENT {
            let mut packet = [0; 4];
            from.read_exact(&mut packet).await.unwrap();
            assert_eq!(packet, [0x40, 2, (expected >> 8) as u8, expected as u8]);
        }
    };
    soon(async { tokio::join!(send, read, acknowledged) }).await;
    assert_eq!(broker.heard.figure(Figure::Dropped), 0);
}

#[tokio::test]
async fn a_device_has_no_more_than_so_many_messages_open_and_stays_connected() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut slow = broker.reader("slow", &["t"], 1, 1000).granted().await;
    let mut device = Raw::connect(&broker, "device").await;
    let sent = MOST_UNACKNOWLEDGED + 50;
    for number in 1..=sent {
        device.send(&publish_packet(2, number, "t", number.to_string().as_bytes())).await;
    }
    let mut open = Vec::new();
    for _ in 0..MOST_UNACKNOWLEDGED {
        open.push(slow.take().await.1.unwrap());
    }
    assert!(slow.is_idle().await);
    for claim in open {
        claim.settle();
    }
    for expected in 1..=MOST_UNACKNOWLEDGED {
        assert_eq!(device.acknowledged(0x40).await, expected);
    }
    for expected in MOST_UNACKNOWLEDGED + 1..=sent {
        assert_eq!(slow.number().await, usize::from(expected));
        assert_eq!(device.acknowledged(0x40).await, expected);
    }
}

#[tokio::test]
async fn what_a_device_sends_again_is_not_delivered_twice_while_a_source_has_it() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut reader = broker.reader("a", &["t"], 2, 10).granted().await;
    const DUP: u8 = 8;
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(2, 1, "t", b"1")).await;
    device.send(&publish_packet(4, 2, "t", b"2")).await;
    let first = reader.take().await;
    drop(device);
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(2 | DUP, 1, "t", b"1")).await;
    device.send(&publish_packet(4 | DUP, 2, "t", b"2")).await;
    device.has_nothing_yet().await;
    first.1.unwrap().settle();
    assert_eq!(device.acknowledged(0x40).await, 1);
    assert_eq!(reader.number().await, 2);
    assert_eq!(device.acknowledged(0x50).await, 2);
    // It did not get that.
    drop(device);
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(4 | DUP, 2, "t", b"2")).await;
    assert_eq!(device.acknowledged(0x50).await, 2);
    device.send(&[0x62, 2, 0, 2]).await;
    assert_eq!(device.acknowledged(0x70).await, 2);
    assert!(reader.is_idle().await);
    // The id is free again.
    device.send(&publish_packet(4, 2, "t", b"3")).await;
    assert_eq!(reader.number().await, 3);
}

#[tokio::test]
async fn a_message_of_qos_2_that_was_settled_while_its_device_was_away_came_twice() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut reader = broker.reader("a", &["t"], 2, 10).granted().await;
    let mut device = Raw::connect(&broker, "device").await;
    device.send(&publish_packet(4, 2, "t", b"1")).await;
    let (_, claim) = reader.take().await;
    drop(device);
    claim.unwrap().settle();
    let mut device = Raw::connect(&broker, "device").await;
    for _ in 0..2 {
        device.send(&publish_packet(4 | 8, 2, "t", b"1")).await;
        assert_eq!(device.acknowledged(0x50).await, 2);
    }
    assert!(reader.is_idle().await);
}

fn will(topic: &str, payload: &str) -> LastWill {
    let (topic, message) = (topic.to_owned(), payload.to_owned().into());
    LastWill { topic, message, qos: QoS::AtLeastOnce, retain: false }
}

#[tokio::test]
async fn the_will_of_a_device_reaches_nodes_and_devices_as_it_was_meant() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut inside = broker.reader("a", &["#"], 1, 10).granted().await;
    let mut other = broker.client("other").await;
    other.subscribe("#", QoS::AtLeastOnce).await;
    let mut options = broker.options("device");
    options.set_last_will(LastWill { retain: true, ..will("state/device", "gone") });
    let device = Client::connect(options).await.unwrap();
    drop(device);
    assert_eq!(inside.next().await, publication("state/device", "gone", 1, false));
    let got = other.next().await;
    assert_eq!((&got.topic[..], &got.payload[..]), (&b"state/device"[..], &b"gone"[..]));
    let mut late = broker.reader("late", &["state/+"], 1, 10).granted().await;
    assert_eq!(late.next().await, publication("state/device", "gone", 1, true));
    assert!(inside.is_idle().await);
}

/// A SUBSCRIBE of MQTT 3.1.1 at QoS 1.
fn subscribe_packet(filter: &str) -> Vec<u8> {
    let size = filter.len() as u8;
    [&[0x82, size + 5, 0, 1, 0, size], filter.as_bytes(), &[1]].concat()
}

#[tokio::test]
async fn a_device_does_not_see_how_the_broker_passes_wills_on() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut curious = Raw::connect(&broker, "curious").await;
    let mut granted = async |filter: &str| {
        curious.send(&subscribe_packet(filter)).await;
        let mut suback = [0; 5];
        soon(curious.0.read_exact(&mut suback)).await.unwrap();
        assert_eq!(suback[..2], [0x90, 3]);
        suback[4]
    };
    for filter in [
        "$forebay/#",
        "$forebay/will/+/state",
        "$forebay/will/kept/state",
        "$share/group/$forebay/#",
    ] {
        assert_eq!(granted(filter).await, 0x80, "{filter}");
    }
    for filter in ["#", "+/+/+/state", "$share/group/#"] {
        assert_eq!(granted(filter).await, 1, "{filter}");
    }
    let mut inside = broker.reader("a", &["#", "$forebay/#"], 1, 10).granted().await;
    let mut options = broker.options("device");
    options.set_last_will(will("state", "gone"));
    drop(Client::connect(options).await.unwrap());
    assert_eq!(inside.next().await, publication("state", "gone", 1, false));
    // `#` and the shared one; nothing was before these.
    for _ in 0..2 {
        let mut got = [0; 15];
        soon(curious.0.read_exact(&mut got)).await.unwrap();
        assert_eq!(got[..9], *b"\x32\x0d\0\x05state");
    }
    curious.has_nothing_yet().await;

    // Nor can it make one up.
    curious.send(&publish_packet(2, 1, "$forebay/will/kept/state", b"1")).await;
    soon(curious.0.read_to_end(&mut Vec::new())).await.unwrap();
    let batch = vec![publication("$forebay/will/kept/state", "1", 1, false)];
    let refused = soon(broker.local.publish(batch, Progress::default())).await.unwrap_err();
    assert!(matches!(refused, WriteError::Reject(_)), "{refused:?}");
    assert!(inside.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn a_will_for_a_full_source_does_not_hold_up_those_behind_it() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings(&["127.0.0.1:1883"])).await;
    let _full = broker.reader("full", &["state", "fill"], 1, 1).granted().await;
    let mut other = broker.reader("other", &["state"], 1, 10).granted().await;
    for _ in 0..4 {
        broker.publish(publication("fill", &"x".repeat(1 << 20), 1, false)).await;
    }
    let began = Instant::now();
    for number in 0..10 {
        // A CONNECT of MQTT 3.1.1 with a clean session and a will at QoS 1.
        let mut body = b"\0\x04MQTT\x04\x0e\0\0\0\x01d\0\x05state\0\x01".to_vec();
        body.push(b'0' + number);
        let mut stream = dial(&memory).await;
        stream.write_all(&[vec![0x10, body.len() as u8], body].concat()).await.unwrap();
        soon(stream.read_exact(&mut [0; 4])).await.unwrap();
    }
    for number in 0..10 {
        assert_eq!(other.next().await, publication("state", &number.to_string(), 1, false));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(broker.heard.figure(Figure::Dropped), 10);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_reads_no_answers_is_not_read_without_end() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings(&["127.0.0.1:1883"])).await;
    let mut device = dial(&memory).await;
    device.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01d").await.unwrap();
    soon(device.read_exact(&mut [0; 4])).await.unwrap();
    // PUBREL of what was never published is answered all the same.
    let releases = b"\x62\x02\0\x01".repeat(1000);
    let mut sent = 0;
    while sent < 1000 && timeout(Duration::from_secs(10), device.write_all(&releases)).await.is_ok()
    {
        sent += 1;
    }
    assert!(sent < 1000, "a million answers wait for it");
    // Once it reads, it is read.
    soon(device.read_exact(&mut vec![0; 4 * MOST_ANSWERS])).await.unwrap();
    soon(device.write_all(&releases)).await.unwrap();
    drop(broker);
}

#[tokio::test]
async fn a_device_with_mqtt_5_does_not_learn_who_published() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    let mut device = tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap();
    device.write_all(&connect_for_an_hour("five")).await.unwrap();
    // SUBSCRIBE to `t` at QoS 0.
    device.write_all(&[0x82, 7, 0, 1, 0, 0, 1, b't', 0]).await.unwrap();
    let mut got = Vec::new();
    let suback = [0x90, 4, 0, 1, 0, 0];
    soon(async {
        while !got.ends_with(&suback) {
            device.read_buf(&mut got).await.unwrap();
        }
    })
    .await;
    let mut publisher = broker.client("publisher").await;
    publisher.publish("t", "x", QoS::AtLeastOnce, false).await;
    let mut publish = [0; 7];
    soon(device.read_exact(&mut publish)).await.unwrap();
    assert_eq!(publish, [0x30, 5, 0, 1, b't', 0, b'x']);
}

#[tokio::test]
async fn what_is_retained_counts_with_its_properties() {
    let settings = with_terms(&[], |terms| terms.max_retained_bytes = Some(Size(64 << 10)));
    let broker = Running::start(settings).await;
    let user = vec![("note".to_owned(), "x".repeat(60_000)); 2];
    let properties = Properties { user, ..Properties::default() };
    let mut reader = broker.reader("a", &["t"], 1, 10).granted().await;
    broker.publish(publication("t", "1", 1, true).properties(properties)).await;
    assert_eq!(reader.next().await.payload, "1");
    let mut late = broker.reader("late", &["t"], 1, 10).granted().await;
    assert!(late.is_idle().await);
    let troubles = broker.heard.said().troubles;
    let expected = "passed on without keeping it for later subscribers, who get the one before: a retained message for `t`: it \
                    takes 120276 bytes, and 0B of 64KiB are taken (`max_retained_bytes`)";
    assert_eq!(troubles, [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_publishes_waits_until_the_sources_behind_have_delivered() {
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
    let (written, ()) = tokio::join!(broker.local.publish(batch, Progress::default()), read);
    written.unwrap();
    assert_eq!(broker.heard.figure(Figure::Dropped), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_writes_again_is_not_delivered_twice_while_a_source_has_it() {
    let broker = Running::start(settings(&[])).await;
    let mut stuck = broker.reader("stuck", &["t"], 1, 10).granted().await;
    let batch = || (0..4).map(|number| publication("t", &number.to_string(), 1, false)).collect();
    let first = stuck.0.next();
    let (failed, first) = tokio::join!(broker.local.publish(batch(), Progress::default()), async {
        let mqtt::Event::Parcel(parcel) = first.await else { panic!("a message") };
        parcel.claim.unwrap().settle();
    });
    let () = first;
    let WriteError::Retry { error, taken: 1, .. } = failed.unwrap_err() else { panic!("retry") };
    let expected = "the pipeline behind a source on this broker takes too long";
    assert_eq!(error.to_string(), expected);
    let rest: Vec<Publication> = batch();
    let (written, ()) =
        tokio::join!(broker.local.publish(rest[1..].to_vec(), Progress::default()), async {
            for expected in 1..4 {
                assert_eq!(stuck.number().await, expected);
            }
        });
    written.unwrap();
    assert!(stuck.is_idle().await);
}

#[tokio::test(start_paused = true)]
async fn of_those_who_share_a_subscription_one_gets_a_message() {
    let broker = Running::start(settings(&[])).await;
    let mut one = broker.reader("one", &["$share/g/t"], 1, 10).granted().await;
    let other = broker.reader("other", &["$share/g/t"], 1, 10).granted().await;
    let mut other = other;
    for number in 0..4 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
    }
    let mut got =
        [one.number().await, one.number().await, other.number().await, other.number().await];
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3]);
    // One who is there comes before one who is not.
    drop(other);
    for number in 4..6 {
        broker.publish(publication("t", &number.to_string(), 1, false)).await;
        assert_eq!(one.number().await, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_matches_several_filters_of_a_source_comes_once() {
    let broker = Running::start(settings(&[])).await;
    let mut reader = broker.reader("a", &["t", "+", "#"], 1, 10).granted().await;
    broker.publish(publication("t", "1", 1, false)).await;
    assert_eq!(reader.number().await, 1);
    assert!(reader.is_idle().await);
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
    let reader = broker.reader("a", &["t", "u/#"], 1, 10).granted().await;
    drop(reader);
    broker.publish(publication("t", "0", 1, false)).await;
    broker.publish(publication("t", "0", 0, false)).await;
    tokio::time::sleep(HOLD + Duration::from_secs(11)).await;
    assert_eq!(broker.heard.figure(Figure::Dropped), 1);

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
    let failed = soon(local.publish(vec![publication("t", "x", 1, false)], Progress::default()))
        .await
        .unwrap_err();
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
    let refused = soon(broker.local.publish(batch, Progress::default())).await.unwrap_err();
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

#[tokio::test]
async fn in_a_world_in_memory_devices_reach_the_broker_too() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings(&["127.0.0.1:1883"])).await;
    let mut stream = dial(&memory).await;
    stream.write_all(&connect_for_an_hour("device")).await.unwrap();
    let mut connack = [0; 4];
    soon(stream.read_exact(&mut connack)).await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    drop(broker);
}

async fn dial(memory: &Memory) -> Box<dyn Stream> {
    let to = Endpoint { host: "127.0.0.1".to_owned(), port: 1883 };
    memory.world().connect(Dial::new(to)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_who_it_is_is_disconnected() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings(&["127.0.0.1:1883"])).await;
    let began = Instant::now();
    // One says nothing, the other begins to.
    let (mut silent, mut slow) = (dial(&memory).await, dial(&memory).await);
    slow.write_all(&connect_for_an_hour("device")[..9]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0);
    }
    assert_eq!(began.elapsed().as_secs(), 10);
    soon(async {
        while broker.heard.said().troubles.len() < 2 {
            yield_now().await
        }
    })
    .await;
    let said = "serving 127.0.0.1: it did not say who it is: deadline has elapsed";
    assert_eq!(broker.heard.said().troubles, [said; 2]);
}

#[tokio::test]
async fn a_retained_message_that_did_not_fit_took_the_one_before_away() {
    let settings =
        with_terms(&["127.0.0.1:0"], |terms| terms.max_retained_bytes = Some(Size(1 << 10)));
    let broker = Running::start(settings).await;
    let mut device = broker.client("device").await;
    device.publish("t", "small", QoS::AtLeastOnce, true).await;
    let large = "x".repeat(2000);
    device.publish("t", &large, QoS::AtLeastOnce, true).await;
    let mut late = broker.client("late").await;
    late.subscribe("t", QoS::AtLeastOnce).await;
    assert_eq!(late.next().await.payload, "small");

    // With MQTT 5 its sender is told, and nobody gets it.
    let mut stream = tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap();
    let connect = b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01d";
    let body = [&b"\0\x01t\0\x01\0"[..], large.as_bytes()].concat();
    let head = [0x33, (body.len() & 0x7f | 0x80) as u8, (body.len() >> 7) as u8];
    stream.write_all(&[&connect[..], &head, &body].concat()).await.unwrap();
    let mut got = Vec::new();
    soon(async {
        while !got.ends_with(b"\x40\x03\0\x01\x97") {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{got:x?}");
        }
    })
    .await;
    device.publish("t", "last", QoS::AtLeastOnce, false).await;
    assert_eq!(late.next().await.payload, "last");
}

#[tokio::test]
async fn the_broker_says_how_it_is_and_only_who_asks_for_that_hears_it() {
    let settings = with_terms(&["127.0.0.1:0"], |terms| {
        terms.status_every = Some(Duration::from_millis(20));
        terms.max_retained = 0;
    });
    let broker = Running::start(settings).await;
    let mut all = broker.client("all").await;
    all.subscribe("#", QoS::AtLeastOnce).await;
    let mut asks = broker.client("asks").await;
    asks.subscribe("$SYS/broker/clients/+", QoS::AtLeastOnce).await;
    soon(async {
        loop {
            let said = asks.next().await;
            if said.topic == "$SYS/broker/clients/connected" && said.payload == "2" {
                break;
            }
        }
    })
    .await;
    let mut inside = broker.reader("inside", &["$SYS/broker/version"], 1, 10).granted().await;
    let version = inside.next().await;
    assert!(version.payload.starts_with(b"forebay version "), "{version:?}");

    // Nobody else speaks there, but for bridges that say they are there.
    all.publish("$SYS/broker/clients/connected", "99", QoS::AtLeastOnce, false).await;
    all.publish("$SYS/broker/connection/b/state", "1", QoS::AtLeastOnce, false).await;
    all.publish("end", "", QoS::AtLeastOnce, false).await;
    let threw = "threw away what the client `all` published to `$SYS/broker/clients/connected`";
    assert!(broker.heard.said().troubles[0].starts_with(threw));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_publishes_faster_than_it_may_is_slowed_down_and_loses_nothing() {
    let settings = with_terms(&["127.0.0.1:1883"], |terms| {
        terms.max_rate = Some(Duration::from_millis(100));
    });
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings).await;
    let mut inside = broker.reader("inside", &["t"], 1, 100).granted().await;
    let mut stream = dial(&memory).await;
    stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01d").await.unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        stream.write_all(&publish_packet(0, 0, "t", b"1")).await.unwrap();
    }
    for _ in 0..50 {
        inside.next().await;
    }
    let passed = began.elapsed();
    assert!((4..6).contains(&passed.as_secs()), "{passed:?}");
}

#[tokio::test]
async fn a_node_gets_nothing_of_nodes_nothing_retained_and_knows_what_was() {
    let broker = Running::start(settings(&["127.0.0.1:0"])).await;
    broker.publish(publication("t", "kept", 1, true)).await;
    let with = |name: &str, change: fn(&mut Manner)| {
        let mut manner = Manner::of_qos(1);
        change(&mut manner);
        let (filters, voice) = (vec!["t".to_owned()], Voice::unheard());
        let wish = Subscribe { reader: name.into(), filters, manner, capacity: 10, voice };
        Reader(broker.local.subscribe(wish))
    };
    let mut not_own = with("not own", |manner| manner.no_local = true).granted().await;
    let mut as_published =
        with("as published", |manner| manner.retain_as_published = true).granted().await;
    let mut never = with("never", |manner| manner.retained = mqtt::Retained::Never).granted().await;
    assert_eq!(not_own.next().await, publication("t", "kept", 1, true));
    assert_eq!(as_published.next().await, publication("t", "kept", 1, true));
    broker.publish(publication("t", "of a node", 1, true)).await;
    assert_eq!(as_published.next().await, publication("t", "of a node", 1, true));
    assert_eq!(never.next().await, publication("t", "of a node", 1, false));
    let mut device = broker.client("device").await;
    let options = PublishOptions::new(QoS::AtLeastOnce).retain(true);
    device.client.publish("t", "of a device", options).await.unwrap();
    let (got, ()) = tokio::join!(not_own.next(), device.ping());
    assert_eq!(got, publication("t", "of a device", 1, false));
}
