//! A client that goes beyond a limit is told why, in MQTT 5, and nobody else notices.

use super::*;
use crate::{serve::MOST_ALIASES, wire::code};

/// A packet: its first byte, and what follows its length.
type Packet5 = (u8, Vec<u8>);

/// Who goes beyond.
struct Offender {
    stream: tokio::net::TcpStream,
}

impl Offender {
    /// Connects with these properties; what it is answered.
    async fn greeted(broker: &Running, client_id: &str, properties: &[u8]) -> (Offender, Packet5) {
        let stream = tokio::net::TcpStream::connect(broker.addresses[0]).await.unwrap();
        let mut offender = Offender { stream };
        let properties = [&[properties.len() as u8], properties].concat();
        let id = [&(client_id.len() as u16).to_be_bytes(), client_id.as_bytes()].concat();
        let body = [&b"\0\x04MQTT\x05\x02\0\0"[..], &properties, &id].concat();
        offender.send(0x10, &body).await;
        let said = offender.next().await.expect("it is answered");
        (offender, said)
    }

    /// Lets it in.
    async fn connect(broker: &Running, client_id: &str, properties: &[u8]) -> Offender {
        let (offender, said) = Offender::greeted(broker, client_id, properties).await;
        assert_eq!((said.0, said.1[1]), (0x20, 0), "{client_id} gets in");
        offender
    }

    async fn send(&mut self, first: u8, body: &[u8]) {
        let mut bytes = vec![first];
        let mut length = body.len();
        while length > 127 {
            bytes.push(length as u8 & 0x7f | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(body);
        // The broker may have had enough before it is all there.
        let _ = soon(self.stream.write_all(&bytes)).await;
    }

    async fn publish(&mut self, topic: &str, flags: u8, id: u16, payload: &[u8]) {
        let mut body = [&(topic.len() as u16).to_be_bytes(), topic.as_bytes()].concat();
        if flags & 0x06 > 0 {
            body.extend(id.to_be_bytes());
        }
        body.push(0);
        body.extend(payload);
        self.send(0x30 | flags, &body).await;
    }

    async fn subscribe(&mut self, filter: &str, qos: u8) {
        let filter = [&(filter.len() as u16).to_be_bytes(), filter.as_bytes()].concat();
        self.send(0x82, &[&[0, 1, 0], &filter[..], &[qos]].concat()).await;
    }

    /// The next packet. None when the connection is over.
    async fn next(&mut self) -> Option<Packet5> {
        let first = soon(self.stream.read_u8()).await.ok()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = soon(self.stream.read_u8()).await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        soon(self.stream.read_exact(&mut body)).await.ok()?;
        Some((first, body))
    }

    /// Reads to the end: the reason of the good-bye, and the words.
    async fn good_bye(&mut self) -> (u8, String) {
        let mut last = None;
        while let Some(packet) = self.next().await {
            last = Some(packet);
        }
        let (first, body) = last.expect("it is told");
        assert_eq!(first, 0xe0, "DISCONNECT is the last word");
        // The code, the length of the properties, and the one with the words.
        let text = body.iter().skip(1).position(|byte| *byte == 31).map(|at| &body[at + 4..]);
        (body[0], String::from_utf8_lossy(text.unwrap_or_default()).into_owned())
    }
}

/// Somebody else, who must not notice.
struct Bystander(Client);

impl Bystander {
    async fn new(broker: &Running) -> Bystander {
        let mut client = broker.client("bystander").await;
        client.subscribe("bystander", QoS::AtLeastOnce).await;
        Bystander(client)
    }

    async fn is_served(&mut self) {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        self.0.client.publish("bystander", "here", options).await.unwrap();
        assert_eq!(self.0.next().await.payload, "here");
    }
}

/// A broker with a limit, and somebody in it.
async fn limited(change: impl FnOnce(&mut Terms)) -> (Running, Bystander) {
    let broker = Running::start(with_terms(&["127.0.0.1:0"], change)).await;
    let bystander = Bystander::new(&broker).await;
    (broker, bystander)
}

#[tokio::test]
async fn who_comes_when_no_place_is_free_is_told() {
    for of_one in [false, true] {
        let (broker, mut bystander) = limited(|terms| match of_one {
            true => terms.max_connections_per_address = 2,
            false => terms.max_connections = 2,
        })
        .await;
        let _second = Offender::connect(&broker, "second", &[]).await;
        let (mut third, said) = Offender::greeted(&broker, "third", &[]).await;
        assert_eq!((said.0, said.1[1]), (0x20, code::QUOTA));
        let words = if of_one { "`max_connections_per_address`" } else { "`max_connections`" };
        assert!(String::from_utf8_lossy(&said.1).contains(words), "{said:?}");
        assert_eq!(third.next().await, None, "it is not kept waiting");
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut elsewhere = Offender { stream: socket.connect(broker.addresses[0]).await.unwrap() };
        elsewhere.send(0x10, b"\0\x04MQTT\x05\x02\0\0\0\0\x01e").await;
        let said = elsewhere.next().await.unwrap();
        assert_eq!(said.1[1] == 0, of_one, "one address is not all of them");
        bystander.is_served().await;
    }
}

#[tokio::test]
async fn who_subscribes_too_often_is_told_and_keeps_what_it_has() {
    let (broker, mut bystander) = limited(|terms| terms.max_subscriptions = 2).await;
    let mut offender = Offender::connect(&broker, "offender", &[]).await;
    for (filter, expected) in [("a", 1), ("b", 1), ("c", code::QUOTA), ("a", 1)] {
        offender.subscribe(filter, 1).await;
        assert_eq!(offender.next().await.unwrap(), (0x90, vec![0, 1, 0, expected]), "{filter}");
    }
    // One that it gives up makes room.
    offender.send(0xa2, &[0, 1, 0, 0, 1, b'b']).await;
    assert_eq!(offender.next().await.unwrap().0, 0xb0);
    offender.subscribe("c", 1).await;
    assert_eq!(offender.next().await.unwrap().1[3], 1);
    bystander.is_served().await;
}

#[tokio::test]
async fn who_does_not_acknowledge_gets_no_more_than_may_be_under_way() {
    // The lower of the two counts: the broker's, and what the client says (`Receive Maximum`).
    for (broker_says, client_says, expected) in [(3, None, 3), (3, Some(2), 2), (2, Some(9), 2)] {
        let (broker, mut bystander) = limited(|terms| terms.max_in_flight = broker_says).await;
        let properties = client_says.map(|most| vec![33, 0, most]).unwrap_or_default();
        let mut offender = Offender::connect(&broker, "offender", &properties).await;
        offender.subscribe("t", 1).await;
        offender.next().await.unwrap();
        for number in 0..10 {
            broker.publish(publication("t", &number.to_string(), 1, false)).await;
        }
        bystander.is_served().await;
        let mut ids = Vec::new();
        for _ in 0..expected {
            let (first, body) = offender.next().await.unwrap();
            assert_eq!(first, 0x32);
            ids.push([body[3], body[4]]);
        }
        offender.send(0xc0, &[]).await;
        assert_eq!(offender.next().await.unwrap().0, 0xd0, "nothing more came before the pong");
        // One that is acknowledged makes room for one.
        offender.send(0x40, &ids[0]).await;
        assert_eq!(offender.next().await.unwrap().0, 0x32);
        offender.send(0xc0, &[]).await;
        assert_eq!(offender.next().await.unwrap().0, 0xd0);
    }
}

#[tokio::test]
async fn who_has_too_many_messages_open_is_told() {
    for qos in [1, 2] {
        let (broker, mut bystander) = limited(|_| ()).await;
        // A source that settles nothing.
        let _slow = broker.reader("slow", &["t"], 2, 1).granted().await;
        let mut offender = Offender::connect(&broker, "offender", &[]).await;
        for number in 0..=MOST_UNACKNOWLEDGED {
            offender.publish("t", qos << 1, number + 1, b"x").await;
        }
        let (reason, words) = offender.good_bye().await;
        assert_eq!(reason, code::RECEIVE_MAXIMUM, "{words}");
        assert!(words.contains("more than 200 messages open"), "{words}");
        bystander.is_served().await;
    }
}

#[tokio::test]
async fn who_sends_too_large_a_packet_or_alias_is_told() {
    let (broker, mut bystander) = limited(|terms| terms.max_packet = Size(2048)).await;
    let mut offender = Offender::connect(&broker, "large", &[]).await;
    offender.publish("t", 0, 0, &[b'x'; 4096]).await;
    let (reason, words) = offender.good_bye().await;
    assert_eq!(reason, code::PACKET_TOO_LARGE);
    assert!(words.ends_with("and `max_packet` is 2048"), "{words}");

    let mut offender = Offender::connect(&broker, "alias", &[]).await;
    let alias = MOST_ALIASES + 1;
    let property = [&[3, 35], &alias.to_be_bytes()[..]].concat();
    offender.send(0x30, &[&[0, 1, b't'], &property[..], b"x"].concat()).await;
    assert_eq!(offender.good_bye().await.0, code::TOPIC_ALIAS);
    bystander.is_served().await;
}

#[tokio::test]
async fn who_retains_too_much_is_told_and_what_was_there_stays() {
    for by_bytes in [false, true] {
        let (broker, mut bystander) = limited(|terms| match by_bytes {
            true => terms.max_retained_bytes = Some(Size(1000)),
            false => terms.max_retained = 2,
        })
        .await;
        let mut offender = Offender::connect(&broker, "offender", &[]).await;
        let mut said = Vec::new();
        for topic in ["r/1", "r/2", "r/3", "r/2"] {
            offender.publish(topic, 0x03, 1, &[b'x'; 100]).await;
            said.push(offender.next().await.unwrap());
        }
        let acknowledged = || (0x40, vec![0, 1]);
        let refused = (0x40, vec![0, 1, code::QUOTA]);
        assert_eq!(said, [acknowledged(), acknowledged(), refused, acknowledged()]);
        let mut late = broker.client("late").await;
        late.subscribe("r/#", QoS::AtMostOnce).await;
        let topics = [late.next().await.topic, late.next().await.topic];
        assert_eq!(topics, ["r/1", "r/2"]);
        bystander.is_served().await;
    }
}

#[tokio::test]
async fn who_is_silent_for_too_long_is_told_how_long_that_is_and_then_why() {
    let memory = Memory::new(1_795_251_600_000_000_000);
    tokio::time::pause();
    let settings = with_terms(&["127.0.0.1:1883"], |terms| {
        terms.max_keep_alive = Some(Duration::from_secs(20));
    });
    let _broker = Running::start_in(memory.world(), settings).await;
    let mut stream = dial(&memory).await;
    // A keep-alive of 60 s.
    stream.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01d").await.unwrap();
    let mut said = vec![0; 2];
    soon(stream.read_exact(&mut said)).await.unwrap();
    let mut body = vec![0; said[1].into()];
    soon(stream.read_exact(&mut body)).await.unwrap();
    assert!(body.windows(3).any(|property| property == [19, 0, 20]), "{body:?}");
    advance(Duration::from_secs(29)).await;
    stream.write_all(&[0xc0, 0]).await.unwrap();
    soon(stream.read_exact(&mut said)).await.unwrap();
    assert_eq!(said, [0xd0, 0]);
    let mut rest = Vec::new();
    timeout(Duration::from_secs(31), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!((rest[0], rest[2]), (0xe0, code::KEEP_ALIVE));
}

#[tokio::test]
async fn whose_session_lasts_too_long_is_told_how_long_it_does() {
    let (broker, _) = limited(|terms| terms.session_expiry = Duration::from_secs(600)).await;
    // A day, and ten minutes.
    for (seconds, told) in [(86_400_u32, true), (600, false)] {
        let asked = [&[17], &seconds.to_be_bytes()[..]].concat();
        let (_offender, (_, body)) = Offender::greeted(&broker, "offender", &asked).await;
        let expected = [&[17], &600_u32.to_be_bytes()[..]].concat();
        assert_eq!(body.windows(5).any(|property| property == expected), told);
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_many_bytes_is_slowed_down_and_nobody_else_is() {
    let settings = with_terms(&["127.0.0.1:1883"], |terms| {
        terms.max_byte_rate = Some(Size(1000));
    });
    let memory = Memory::new(1_795_251_600_000_000_000);
    let broker = Running::start_in(memory.world(), settings).await;
    let mut inside = broker.reader("inside", &["t"], 1, 100).granted().await;
    let mut others = broker.reader("others", &["o"], 1, 100).granted().await;
    let connect = async |id: u8| {
        let mut stream = dial(&memory).await;
        let hello = [b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01", &[id][..]].concat();
        stream.write_all(&hello).await.unwrap();
        stream
    };
    let (mut offender, mut bystander) = (connect(b'a').await, connect(b'b').await);
    let began = Instant::now();
    for _ in 0..50 {
        // A packet of a hundred bytes.
        offender.write_all(&publish_packet(0, 0, "t", &[b'x'; 93])).await.unwrap();
    }
    bystander.write_all(&publish_packet(0, 0, "o", b"1")).await.unwrap();
    others.next().await;
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    for _ in 0..50 {
        inside.next().await;
    }
    let passed = began.elapsed();
    assert!((4..6).contains(&passed.as_secs()), "{passed:?}");
}

#[tokio::test]
async fn of_who_is_away_too_long_the_oldest_messages_go_and_that_is_counted() {
    for by_bytes in [false, true] {
        let (broker, mut bystander) = limited(|terms| match by_bytes {
            true => {
                terms.max_packet = Size(1024);
                terms.max_queued_bytes = Size(1500);
            }
            false => terms.max_queued = 4,
        })
        .await;
        let hour = [17, 0, 0, 0x0e, 0x10];
        let mut offender = Offender::connect(&broker, "offender", &hour).await;
        offender.subscribe("t", 1).await;
        offender.next().await.unwrap();
        drop(offender);
        bystander.is_served().await;
        for number in 0..10 {
            broker.publish(publication("t", &number.to_string(), 1, false)).await;
        }
        let mut options = broker.options("offender");
        options.set_clean_session(false);
        let mut back = Client::connect(options).await.unwrap();
        let first: usize = String::from_utf8_lossy(&back.next().await.payload).parse().unwrap();
        // By bytes each counts with what it takes beside its text.
        assert_eq!(first, if by_bytes { 5 } else { 6 });
        for number in first + 1..10 {
            assert_eq!(back.next().await.payload, number.to_string());
        }
        // All that are missing, within a second.
        soon(async {
            while broker.heard.said().figures[&Figure::Dropped] != first as u64 {
                yield_now().await
            }
        })
        .await;
        bystander.is_served().await;
    }
}
