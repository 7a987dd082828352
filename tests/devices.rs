//! What the embedded broker acknowledged to a device arrives, however fast the device is and however
//! stuck the sink.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::support::{Folder, Forebay, WebServer, free_port, longest_wait, now, pause, until};

#[test]
fn what_a_device_was_told_arrives_with_a_buffer_in_memory() {
    check("");
}

#[test]
fn what_a_device_was_told_arrives_with_a_full_buffer_on_disk() {
    check("buffer: { store: disk, max_bytes: 1MiB, when_full: block }");
}

#[test]
fn what_a_device_was_told_arrives_at_a_sink_that_must_deliver() {
    check("buffer: { store: disk }\n    must_deliver: true");
}

/// More than a buffer of 1 MiB holds, and than the program acknowledges unseen.
const MESSAGES: usize = 6_000;
/// The bytes of each, about.
const SIZE: usize = 300;
/// How long no acknowledgement comes until the device counts as slowed down.
const QUIET: Duration = Duration::from_secs(1);

/// A device publishes at full speed, while the sink is stuck and the program is killed in between.
#[track_caller]
fn check(sink: &str) {
    let (service, port, data) = (WebServer::start(), free_port(), Folder::new());
    service.shut();
    let folder = Folder::with(&[(
        "a.yaml",
        &format!(
            "connections:
  hall: {{ type: broker, listen: ['127.0.0.1:{port}'] }}
sources:
  numbers: {{ type: mqtt, connection: hall, topics: [number] }}
sinks:
  service:
    from: numbers
    type: http
    url: {}
    body: lines
    {sink}
  refused: {{ from: service.errors, type: log }}
",
            service.url()
        ),
    )]);
    let run = || {
        let forebay = Forebay::run_on(folder.path(), data.path());
        forebay.wait_for_log("the broker listens");
        forebay
    };
    let mut forebay = run();
    let mut device = Device::new(port);
    device.publish_until(|device| device.quiet() > QUIET || device.is_done());
    forebay.kill();
    forebay = run();
    device.publish_until(|device| device.quiet() > QUIET || device.is_done());
    // What comes only now is not what was acknowledged before.
    let told = device.acknowledged.clone();
    forebay.kill();
    forebay = run();
    service.open();
    let missing = |told: &BTreeSet<usize>| {
        let bodies = service.bodies.all();
        let lines = bodies.iter().flat_map(|body| body.lines());
        told.difference(&lines.map(number_of).collect()).count()
    };
    until("all that was acknowledged arrives", || missing(&told) == 0);
    device.publish_until(Device::is_done);
    until("all arrives", || missing(&device.acknowledged) == 0);
    assert_eq!(forebay.log.count_of("dropped"), 0);
}

fn payload(number: usize) -> String {
    format!(r#"{{"filler":"{}","number":{number}}}"#, "x".repeat(SIZE))
}

fn number_of(payload: &str) -> usize {
    let number = payload.rsplit(':').next().and_then(|last| last.strip_suffix('}'));
    number.and_then(|number| number.parse().ok()).expect("a payload of ours")
}

/// A device that sends as fast as the broker reads, and counts what is acknowledged.
struct Device {
    port: u16,
    next: usize,
    /// The numbers of those that were sent and not acknowledged, by packet id.
    open: BTreeMap<u16, usize>,
    acknowledged: BTreeSet<usize>,
    /// When that last grew, or it connected.
    heard: Instant,
}

impl Device {
    fn new(port: u16) -> Device {
        let (open, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        Device { port, next: 0, open, acknowledged, heard: now() }
    }

    fn is_done(&self) -> bool {
        self.acknowledged.len() == MESSAGES
    }

    /// How long nothing was acknowledged.
    fn quiet(&self) -> Duration {
        now() - self.heard
    }

    /// Connects with the session it has, sends again what is open, and goes on until it is enough.
    #[track_caller]
    fn publish_until(&mut self, is_enough: impl Fn(&Device) -> bool) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        // CONNECT, without a clean session.
        stream.write_all(b"\x10\x12\0\x04MQTT\x04\0\0\0\0\x06device").expect("it reads");
        stream.read_exact(&mut [0; 4]).expect("it answers");
        stream.set_nonblocking(true).expect("every socket can");
        let again = self.open.iter().flat_map(|(id, number)| publish(DUP, *id, *number));
        let (mut out, mut came) = (again.collect::<VecDeque<u8>>(), Vec::new());
        self.heard = now();
        let deadline = now() + longest_wait();
        while !is_enough(self) {
            assert!(now() < deadline, "{} are acknowledged in time", self.acknowledged.len());
            while out.len() < MOST_OUT && self.next < MESSAGES {
                let id = u16::try_from(self.next + 1).expect("there are fewer than packet ids");
                out.extend(publish(0, id, self.next));
                self.open.insert(id, self.next);
                self.next += 1;
            }
            let written = some(stream.write(out.as_slices().0));
            out.drain(..written);
            let mut buffer = [0; 4096];
            let read = some(stream.read(&mut buffer));
            came.extend(&buffer[..read]);
            let whole = came.len() / 4 * 4;
            for puback in came.drain(..whole).as_slice().chunks(4) {
                assert_eq!(puback[..2], [0x40, 2]);
                let id = u16::from_be_bytes([puback[2], puback[3]]);
                self.acknowledged.insert(self.open.remove(&id).expect("it is open"));
                self.heard = now();
            }
            if written + read == 0 {
                pause(Duration::from_millis(1));
            }
        }
    }
}

/// How many bytes wait to be written.
const MOST_OUT: usize = 64 << 10;
/// The flag of a message that may have come before.
const DUP: u8 = 8;

/// A PUBLISH of MQTT 3.1.1 at QoS 1.
fn publish(flags: u8, id: u16, number: usize) -> Vec<u8> {
    let body = [b"\0\x06number", &id.to_be_bytes()[..], payload(number).as_bytes()].concat();
    // A length of two bytes.
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    [&[0x32 | flags], &length[..], &body].concat()
}

/// How many bytes went through at once.
#[track_caller]
fn some(passed: io::Result<usize>) -> usize {
    match passed {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        passed => passed.expect("the connection stays"),
    }
}
