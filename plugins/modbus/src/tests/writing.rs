//! Sinks against a device in memory that keeps what is written to it.

use std::collections::BTreeMap;

use forebay_sdk::{Emitter, Port, WriteError, Written, connection::Down, node::DynSink};

use super::*;
use crate::sink;

/// A device whose registers and coils (0 and 1) all exist, and all that was written to it.
#[derive(Default)]
pub struct Device {
    pub values: BTreeMap<u16, u16>,
    /// Requests that change something, from their function codes on.
    writes: Vec<Vec<u8>>,
    fault: Option<Fault>,
}

/// What the device does wrong, from some write on.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Does it and says nothing.
    SilentFrom(usize),
    /// Answers with this exception, and does nothing.
    RefusesFrom(usize, u8),
    /// Takes another value.
    Clamps(u16),
}

impl Device {
    /// The answer to a request, from its function code on.
    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let (function, at) = (request[0], word(1));
        if function < 5 {
            let values = (at..at + word(3)).map(|at| self.values.get(&at).copied().unwrap_or(0));
            let bytes: Vec<u8> = match function {
                1 | 2 => vec![values.rev().fold(0, |byte, value| byte << 1 | u8::from(value != 0))],
                _ => values.flat_map(u16::to_be_bytes).collect(),
            };
            return Some([&[function, bytes.len() as u8], &bytes[..]].concat());
        }
        let so_far = self.writes.len();
        if let Some(Fault::RefusesFrom(from, code)) = self.fault
            && so_far >= from
        {
            self.writes.push(request.to_vec());
            return Some(vec![function | 0x80, code]);
        }
        self.writes.push(request.to_vec());
        let clamp = |value: u16| match self.fault {
            Some(Fault::Clamps(most)) => value.min(most),
            _ => value,
        };
        match function {
            5 => _ = self.values.insert(at, u16::from(word(3) != 0)),
            6 => _ = self.values.insert(at, clamp(word(3))),
            22 => {
                let old = self.values.get(&at).copied().unwrap_or(0);
                self.values.insert(at, old & word(3) | word(5) & !word(3));
            }
            15 => {
                for n in 0..word(3) {
                    let bit = request[6 + usize::from(n / 8)] >> (n % 8) & 1;
                    self.values.insert(at + n, bit.into());
                }
            }
            23 => {
                for n in 0..word(7) {
                    self.values.insert(word(5) + n, clamp(word(10 + 2 * usize::from(n))));
                }
            }
            _ => {
                for n in 0..word(3) {
                    self.values.insert(at + n, clamp(word(6 + 2 * usize::from(n))));
                }
            }
        }
        if let Some(Fault::SilentFrom(from)) = self.fault
            && so_far >= from
        {
            return None;
        }
        if function == 23 {
            let answer = self.answer(&[&[3], &request[1..5]].concat())?;
            return Some([&[23], &answer[1..]].concat());
        }
        Some(request[..request.len().min(if function == 22 { 7 } else { 5 })].to_vec())
    }
}

/// A sink, the device behind it, and what keeps both running.
pub struct Bench {
    sink: Box<dyn DynSink>,
    pub device: Arc<Mutex<Device>>,
    heard: Arc<Heard>,
    _tasks: JoinSet<()>,
}

impl Bench {
    fn new(settings: &str) -> Bench {
        Bench::of(&sink(), settings)
    }

    pub fn of(plugin: &dyn NodeType, settings: &str) -> Bench {
        let device = Arc::new(Mutex::new(Device::default()));
        let memory = memory();
        let door = memory.open(PLACE);
        let mut tasks = JoinSet::new();
        let serving = Arc::clone(&device);
        tasks.spawn(async move {
            loop {
                let (mut client, _) = door.accept().await.unwrap();
                loop {
                    let mut head = [0; 7];
                    if client.read_exact(&mut head).await.is_err() {
                        break;
                    }
                    let mut request = vec![0; usize::from(head[5]) - 1];
                    client.read_exact(&mut request).await.unwrap();
                    let answer = serving.lock().unwrap().answer(&request);
                    if let Some(answer) = answer {
                        let length = [0, answer.len() as u8 + 1, head[6]];
                        let frame = [&head[..4], &length, &answer].concat();
                        client.write_all(&frame).await.unwrap();
                    }
                }
            }
        });
        let (shared, connection) = bus(&memory, "timeout: 100ms");
        tasks.spawn(keep_running(connection, Voice::unheard()));
        let (voice, heard) = testing::voice();
        let site = Site { voice, ..testing::site(Some(shared)) };
        let Node::Sink(sink) = build_at(plugin, settings, site) else { panic!("not a sink") };
        Bench { sink, device, heard, _tasks: tasks }
    }

    pub async fn write(&mut self, payload: Value) -> (Result<Written, WriteError>, Vec<Message>) {
        self.write_message(Message::new("cmd", payload)).await
    }

    pub async fn write_message(
        &mut self,
        message: Message,
    ) -> (Result<Written, WriteError>, Vec<Message>) {
        let mut out = Emitter::default();
        let written = timeout(DEADLINE, self.sink.write(&[message], &mut out)).await.unwrap();
        let answers = out.drain().map(|(port, envelope)| {
            assert_eq!(port, Port::named(0));
            envelope.message
        });
        (written, answers.collect())
    }

    /// What a message that is carried out is answered with.
    pub async fn answer(&mut self, payload: Value) -> Value {
        let (written, answers) = self.write(payload).await;
        written.unwrap();
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        answer.payload.value().unwrap().clone()
    }

    /// Why a message is refused.
    pub async fn refusal(&mut self, payload: Value) -> String {
        match self.write(payload).await {
            (Err(WriteError::Reject(error)), answers) => {
                assert!(answers.is_empty());
                format!("{error:#}")
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn writes(&self) -> Vec<Vec<u8>> {
        self.device.lock().unwrap().writes.clone()
    }

    pub fn fails_by(&self, fault: Fault) {
        self.device.lock().unwrap().fault = Some(fault);
    }
}

const POINTS: &str = "registers:
  - { name: mode, holding: 9, allow: [0, 1, 2] }
  - { name: setpoint, holding: 10, kind: f32, min: 5, max: 60 }
  - { name: limit, holding: 12, kind: i16, scale: 0.1 }
  - { name: lamp, coil: 3 }
  - { name: horn, coil: 4 }
  - { name: enable, holding: 20, bit: 2 }
  - { name: volts, input: 10, kind: f32 }
";

#[tokio::test(start_paused = true)]
async fn what_a_message_names_is_written_and_nothing_else() {
    let mut bench = Bench::new(POINTS);
    let answer = bench.answer(json!({ "mode": 2 })).await;
    assert_eq!(answer, json!({ "written": { "mode": 2 }, "read": {} }));
    bench.answer(json!({ "lamp": true })).await;
    bench.answer(json!({ "enable": true })).await;
    // Neighbours go in one request, so that no device sees half of a command.
    bench.answer(json!({ "mode": 1, "setpoint": 21.5, "limit": -1.5, "lamp": 1, "horn": 0 })).await;
    let expected: [&[u8]; 5] = [
        &[6, 0, 9, 0, 2],
        &[5, 0, 3, 0xFF, 0],
        &[22, 0, 20, 0xFF, 0xFB, 0, 4],
        &[16, 0, 9, 0, 4, 8, 0, 1, 0x41, 0xAC, 0, 0, 0xFF, 0xF1],
        &[15, 0, 3, 0, 2, 1, 1],
    ];
    assert_eq!(bench.writes(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_register_is_written_by_the_function_that_the_device_knows() {
    let mut bench = Bench::new(&format!("{POINTS}write_multiple: true"));
    bench.answer(json!({ "mode": 2 })).await;
    bench.answer(json!({ "lamp": true })).await;
    assert_eq!(bench.writes(), [vec![16, 0, 9, 0, 1, 2, 0, 2], vec![15, 0, 3, 0, 1, 1, 1]]);
}

#[tokio::test(start_paused = true)]
async fn a_register_is_read_when_a_message_asks_for_it() {
    let mut bench = Bench::new(POINTS);
    bench.device.lock().unwrap().values.extend([(10, 0x4366), (11, 0x199A), (3, 1)]);
    let answer = bench.answer(json!({ "volts": null, "lamp": null })).await;
    assert_eq!(answer, json!({ "written": {}, "read": { "volts": 230.1, "lamp": true } }));
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_may_not_be_was_partly_carried_out() {
    let mut bench = Bench::new(POINTS);
    for (payload, says) in [
        (json!({ "mode": 1, "valve": 1 }), "`valve` is not among the `registers` of this sink"),
        (json!({ "mode": 1, "setpoint": 61 }), "writing `setpoint`: expected at most 60, found 61"),
        (json!({ "mode": 1, "setpoint": -3 }), "writing `setpoint`: expected at least 5, found -3"),
        (json!({ "mode": 3 }), "writing `mode`: expected one of [0,1,2], found 3"),
        (
            json!({ "mode": 1, "lamp": "on" }),
            "writing `lamp`: expected true or false, found \"on\"",
        ),
        (json!({ "mode": 1, "volts": 3 }), "writing `volts`: input registers can only be read"),
        (
            json!({ "limit": 4000 }),
            "writing `limit`: expected -3276.8 to 3276.7, which is what fits",
        ),
        (json!({}), "the message names no register"),
        (json!(5), "expected a map from names to values, such as {\"mode\": 1}"),
        (json!([1]), "expected a map from names to values, found a list"),
    ] {
        let error = bench.refusal(payload.clone()).await;
        assert!(error.starts_with(says), "{payload}: {error}");
    }
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_was_done_twice() {
    let mut bench = Bench::new(POINTS);
    bench.fails_by(Fault::SilentFrom(0));
    let (written, _) = bench.write(json!({ "mode": 1 })).await;
    let Err(WriteError::InDoubt(error)) = written else { panic!("{written:?}") };
    let error = format!("{error:#}");
    assert_says(&error, "writing holding register 9 of unit 1 at meter.lan:502: no answer within");
    assert_eq!(bench.writes().len(), 1);
    // Unless its user says that it may be.
    let mut bench = Bench::new(&format!("{POINTS}repeat: true"));
    bench.fails_by(Fault::SilentFrom(0));
    let (written, _) = bench.write(json!({ "mode": 1 })).await;
    assert!(matches!(written, Err(WriteError::Retry { .. })), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_how_much_was_done_before_it() {
    let command = json!({ "mode": 1, "lamp": true });
    let mut bench = Bench::new(POINTS);
    bench.fails_by(Fault::RefusesFrom(0, 2));
    let error = bench.refusal(command.clone()).await;
    assert_says(&error, "illegal data address (exception 2)");
    let mut bench = Bench::new(POINTS);
    bench.fails_by(Fault::RefusesFrom(1, 4));
    let (written, _) = bench.write(command).await;
    let Err(WriteError::InDoubt(error)) = written else { panic!("{written:?}") };
    assert_says(&format!("{error:#}"), "1 of its requests were carried out before this one");
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_is_asked_later_and_a_gateway_without_an_answer_leaves_a_doubt() {
    let mut bench = Bench::new(POINTS);
    bench.fails_by(Fault::RefusesFrom(0, 6));
    let (written, _) = bench.write(json!({ "mode": 1 })).await;
    assert!(matches!(written, Err(WriteError::Retry { .. })), "{written:?}");
    bench.fails_by(Fault::RefusesFrom(0, 11));
    let (written, _) = bench.write(json!({ "mode": 1 })).await;
    assert!(matches!(written, Err(WriteError::InDoubt(_))), "{written:?}");
    // "Acknowledge": it has begun.
    bench.fails_by(Fault::RefusesFrom(0, 5));
    assert!(bench.write(json!({ "mode": 1 })).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_value_that_the_device_changed_passed_for_written() {
    let mut bench = Bench::new(&format!("{POINTS}verify: true"));
    let answer = bench.answer(json!({ "limit": 12.34, "lamp": 1, "enable": true })).await;
    let read = json!({ "limit": 12.3, "lamp": true, "enable": true });
    assert_eq!(answer["read"], read, "as near as the device can have it");
    bench.fails_by(Fault::Clamps(100));
    let error = bench.refusal(json!({ "limit": 15 })).await;
    assert_eq!(error, "wrote 15 to `limit`, and the device has 10.0");
}

#[tokio::test(start_paused = true)]
async fn something_came_between_a_write_and_reading_it_back() {
    let mut bench = Bench::new(&format!("{POINTS}exchange: true"));
    let answer = bench.answer(json!({ "setpoint": 21.5, "limit": 12.34, "lamp": true })).await;
    let read = json!({ "setpoint": 21.5, "limit": 12.3, "lamp": true });
    assert_eq!(answer["read"], read);
    let functions: Vec<u8> = bench.writes().iter().map(|request| request[0]).collect();
    assert_eq!(functions, [23, 5], "neighbours in one request, and a coil has none of these");
    bench.answer(json!({ "mode": 1 })).await;
    assert_eq!(bench.writes()[2], [23, 0, 9, 0, 1, 0, 9, 0, 1, 2, 0, 1]);
    bench.fails_by(Fault::Clamps(100));
    let error = bench.refusal(json!({ "limit": 15 })).await;
    assert_eq!(error, "wrote 15 to `limit`, and the device has 10.0");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waited_through_an_outage_was_carried_out() {
    let mut bench = Bench::new(&format!("{POINTS}expires_after: 10s"));
    let mut message = Message::new("cmd", json!({ "mode": 1 }));
    let nanos = message.time.unix_nanos();
    message.time = forebay_sdk::Timestamp::from_unix_nanos(nanos - 11_000_000_000);
    let (written, _) = bench.write_message(message).await;
    let Err(WriteError::Reject(error)) = written else { panic!("{written:?}") };
    let expected = "not carried out: the message is 11 s old, and `expires_after` is 10s";
    assert_eq!(error.to_string(), expected);
    bench.answer(json!({ "mode": 1 })).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_written_than_the_rate_allows() {
    let mut bench = Bench::new(&format!("{POINTS}rate: 20/m"));
    bench.answer(json!({ "mode": 1 })).await;
    bench.refusal(json!({ "mode": 9 })).await;
    let (written, _) = bench.write(json!({ "mode": 2 })).await;
    let Err(WriteError::Retry { after: Some(after), .. }) = written else { panic!("{written:?}") };
    assert_eq!(after.as_secs_f64().round(), 3.0);
    sleep(after).await;
    bench.answer(json!({ "mode": 2 })).await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_and_writes_nothing() {
    let mut bench = Bench::new(&format!("{POINTS}dry_run: true\nverify: true"));
    let (written, answers) = bench.write(json!({ "mode": 1, "volts": null })).await;
    written.unwrap();
    assert_eq!(answers[0].meta.get("modbus"), Some(&json!({ "unit": 1, "dry_run": true })));
    assert_eq!(bench.writes(), Vec::<Vec<u8>>::new());
    bench.refusal(json!({ "mode": 3 })).await;
}

#[tokio::test(start_paused = true)]
async fn a_single_register_needs_no_map() {
    let mut bench = Bench::new("registers: [{ name: mode, holding: 9 }]");
    let answer = bench.answer(json!(7)).await;
    assert_eq!(answer["written"], json!({ "mode": 7 }));
    assert!(bench.heard.said().troubles.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sink_paused_on_its_own_after_its_bus_was_back() {
    let memory = memory();
    let (shared, connection) = bus(&memory, "");
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_running(connection, Voice::unheard()));
    let site = testing::site(Some(shared));
    let Node::Sink(mut sink) = build_at(&sink(), POINTS, site) else { panic!("not a sink") };
    let command = [Message::new("cmd", json!({ "mode": 1 }))];
    let Err(WriteError::Retry { error, after: None, .. }) =
        sink.write(&command, &mut Emitter::default()).await
    else {
        panic!("nobody is there")
    };
    assert!(error.is::<Down>(), "{error:#}");
    let expected = format!("not connected: {REFUSED}");
    assert!(format!("{error:#}").ends_with(&expected), "{error:#}");
    let began = Instant::now();
    let device = async {
        sleep(Duration::from_secs(60)).await;
        let door = memory.open(PLACE);
        let client = accept(&door).await;
        (door, client)
    };
    let (connected, _device) = tokio::join!(sink.connect(), device);
    connected.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
}
