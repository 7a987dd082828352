//! Stands between one device and mqtt5.
//!
//! What a device publishes is handled here, since mqtt5 acknowledges before the pipelines have a
//! message: it goes to its readers, and its acknowledgement leaves once they have settled it. While
//! too much is open, the device is not read. All else passes through.

use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use forebay_sdk::{Figure, Voice, world::Stream};
use mqtt5::{
    Packet, PacketType, PropertyId, PropertyValue, QoS,
    broker::transport::BrokerTransport,
    packet::{connack::ConnAckPacket, connect::ConnectPacket, publish::PublishPacket},
    protocol::v5::reason_codes::ReasonCode,
    transport::packet_io::encode_packet_to_buffer,
};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep_until, timeout},
};

use crate::{
    dues::{Dues, puback, pubcomp, pubrec},
    house::{House, MOST_ALIASES},
    local::Local,
    packets::{Packets, decode},
    private::is_private,
    properties::publication_of,
    wills,
};

/// How long a device may take to say who it is.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// How long the last bytes for a device may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often mqtt5 hears that a device is there, when that asks for no keep-alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);
const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];

/// Serves one device until it leaves.
///
/// # Errors
///
/// What the device did wrong, with its name as far as it is known.
pub async fn serve(
    stream: Box<dyn Stream>,
    from: SocketAddr,
    house: &House,
    local: Arc<Local>,
    voice: Voice,
) -> anyhow::Result<()> {
    let (device_in, device_out) = split(stream);
    let mut device_in = Packets::of_device(device_in, house.max_packet(), voice.clone());
    let first = timeout(LONGEST_CONNECT, device_in.next()).await;
    let Some(first) = first.context("it did not say who it is")?? else { return Ok(()) };
    let (near, far) = pair().context("making a way to the broker")?;
    let (broker_in, broker_out) = near.into_split();
    let handler = house.serve(BrokerTransport::tcp(far), from);
    let gate = async move {
        let broker_in = Packets::of_broker(broker_in);
        pass(first, (device_in, device_out), (broker_in, broker_out), &local, &voice).await
    };
    let (mut gate, mut handler) = (pin!(gate), pin!(handler));
    tokio::select! {
        // mqtt5 sees that its side is closed, and publishes a will.
        passed = &mut gate => {
            handler.await;
            passed
        }
        () = &mut handler => timeout(LAST_WORDS, gate).await.unwrap_or(Ok(())),
    }
}

/// Two ends of one stream. mqtt5 takes sockets of TCP and nothing else, and this is as good as one.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let (near, far) = UnixStream::pair()?;
    let stream = |end: UnixStream| {
        end.set_nonblocking(true)?;
        TcpStream::from_std(OwnedFd::from(end).into())
    };
    Ok((stream(near)?, stream(far)?))
}

type Device = (Packets<ReadHalf<Box<dyn Stream>>>, WriteHalf<Box<dyn Stream>>);
type Broker = (Packets<OwnedReadHalf>, OwnedWriteHalf);

/// Passes packets until one side is gone.
async fn pass(
    first: Bytes,
    device: Device,
    broker: Broker,
    local: &Arc<Local>,
    voice: &Voice,
) -> anyhow::Result<()> {
    let ((device_in, device_out), (mut broker_in, mut broker_out)) = (device, broker);
    let mut out = Outgoing { to: device_out, voice };
    // What is no CONNECT, mqtt5 has an answer to.
    let mut connect = match decode(&first, 5) {
        Ok(Packet::Connect(connect)) => Some(*connect),
        _ => None,
    };
    broker_out.write_all(&with_will_sent_here(first, connect.as_mut())?).await?;
    let Some(answer) = broker_in.next().await? else { return Ok(()) };
    out.send(&answer).await?;
    let Some(hello) = connect.as_ref().and_then(|connect| Hello::new(connect, &answer)) else {
        // It is refused.
        while let Some(packet) = broker_in.next().await? {
            out.send(&packet).await?;
        }
        return Ok(());
    };

    let dues = local.dues(&hello.client_id);
    let session = Session { number: dues.enter(), dues };
    if !hello.is_resumed {
        session.dues.forget_unfinished();
    }
    let swallow = AtomicUsize::new(0);
    let name = hello.client_id.clone();
    let incoming = Incoming {
        from: device_in,
        to: broker_out,
        alive_at: Instant::now(),
        alive_every: hello.alive_every,
        aliases: vec![None; usize::from(MOST_ALIASES)],
        hello,
        dues: &session.dues,
        swallow: &swallow,
        local,
    };
    tokio::select! {
        read = incoming.run() => read,
        written = out.run(broker_in, &session, &swallow) => written,
    }
    .with_context(|| format!("device with client id `{name}`"))
}

fn with_will_sent_here(first: Bytes, connect: Option<&mut ConnectPacket>) -> anyhow::Result<Bytes> {
    let Some(connect) = connect.filter(|connect| connect.will.is_some()) else { return Ok(first) };
    wills::send_here(connect);
    let mut bytes = BytesMut::with_capacity(first.len() + wills::LONGEST_PREFIX);
    encode_packet_to_buffer(&Packet::Connect(Box::new(connect.clone())), &mut bytes)
        .map_err(|error| anyhow!("{error}"))?;
    Ok(bytes.freeze())
}

/// The dues of a device, while this connection is its last.
struct Session {
    dues: Arc<Dues>,
    number: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.dues.leave(self.number);
    }
}

/// Who a device is, once it is in.
struct Hello {
    client_id: String,
    version: u8,
    /// Its session is one that it had before.
    is_resumed: bool,
    alive_every: Duration,
}

impl Hello {
    /// None when it is refused.
    fn new(connect: &ConnectPacket, answer: &[u8]) -> Option<Hello> {
        let version = connect.protocol_version;
        let Ok(Packet::ConnAck(answer)) = decode(answer, version) else { return None };
        if answer.reason_code != ReasonCode::Success {
            return None;
        }
        let client_id = match connect.client_id.is_empty() {
            true => assigned(&answer).unwrap_or_default(),
            false => connect.client_id.clone(),
        };
        let alive_every = match connect.keep_alive {
            0 => SIGN_OF_LIFE,
            seconds => Duration::from_secs(seconds.into()) / 2,
        };
        Some(Hello { client_id, version, is_resumed: answer.session_present, alive_every })
    }
}

fn assigned(answer: &ConnAckPacket) -> Option<String> {
    match answer.properties.get(PropertyId::AssignedClientIdentifier)? {
        PropertyValue::Utf8String(id) => Some(id.clone()),
        _ => None,
    }
}

/// What goes to a device.
struct Outgoing<'a> {
    to: WriteHalf<Box<dyn Stream>>,
    voice: &'a Voice,
}

impl Outgoing<'_> {
    async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.to.write_all(bytes).await?;
        self.voice.count(Figure::BytesOut, bytes.len() as u64);
        Ok(())
    }

    /// Sends what mqtt5 has for the device, and what it is owed by us.
    async fn run(
        &mut self,
        mut from: Packets<OwnedReadHalf>,
        session: &Session,
        swallow: &AtomicUsize,
    ) -> anyhow::Result<()> {
        loop {
            // It hears of what happens from here on.
            let told = session.dues.told();
            let paid = session.dues.pay(session.number);
            if !paid.is_empty() {
                self.send(&paid).await?;
            }
            tokio::select! {
                packet = from.next() => match packet? {
                    None => return Ok(()),
                    Some(packet) if packet[..] == PINGRESP && take_one(swallow) => (),
                    Some(packet) => self.send(&packet).await?,
                },
                () = told => (),
            }
        }
    }
}

fn take_one(number: &AtomicUsize) -> bool {
    let less = |number: usize| number.checked_sub(1);
    number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}

/// What comes from a device.
struct Incoming<'a> {
    from: Packets<ReadHalf<Box<dyn Stream>>>,
    to: OwnedWriteHalf,
    /// When mqtt5 last heard of the device.
    alive_at: Instant,
    alive_every: Duration,
    /// Topics that MQTT 5 has a number for.
    aliases: Vec<Option<String>>,
    hello: Hello,
    dues: &'a Dues,
    /// Answers to our own signs of life.
    swallow: &'a AtomicUsize,
    local: &'a Local,
}

impl Incoming<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        while let Some(packet) = self.from.next().await? {
            match PacketType::from_u8(packet[0] >> 4) {
                Some(PacketType::Publish) => self.publish(&packet).await?,
                Some(PacketType::PubRel) => {
                    let Packet::PubRel(release) = decode(&packet, self.hello.version)? else {
                        bail!("it sent a packet that is none of MQTT");
                    };
                    let dues = self.dues;
                    dues.release(release.packet_id);
                    self.while_alive(dues.room_to_answer()).await?;
                    dues.answer(pubcomp(release.packet_id));
                }
                _ => {
                    self.to.write_all(&packet).await?;
                    self.alive_at = Instant::now();
                }
            }
            if self.alive_at.elapsed() >= self.alive_every {
                self.sign_of_life().await?;
            }
        }
        Ok(())
    }

    async fn publish(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        let Packet::Publish(mut publish) = decode(packet, self.hello.version)? else {
            bail!("it sent a packet that is none of MQTT");
        };
        self.resolve_alias(&mut publish)?;
        check(&publish)?;
        let (dues, local) = (self.dues, self.local);
        let packet_id = publish.packet_id.unwrap_or_default();
        let answer = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(puback(packet_id)),
            QoS::ExactlyOnce if dues.is_unfinished(packet_id) => {
                self.while_alive(dues.room_to_answer()).await?;
                dues.answer(pubrec(packet_id));
                return Ok(());
            }
            QoS::ExactlyOnce => Some(pubrec(packet_id)),
        };
        let Some(answer) = answer else {
            let ways = local.ways(&publish.topic_name, 0).await;
            let client_id = self.hello.client_id.clone();
            let publish = async { local.send(publish, ways, Some(&client_id), dues).await };
            self.while_alive(publish).await??;
            return Ok(());
        };
        let owed = publication_of(&publish, publish.qos as u8);
        let known = publish.dup.then(|| dues.again(&owed)).flatten();
        let receipt = match known {
            Some(receipt) => receipt,
            None => {
                let client_id = self.hello.client_id.clone();
                let publish = async {
                    dues.room().await;
                    let ways = local.ways(&publish.topic_name, publish.qos as u8).await;
                    local.send(publish, ways, Some(&client_id), dues).await
                };
                self.while_alive(publish).await??
            }
        };
        dues.owe(answer, owed, receipt);
        Ok(())
    }

    /// Waits, and tells mqtt5 meanwhile that the device is there: it is us who do not read it.
    async fn while_alive<T>(&mut self, what: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return Ok(done),
                () = sleep_until(self.alive_at + self.alive_every) => self.sign_of_life().await?,
            }
        }
    }

    async fn sign_of_life(&mut self) -> anyhow::Result<()> {
        self.swallow.fetch_add(1, Ordering::Relaxed);
        self.to.write_all(&PINGREQ).await?;
        self.alive_at = Instant::now();
        Ok(())
    }

    /// Gives a publication the topic for which its number stands (MQTT 5 section 3.3.2.3.4).
    fn resolve_alias(&mut self, publish: &mut PublishPacket) -> anyhow::Result<()> {
        let Some(alias) = publish.topic_alias() else { return Ok(()) };
        let index = usize::from(alias).wrapping_sub(1);
        let known = self.aliases.get_mut(index);
        let known = known.with_context(|| format!("it used the topic alias {alias}"))?;
        match publish.topic_name.is_empty() {
            true => {
                let unknown = || format!("it used the topic alias {alias}, which it did not set");
                publish.topic_name = known.clone().with_context(unknown)?;
            }
            false => *known = Some(publish.topic_name.clone()),
        }
        publish.properties.remove_topic_alias();
        Ok(())
    }
}

/// What a publication must keep to (MQTT 5 section 3.3).
fn check(publish: &PublishPacket) -> anyhow::Result<()> {
    let topic = &publish.topic_name;
    let is_topic = |topic: &str| mqtt5::validate_topic_name(topic).is_ok();
    if !is_topic(topic) {
        bail!("it published to `{topic}`, which is no topic");
    }
    if is_private(topic) {
        bail!("it published to `{topic}`, and what begins with `$forebay/` is the broker's own");
    }
    if let Some(PropertyValue::Utf8String(topic)) =
        publish.properties.get(PropertyId::ResponseTopic)
        && !is_topic(topic)
    {
        bail!("it asked for an answer at `{topic}`, which is no topic");
    }
    if publish.properties.contains(PropertyId::SubscriptionIdentifier) {
        bail!("it published with a subscription identifier");
    }
    if publish.packet_id == Some(0) {
        bail!("it published with the packet id 0");
    }
    Ok(())
}
