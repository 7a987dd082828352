//! The other side of a connection, by hand: a broker that does just what a test says.

use bytes::BytesMut;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode,
    mqttbytes,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Door, Listener, soon};

const MOST_BYTES: usize = 1 << 22;

/// A port where connections of the client come in.
pub struct Port(TcpListener);

impl Port {
    pub async fn open() -> Port {
        Port(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.number())
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        soon(self.0.accept()).await.unwrap().0
    }

    pub async fn accept(&self) -> Peer {
        Peer::new(self.accept_tcp().await)
    }
}

/// The next connection that comes to a place in memory.
pub async fn at(door: &Door) -> Peer {
    Peer::new(soon(door.accept()).await.unwrap().0)
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
}

impl Peer {
    pub fn new(stream: impl Stream + 'static) -> Peer {
        Peer { stream: Box::new(stream), buffer: BytesMut::new() }
    }

    /// The next packet, or None when the client is gone.
    pub async fn try_recv(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, MOST_BYTES) {
                Ok(packet) => return Some(packet),
                Err(mqttbytes::Error::InsufficientBytes(_)) => (),
                Err(error) => panic!("{error}"),
            }
            if soon(self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn recv(&mut self) -> Packet {
        self.try_recv().await.expect("the client is there")
    }

    pub async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, MOST_BYTES).unwrap();
        soon(self.stream.write_all(&bytes)).await.unwrap();
    }

    /// Takes the CONNECT and answers it.
    pub async fn greet(&mut self, code: ConnectReturnCode, session_present: bool) -> Connect {
        let Packet::Connect(connect) = self.recv().await else { panic!("CONNECT comes first") };
        self.send(Packet::ConnAck(ConnAck::new(code, session_present))).await;
        connect
    }

    pub async fn welcome(&mut self, session_present: bool) -> Connect {
        self.greet(ConnectReturnCode::Success, session_present).await
    }

    /// Takes a SUBSCRIBE and grants each filter but `refused`.
    pub async fn grant(&mut self, refused: &str) -> Vec<(String, u8)> {
        let Packet::Subscribe(subscribe) = self.recv().await else { panic!("expected SUBSCRIBE") };
        let answers = subscribe.filters.iter().map(|filter| match filter.path == refused {
            true => SubscribeReasonCode::Failure,
            false => SubscribeReasonCode::Success(filter.qos),
        });
        self.send(Packet::SubAck(SubAck::new(subscribe.pkid, answers.collect()))).await;
        subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos as u8)).collect()
    }

    /// Sends a message under a packet id.
    pub async fn publish(&mut self, topic: &str, payload: &str, qos: QoS, packet: u16) {
        self.publish_marked(topic, payload, qos, packet, false).await;
    }

    pub async fn publish_marked(
        &mut self,
        topic: &str,
        payload: &str,
        qos: QoS,
        packet: u16,
        dup: bool,
    ) {
        let mut publish = Publish::new(topic, qos, payload);
        (publish.pkid, publish.dup) = (packet, dup);
        self.send(Packet::Publish(publish)).await;
    }

    /// Takes a PUBLISH of QoS 1 and acknowledges it.
    pub async fn acknowledge(&mut self) -> Publish {
        let publish = self.published().await;
        self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
        publish
    }

    pub async fn published(&mut self) -> Publish {
        match self.recv().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// The packet id of the PUBACK that must come next.
    pub async fn acknowledged(&mut self) -> u16 {
        match self.recv().await {
            Packet::PubAck(ack) => ack.pkid,
            other => panic!("expected PUBACK, got {other:?}"),
        }
    }
}
