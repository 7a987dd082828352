//! Sends readings to a topic, takes what comes out of another, and tells how fast, how late, and
//! how much of it. Everything runs in one thread, on two connections to the broker.
//!
//! `mode=closed window=500`: as many as the window allows are on their way. `mode=open rate=5000`:
//! paced. `mode=first`: until the first one comes through. All end by themselves.

mod wire;

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use forebay_peers::{
    arguments::Arguments,
    processes::{cpu_micros, resident_kib},
    reading::{Eye, now_micros},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use self::wire::{Packet, Wire};

/// The most that is put into one write.
const MOST_IN_WRITE: u64 = 256;
/// Numbers that one run has for itself.
const MOST_IN_RUN: u64 = 10_000_000;
/// When nothing comes for so long, what is on its way counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let mut load = Load::new(&arguments)?;
    let report = match arguments.get::<String>("mode")?.as_str() {
        "closed" => {
            let window = arguments.get("window")?;
            load.measured(&arguments, Pace::Window(window))?
        }
        "open" => {
            let rate = arguments.get("rate")?;
            load.measured(&arguments, Pace::Rate(rate))?
        }
        "count" => load.counted(arguments.get("window")?, arguments.get("messages")?)?,
        "first" => load.first(arguments.get_or("rate", 1000.0)?)?,
        "reload" => load.reload(&arguments)?,
        other => bail!("no mode is named {other}"),
    };
    println!("{report}");
    Ok(())
}

/// How messages are sent.
#[derive(Clone, Copy)]
enum Pace {
    /// So many are on their way.
    Window(u64),
    /// So many in a second.
    Rate(f64),
}

struct Load {
    outgoing: Wire,
    incoming: Wire,
    topic: String,
    qos: u8,
    eye: Eye,
    /// The number of the first message: another for each run, to tell what an earlier one left behind.
    first: u64,
    sent: u64,
    /// How often each number came.
    came: Vec<u8>,
    received: u64,
    repeated: u64,
    out_of_order: u64,
    unreadable: u64,
    highest: u64,
    last_receipt: Instant,
    /// When the first message came through, since 1970.
    first_micros: Option<u64>,
    marks: Marks,
}

/// What is written down about a stretch of time.
#[derive(Default)]
struct Marks {
    latencies_micros: Vec<u32>,
    longest_gap: Duration,
    first_hot: Option<u64>,
    cold_after_hot: u64,
}

impl Load {
    fn new(arguments: &Arguments) -> anyhow::Result<Load> {
        let port = arguments.get("port")?;
        let qos = arguments.get("qos")?;
        let mut incoming = Wire::connect(port, "load-incoming")?;
        incoming.subscribe(&arguments.get::<String>("to")?, qos)?;
        let outgoing = Wire::connect(port, "load-outgoing")?;
        incoming.go_on_without_waiting()?;
        outgoing.go_on_without_waiting()?;
        Ok(Load {
            outgoing,
            incoming,
            topic: arguments.get("from")?,
            qos,
            eye: Eye::new(),
            first: u64::from(std::process::id() % 800) * MOST_IN_RUN,
            sent: 0,
            came: Vec::new(),
            received: 0,
            repeated: 0,
            out_of_order: 0,
            unreadable: 0,
            highest: 0,
            last_receipt: Instant::now(),
            first_micros: None,
            marks: Marks::default(),
        })
    }

    /// Warms up, measures, and waits for the rest.
    fn measured(&mut self, arguments: &Arguments, pace: Pace) -> anyhow::Result<Value> {
        let watched: u32 = arguments.get_or("process", 0)?;
        let broker: u32 = arguments.get_or("broker", 0)?;
        self.run(pace, Duration::from_secs_f64(arguments.get("warmup")?))?;
        self.marks = Marks::default();
        let (start, received) = (Instant::now(), self.received);
        let (cpu, broker_cpu) = (cpu_micros(watched), cpu_micros(broker));
        let own_cpu = cpu_micros(std::process::id());
        self.run(pace, Duration::from_secs_f64(arguments.get("seconds")?))?;
        let elapsed = start.elapsed().as_micros() as f64;
        let count = self.received - received;
        let share =
            |process, before| cpu_micros(process).saturating_sub(before) as f64 / elapsed;
        let cpu_share = share(watched, cpu);
        let broker_share = share(broker, broker_cpu);
        let own_share = share(std::process::id(), own_cpu);
        let resident = resident_kib(watched);
        let marks = std::mem::take(&mut self.marks);
        self.drain()?;
        Ok(merge(
            self.totals(),
            json!({
                "rate": count as f64 / (elapsed / 1e6),
                "latency_ms": percentiles(marks.latencies_micros),
                "cpu_share": cpu_share,
                "broker_share": broker_share,
                "load_share": own_share,
                "cpu_us_per_message": cpu_share * elapsed / count.max(1) as f64,
                "resident_kib": resident,
            }),
        ))
    }

    /// Sends so many, and no more.
    fn counted(&mut self, window: u64, messages: u64) -> anyhow::Result<Value> {
        while self.received < messages {
            let room = window.saturating_sub(self.sent - self.received);
            self.send(room.min(messages - self.sent));
            self.flush()?;
            if !self.take()? {
                self.wait(Duration::from_millis(10))?;
            }
            if self.last_receipt.elapsed() > Duration::from_secs(30) {
                bail!("nothing came for 30 seconds");
            }
        }
        Ok(self.totals())
    }

    /// Sends until the first comes through.
    fn first(&mut self, rate: f64) -> anyhow::Result<Value> {
        self.say("ready")?;
        let start = Instant::now();
        while self.received == 0 {
            self.run(Pace::Rate(rate), Duration::from_secs_f64(10.0 / rate))?;
            if start.elapsed() > Duration::from_secs(60) {
                bail!("nothing came through within a minute");
            }
        }
        // What is still on its way would only be in the way of the next run.
        let quiet = Duration::from_millis(200).max(Duration::from_secs_f64(2.0 / rate));
        while self.last_receipt.elapsed() < quiet {
            self.flush()?;
            if !self.take()? {
                self.wait(quiet)?;
            }
        }
        Ok(json!({ "first_micros": self.first_micros }))
    }

    /// Paced throughout; says `now` when half of the time is over.
    fn reload(&mut self, arguments: &Arguments) -> anyhow::Result<Value> {
        let pace = Pace::Rate(arguments.get("rate")?);
        let half = Duration::from_secs_f64(arguments.get::<f64>("seconds")? / 2.0);
        self.run(pace, Duration::from_secs_f64(arguments.get("warmup")?))?;
        self.marks = Marks::default();
        self.run(pace, half)?;
        let before = std::mem::take(&mut self.marks);
        self.say("now")?;
        self.run(pace, half)?;
        let after = std::mem::take(&mut self.marks);
        self.drain()?;
        let part = |marks: Marks| {
            json!({
                "latency_ms": percentiles(marks.latencies_micros),
                "longest_gap_ms": marks.longest_gap.as_secs_f64() * 1e3,
                "changed": marks.first_hot.is_some(),
                "old_after_new": marks.cold_after_hot,
            })
        };
        Ok(merge(self.totals(), json!({ "before": part(before), "after": part(after) })))
    }

    fn say(&self, word: &str) -> anyhow::Result<()> {
        println!("{word}");
        Ok(std::io::stdout().flush()?)
    }

    fn run(&mut self, pace: Pace, within: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        let sent_before = self.sent;
        self.last_receipt = start;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= within {
                return Ok(());
            }
            let mut pause = within - elapsed;
            match pace {
                Pace::Window(window) => {
                    if self.last_receipt.elapsed() > PATIENCE {
                        bail!("the window is full and nothing comes any more: {}", self.totals());
                    }
                    let on_the_way = self.sent - self.received.min(self.sent);
                    self.send(window.saturating_sub(on_the_way));
                    pause = pause.min(PATIENCE);
                }
                Pace::Rate(rate) => {
                    let due = (elapsed.as_secs_f64() * rate) as u64 + 1;
                    self.send(due.saturating_sub(self.sent - sent_before));
                    let next = (self.sent - sent_before) as f64 / rate;
                    let next = Duration::from_secs_f64(next).saturating_sub(start.elapsed());
                    pause = pause.min(next);
                }
            }
            self.flush()?;
            if !self.take()? {
                self.wait(pause)?;
            }
        }
    }

    /// Waits for what is on its way.
    fn drain(&mut self) -> anyhow::Result<()> {
        self.last_receipt = Instant::now();
        while self.distinct() < self.sent && self.last_receipt.elapsed() < PATIENCE {
            self.flush()?;
            if !self.take()? {
                self.wait(Duration::from_millis(20))?;
            }
        }
        Ok(())
    }

    fn distinct(&self) -> u64 {
        self.received - self.repeated
    }

    fn totals(&self) -> Value {
        json!({
            "sent": self.sent,
            "lost": self.sent - self.distinct(),
            "repeated": self.repeated,
            "out_of_order": self.out_of_order,
            "unreadable": self.unreadable,
        })
    }

    fn send(&mut self, count: u64) {
        let count = count.min(MOST_IN_WRITE).min(MOST_IN_RUN - self.sent);
        if count == 0 {
            return;
        }
        let now = now_micros();
        for _ in 0..count {
            self.outgoing.publish(&self.topic, self.qos, self.first + self.sent, now);
            self.sent += 1;
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.outgoing.flush()?;
        self.incoming.flush()
    }

    /// Takes what came. False when nothing did.
    fn take(&mut self) -> anyhow::Result<bool> {
        let mut some = false;
        // The broker's acknowledgements of what was published.
        while self.outgoing.fill()? {
            while self.outgoing.next().is_some() {}
            some = true;
        }
        if !self.incoming.fill()? {
            return Ok(some);
        }
        let now = now_micros();
        let mut packets = Vec::new();
        while let Some(packet) = self.incoming.next() {
            let Packet::Publish { packet, payload } = packet else { continue };
            if packet > 0 {
                packets.push(packet);
            }
            let Some(seen) = self.eye.look(payload) else {
                self.unreadable += 1;
                continue;
            };
            let number = match seen.number.checked_sub(self.first) {
                Some(number) if number < self.sent => number,
                _ => continue,
            };
            self.first_micros.get_or_insert(now);
            let index = usize::try_from(number).context("a number")?;
            if self.came.len() <= index {
                self.came.resize((index + 1).next_power_of_two(), 0);
            }
            let times = &mut self.came[index];
            self.repeated += u64::from(*times > 0);
            *times = times.saturating_add(1);
            self.received += 1;
            self.out_of_order += u64::from(number < self.highest);
            self.highest = self.highest.max(number);
            let late = now.saturating_sub(seen.sent_micros);
            self.marks.latencies_micros.push(u32::try_from(late).unwrap_or(u32::MAX));
            match self.eye.is_hot(payload) {
                true => _ = self.marks.first_hot.get_or_insert(number),
                false => self.marks.cold_after_hot += u64::from(self.marks.first_hot.is_some()),
            }
        }
        packets.into_iter().for_each(|packet| self.incoming.acknowledge(packet));
        let gap = self.last_receipt.elapsed();
        self.marks.longest_gap = self.marks.longest_gap.max(gap);
        self.last_receipt = Instant::now();
        self.incoming.flush()?;
        Ok(true)
    }

    /// Waits until something can be read, or written where something waits.
    fn wait(&self, most: Duration) -> anyhow::Result<()> {
        let events = |wire: &Wire| match wire.output.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        };
        let mut sockets = [
            PollFd::new(&self.outgoing.stream, events(&self.outgoing)),
            PollFd::new(&self.incoming.stream, events(&self.incoming)),
        ];
        let most = Timespec {
            tv_sec: most.as_secs() as i64,
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        poll(&mut sockets, Some(&most)).context("waiting for the broker")?;
        Ok(())
    }
}

fn percentiles(mut micros: Vec<u32>) -> Value {
    micros.sort_unstable();
    let at = |share: f64| {
        let index = ((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1));
        micros.get(index).map(|micros| f64::from(*micros) / 1e3)
    };
    json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) })
}

fn merge(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
