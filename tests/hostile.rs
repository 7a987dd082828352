//! One device without manners takes the memory of the embedded broker for itself, and nobody else notices.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpStream},
    thread,
    time::Duration,
};

use crate::support::{
    Folder, Forebay, free_port, is_emulated, is_long, longest_wait, now, pause, until,
};

/// What the broker may take for what others send it.
const MEMORY: u64 = 32 << 20;
/// How much the program grows at most: half as much again is for what the allocator keeps for each thread, and for the text of the
/// program that runs for the first time.
const MOST_BYTES: u64 = MEMORY + MEMORY / 2;
/// How much each attack sends, about.
const FLOOD: usize = 96 << 20;
/// As many connections as one address can have.
const MANY: usize = 88;
/// How many messages of one client may be on their way to the broker.
const WINDOW: usize = 100;
/// From one look at how long somebody else waits to the next.
const LOOK: Duration = Duration::from_millis(5);

/// At a port. The connections that are kept meanwhile.
type Attack = fn(u16) -> Vec<TcpStream>;

#[test]
fn whoever_does_what_the_memory_has_its_bound_and_others_are_served() {
    if is_emulated() {
        return;
    }
    let port = free_port();
    let pipeline = format!(
        "connections:
  hall: {{ type: broker, listen: ['127.0.0.1:{port}', '[::1]:{port}'], memory: {}MiB }}
sources:
  numbers: {{ type: mqtt, connection: hall, topics: [plant/number] }}
sinks:
  none: {{ from: numbers, type: log }}
",
        MEMORY >> 20
    );
    let folder = Folder::with(&[("a.yaml", &pipeline)]);
    let mut forebay = Forebay::run(folder.path());
    forebay.wait_for_log(&format!("address=[::1]:{port}"));
    let attacks: [(&str, Attack); 11] = [
        ("subscribers that do not read", do_not_read),
        ("subscribers that do not acknowledge", do_not_acknowledge),
        ("long filters", long_filters),
        ("sessions with filters", sessions_with_filters),
        ("retained messages with large properties", retained_with_properties),
        ("wills", wills),
        ("sessions", sessions),
        ("aliases", aliases),
        ("idle connections", idle),
        ("take-overs", take_overs),
        ("no MQTT", no_mqtt),
    ];
    Client::connect_v6(port, "first").round_trip("plant/number/0");
    let idle = forebay.peak_rss_bytes();
    println!("| attack | before, ms: p50 / p90 | meanwhile | the program has grown by, MiB |");
    println!("|---|---|---|---|");
    for (what, attack) in attacks {
        let mut bystander = Client::connect_v6(port, "bystander");
        bystander.send(&subscribe(7, "plant/here", 1));
        assert_eq!(bystander.read().expect("the broker answers").0, 0x90);
        let mut rounds = 0;
        let before = bystander.latencies(|| {
            rounds += 1;
            rounds > 100
        });
        let attacker = thread::spawn(move || attack(port));
        let meanwhile = bystander.latencies(|| attacker.is_finished());
        let held = attacker.join().expect("it is no more than the attack wants");
        // Who comes only now is let in, as the first of its address.
        drop(bystander);
        let mut good = Client::connect_v6(port, "good");
        for round in 0..5 {
            good.round_trip(&format!("plant/number/{round}"));
        }
        let grown = forebay.peak_rss_bytes() - idle;
        let [[early, early_90], [late, late_90]] = [before, meanwhile];
        println!(
            "| {what} | {early:.2} / {early_90:.2} | {late:.2} / {late_90:.2} | {} |",
            grown >> 20
        );
        assert!(grown < MOST_BYTES, "{what}: {} MiB", grown >> 20);
        assert!(forebay.is_alive(), "{what}");
        drop(held);
    }
}

fn do_not_read(port: u16) -> Vec<TcpStream> {
    let subscribed = |number: usize| {
        let mut client = Client::connect(port, &format!("deaf{number}"));
        client.send(&subscribe(1, "flood/#", 0));
        client.stream
    };
    let deaf: Vec<TcpStream> = (0..MANY / 2).map(subscribed).collect();
    flood(port, 0);
    deaf
}

fn do_not_acknowledge(port: u16) -> Vec<TcpStream> {
    let subscribed = |number: usize| {
        let mut client = Client::connect_with(port, &format!("mute{number}"), 0, &[]);
        client.send(&subscribe(1, "flood/#", 1));
        client.stream
    };
    let mute: Vec<TcpStream> = (0..MANY / 2).map(subscribed).collect();
    flood(port, 1);
    mute
}

/// Publishes to whoever subscribed.
fn flood(port: u16, qos: u8) {
    let mut client = Client::connect(port, "flood");
    let payload = vec![b'x'; 32 << 10];
    for number in 0..FLOOD / payload.len() {
        if qos > 0 && number >= WINDOW {
            client.acknowledgement();
        }
        client.send(&publish("flood/a", qos, (number % WINDOW + 1) as u16, false, &payload));
    }
}

fn long_filters(port: u16) -> Vec<TcpStream> {
    let mut client = Client::connect_with(port, "filters", 0, &[]);
    for number in 0..FLOOD / 60_000 {
        let filter = format!("{}/{number}", "x/".repeat(30_000));
        if !client.may_send(&subscribe(1, &filter, 1)) {
            break;
        }
    }
    vec![client.stream]
}

fn sessions_with_filters(port: u16) -> Vec<TcpStream> {
    for number in 0..500 {
        let Some(mut client) = Client::try_connect(port, &format!("many{number}"), 0, &[]) else {
            break;
        };
        for level in 0..20 {
            let filter = format!("{number}/{}/{level}", "y/".repeat(1000));
            client.may_send(&subscribe(1, &filter, 1));
        }
        let _ = client.stream.shutdown(Shutdown::Both);
    }
    Vec::new()
}

fn retained_with_properties(port: u16) -> Vec<TcpStream> {
    let mut client = Client::connect_5(port, "props");
    for number in 0..FLOOD / 60_000 {
        let topic = format!("kept/{number}");
        let mut body = text(topic.as_bytes());
        let pair = [vec![0x26], text(b"k"), text(&vec![b'v'; 60_000])].concat();
        body.extend(length(pair.len()));
        body.extend(pair);
        body.push(b'1');
        client.send(&packet(0x31, &body));
    }
    vec![client.stream]
}

fn wills(port: u16) -> Vec<TcpStream> {
    let will = [text(b"gone"), text(&vec![b'w'; 60_000])].concat();
    let connect = |number: usize| Client::try_connect(port, &format!("will{number}"), 0x04, &will);
    for _ in 0..20 {
        let there: Vec<Client> = (0..MANY).map_while(connect).collect();
        drop(there);
    }
    Vec::new()
}

fn sessions(port: u16) -> Vec<TcpStream> {
    for number in 0..3000 {
        drop(Client::try_connect(port, &format!("brief{number}"), 0x02, &[]));
    }
    Vec::new()
}

fn aliases(port: u16) -> Vec<TcpStream> {
    let client = |number: usize| {
        let mut client = Client::connect_5(port, &format!("alias{number}"));
        for alias in 1..=32 {
            let mut body = text(&vec![b'a'; 60_000]);
            body.extend([3, 0x23, 0, alias]);
            if !client.may_send(&packet(0x30, &body)) {
                break;
            }
        }
        client.stream
    };
    (0..MANY / 2).map(client).collect()
}

fn idle(port: u16) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
    (0..100).map_while(connect).collect()
}

fn take_overs(port: u16) -> Vec<TcpStream> {
    let connect = |_| Client::try_connect(port, "one", 0, &[]).map(|client| client.stream);
    // The one before is thrown out by the next.
    (0..3000).flat_map(connect).last().into_iter().collect()
}

fn no_mqtt(port: u16) -> Vec<TcpStream> {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..if is_long() { 1_000_000 } else { 2000 } {
        wrong(port, &mut random);
    }
    Vec::new()
}

/// Sends what is no MQTT, behind a good CONNECT or not, and hears the broker out.
fn wrong(port: u16, random: &mut fastrand::Rng) {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    stream.set_read_timeout(Some(longest_wait())).expect("it is a stream");
    let connect = packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0", &text(b"odd")[..]].concat());
    let mut bytes = if random.bool() { connect } else { Vec::new() };
    bytes.extend((0..random.usize(1..200)).map(|_| random.u8(..)));
    let _ = stream.write_all(&bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(port: u16, id: &str) -> Client {
        Client::connect_with(port, id, 0x02, &[])
    }

    fn connect_with(port: u16, id: &str, flags: u8, more: &[u8]) -> Client {
        Client::once_let_in(|| Client::try_connect(port, id, flags, more))
    }

    /// Those of an attack before may still be there.
    fn once_let_in(connect: impl Fn() -> Option<Client>) -> Client {
        let mut client = None;
        until("the broker lets it in", || {
            client = connect();
            client.is_some()
        });
        client.expect("it was let in")
    }

    fn try_connect(port: u16, id: &str, flags: u8, more: &[u8]) -> Option<Client> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        let body = [b"\0\x04MQTT\x04", &[flags, 0, 0][..], &text(id.as_bytes()), more].concat();
        Client::greet(stream, &packet(0x10, &body)).ok()
    }

    fn connect_5(port: u16, id: &str) -> Client {
        Client::once_let_in(|| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
            let body = [b"\0\x04MQTT\x05\x02\0\0\0", &text(id.as_bytes())[..]].concat();
            Client::greet(stream, &packet(0x10, &body)).ok()
        })
    }

    /// From another address.
    fn connect_v6(port: u16, id: &str) -> Client {
        Client::once_let_in(|| Client::try_connect_v6(port, id))
    }

    fn try_connect_v6(port: u16, id: &str) -> Option<Client> {
        let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).ok()?;
        let body = [b"\0\x04MQTT\x04\x02\0\0", &text(id.as_bytes())[..]].concat();
        Client::greet(stream, &packet(0x10, &body)).ok()
    }

    fn greet(stream: TcpStream, connect: &[u8]) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(longest_wait()))?;
        stream.set_write_timeout(Some(longest_wait()))?;
        let mut client = Client { stream };
        client.stream.write_all(connect)?;
        let (first, body) = client.read()?;
        match (first, body.get(1)) {
            (0x20, Some(0)) => Ok(client),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// Also to a broker that has had enough.
    fn may_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut size, mut shift) = (0, 0);
        loop {
            self.stream.read_exact(&mut byte)?;
            size |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; size];
        self.stream.read_exact(&mut body)?;
        Ok((first, body))
    }

    fn acknowledgement(&mut self) {
        let (first, _) = self.read().expect("the broker answers");
        assert_eq!(first, 0x40);
    }

    /// How long a message of QoS 1 takes to come back, acknowledged, in milliseconds: half of them and nine of ten are as fast.
    fn latencies(&mut self, mut is_over: impl FnMut() -> bool) -> [f64; 2] {
        let mut took = Vec::new();
        while took.is_empty() || !is_over() {
            let began = now();
            self.send(&publish("plant/here", 1, 9, false, b"here"));
            let mut kinds = Vec::new();
            while kinds.len() < 2 {
                let (first, body) = self.read().expect("who behaves is served");
                if first == 0x32 {
                    let id = &body[12..14];
                    self.send(&packet(0x40, id));
                }
                kinds.push(first);
            }
            kinds.sort_unstable();
            assert_eq!(kinds, [0x32, 0x40]);
            took.push(began.elapsed().as_secs_f64() * 1000.0);
            pause(LOOK);
        }
        took.sort_unstable_by(f64::total_cmp);
        [took[took.len() / 2], took[took.len() * 9 / 10]]
    }

    /// Subscribes, publishes at QoS 1, and gets what it published and the acknowledgement.
    fn round_trip(&mut self, topic: &str) {
        self.send(&subscribe(7, topic, 0));
        self.send(&publish(topic, 1, 9, false, b"here"));
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            let (first, body) = self.read().expect("who behaves is served");
            assert!(first != 0x30 || body.ends_with(b"here"));
            assert!(first != 0x90 || body.ends_with(&[0]), "{body:?}");
            kinds.push(first & 0xf0);
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [0x30, 0x40, 0x90]);
        self.send(&packet(0xa2, &[&[0, 8][..], &text(topic.as_bytes())].concat()));
        assert_eq!(self.read().expect("the broker answers").0, 0xb0);
    }
}

fn subscribe(id: u16, filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes()[..], &text(filter.as_bytes()), &[qos]].concat())
}

fn publish(topic: &str, qos: u8, id: u16, retain: bool, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(0x30 | qos << 1 | u8::from(retain), &body)
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("a short text").to_be_bytes(), bytes].concat()
}

fn length(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let rest = size >> 7;
        bytes.push((size & 0x7f) as u8 | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            return bytes;
        }
        size = rest;
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [vec![first], length(body.len()), body.to_vec()].concat()
}
