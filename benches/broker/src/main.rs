//! A crowd of clients at one broker, and how it served them: a line of JSON.
//!
//! `crowd port=1883 process=4711 publishers=10 readers=10 qos=1 window=100 bytes=100 seconds=10`: each publisher has a topic of its
//! own, of which each reader has its share, and so many messages under way; with `rate=10` in the place of `window` it sends so many
//! in a second. With `fan=all` every reader gets everything. With `away=1` one reader has subscribed to all of it and is gone, and a
//! publisher's messages are under way until they are acknowledged.

mod wire;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    rc::Rc,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::AsyncWriteExt,
    net::tcp::OwnedWriteHalf,
    sync::Notify,
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval, sleep},
};

use self::wire::Packet;

/// Before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long what is under way may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is put into one write.
const MOST_IN_WRITE: u64 = 256;

struct Wanted {
    port: u16,
    process: u32,
    publishers: usize,
    readers: usize,
    qos: u8,
    window: Option<u64>,
    rate: Option<f64>,
    bytes: usize,
    duration: Duration,
    fan_out: bool,
    is_away: bool,
}

/// One publisher's messages.
#[derive(Default)]
struct Flow {
    sent: AtomicU64,
    /// By whoever tells that it may go on.
    back: AtomicU64,
    may_go_on: Notify,
}

struct Crowd {
    wanted: Wanted,
    began: Instant,
    flows: Vec<Flow>,
    received: AtomicU64,
    acknowledged: AtomicU64,
    /// How long messages took, in microseconds.
    latencies: RefCell<Vec<u32>>,
    is_over: Cell<bool>,
}

fn main() -> anyhow::Result<()> {
    let mut said = BTreeMap::new();
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments are `name=value`")?;
        said.insert(name.to_owned(), value.to_owned());
    }
    let wanted = Wanted {
        port: get(&mut said, "port", None)?,
        process: get(&mut said, "process", None)?,
        publishers: get(&mut said, "publishers", Some(1))?,
        readers: get(&mut said, "readers", Some(1))?,
        qos: get(&mut said, "qos", Some(0))?,
        window: said.remove("window").map(|it| it.parse()).transpose()?,
        rate: said.remove("rate").map(|it| it.parse()).transpose()?,
        bytes: get(&mut said, "bytes", Some(100))?,
        duration: Duration::from_secs_f64(get(&mut said, "seconds", Some(5.0))?),
        fan_out: said.remove("fan").is_some(),
        is_away: said.remove("away").is_some(),
    };
    if let Some(name) = said.keys().next() {
        bail!("no argument is named `{name}`");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(wanted))
}

fn get<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    said: &mut BTreeMap<String, String>,
    name: &str,
    otherwise: Option<T>,
) -> anyhow::Result<T> {
    match (said.remove(name), otherwise) {
        (Some(text), _) => text.parse().with_context(|| format!("reading `{name}`")),
        (None, Some(value)) => Ok(value),
        (None, None) => bail!("`{name}` is missing"),
    }
}

async fn run(wanted: Wanted) -> anyhow::Result<()> {
    let flows = (0..wanted.publishers).map(|_| Flow::default()).collect();
    let crowd = Rc::new(Crowd {
        flows,
        began: Instant::now(),
        received: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        latencies: Default::default(),
        is_over: false.into(),
        wanted,
    });
    let wanted = &crowd.wanted;
    if wanted.is_away {
        let (mut reading, mut to) = wire::connect(wanted.port, "crowd-away", false).await?;
        wire::subscribe(&mut reading, &mut to, "crowd/#", 1).await?;
        to.write_all(&[0xe0, 0]).await?;
    }
    let mut readers = JoinSet::new();
    for number in 0..wanted.readers {
        let (mut reading, mut to) =
            wire::connect(wanted.port, &format!("crowd-reader-{number}"), true).await?;
        match wanted.fan_out {
            true => wire::subscribe(&mut reading, &mut to, "crowd/#", wanted.qos).await?,
            false => {
                for topic in (number..wanted.publishers).step_by(wanted.readers) {
                    let filter = format!("crowd/{topic}");
                    wire::subscribe(&mut reading, &mut to, &filter, wanted.qos).await?;
                }
            }
        }
        let crowd = Rc::clone(&crowd);
        readers.spawn_local(async move { crowd.read(number, reading, to).await });
    }
    let mut publishers = JoinSet::new();
    for number in 0..wanted.publishers {
        let (reading, to) =
            wire::connect(wanted.port, &format!("crowd-publisher-{number}"), true).await?;
        let (hears, sends) = (Rc::clone(&crowd), Rc::clone(&crowd));
        readers.spawn_local(async move { hears.hear(number, reading).await });
        publishers.spawn_local(async move { sends.publish(number, to).await });
    }
    sleep(WARM_UP).await;
    let (before, cpu_before, rss_before) =
        (crowd.passed(), cpu_micros(wanted.process), resident_kib(wanted.process));
    crowd.latencies.borrow_mut().clear();
    let began = Instant::now();
    let mut rss_most = rss_before;
    while let Some(left) = wanted.duration.checked_sub(began.elapsed()).filter(|it| !it.is_zero()) {
        sleep(left.min(Duration::from_millis(200))).await;
        rss_most = rss_most.max(resident_kib(wanted.process));
        if let Some(ended) = readers.try_join_next() {
            ended??;
        }
    }
    let (passed, seconds) = (crowd.passed() - before, began.elapsed().as_secs_f64());
    let cpu = cpu_micros(wanted.process) - cpu_before;
    let latencies = crowd.latencies.take();
    crowd.is_over.set(true);
    crowd.flows.iter().for_each(|flow| flow.may_go_on.notify_one());
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    let until = Instant::now() + PATIENCE;
    while crowd.is_missing() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{{\"rate\": {:.0}, \"cpu_micros\": {:.2}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}, \"most_ms\": {:.3}, \"missing\": {}, \
         \"rss_before\": {rss_before}, \"rss_most\": {rss_most}, \"rss_after\": {}}}",
        passed as f64 / seconds,
        cpu as f64 / passed.max(1) as f64,
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        quantile(&latencies, 1.0),
        crowd.is_missing(),
        resident_kib(wanted.process),
    );
    Ok(())
}

impl Crowd {
    /// What was delivered, or acknowledged where nobody reads.
    fn passed(&self) -> u64 {
        match self.wanted.readers {
            0 => self.acknowledged.load(Relaxed),
            _ => self.received.load(Relaxed),
        }
    }

    /// What was sent and never came.
    fn is_missing(&self) -> u64 {
        let sent = self.flows.iter().map(|flow| flow.sent.load(Relaxed)).sum::<u64>();
        let copies = match (self.wanted.readers, self.wanted.fan_out) {
            (readers, true) => sent * readers as u64,
            _ => sent,
        };
        copies.saturating_sub(self.passed())
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    async fn publish(&self, number: usize, mut to: OwnedWriteHalf) -> anyhow::Result<()> {
        let (flow, wanted) = (&self.flows[number], &self.wanted);
        let topic = format!("crowd/{number}");
        let mut beat = wanted.rate.map(|rate| interval(Duration::from_secs_f64(1.0 / rate)));
        if let Some(beat) = &mut beat {
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            sleep(Duration::from_secs_f64(number as f64 / wanted.publishers as f64 * 0.1)).await;
        }
        let mut payload = vec![b'x'; wanted.bytes.max(16)];
        let mut bytes = Vec::new();
        while !self.is_over.get() {
            let many = match (&mut beat, wanted.window) {
                (Some(beat), _) => {
                    beat.tick().await;
                    1
                }
                (None, Some(window)) => {
                    let under_way = flow.sent.load(Relaxed) - flow.back.load(Relaxed);
                    let room = window.saturating_sub(under_way);
                    if room == 0 {
                        flow.may_go_on.notified().await;
                        continue;
                    }
                    room.min(MOST_IN_WRITE)
                }
                (None, None) => bail!("expected `window` or `rate`"),
            };
            bytes.clear();
            for _ in 0..many {
                let at = flow.sent.fetch_add(1, Relaxed);
                payload[..8].copy_from_slice(&self.micros().to_be_bytes());
                payload[8..16].copy_from_slice(&(number as u64).to_be_bytes());
                wire::publish(&mut bytes, &topic, wanted.qos, (at % 65_535) as u16 + 1, &payload);
            }
            to.write_all(&bytes).await?;
        }
        // Its acknowledgements are heard until the end.
        std::mem::forget(to);
        Ok(())
    }

    /// Hears what the broker says to a publisher.
    async fn hear(&self, number: usize, mut reading: wire::Reading) -> anyhow::Result<()> {
        loop {
            let mut count = 0;
            reading
                .read(|packet| {
                    if let Packet::PubAck = packet {
                        count += 1;
                    }
                })
                .await?;
            self.acknowledged.fetch_add(count, Relaxed);
            if self.wanted.readers == 0 {
                self.go_on(number, count);
            }
        }
    }

    fn go_on(&self, number: usize, count: u64) {
        self.flows[number].back.fetch_add(count, Relaxed);
        self.flows[number].may_go_on.notify_one();
    }

    /// Reads what comes for one reader. Where everybody gets everything, the first one tells that publishers may go on.
    async fn read(
        &self,
        number: usize,
        mut reading: wire::Reading,
        mut to: OwnedWriteHalf,
    ) -> anyhow::Result<()> {
        let tells = !self.wanted.fan_out || number == 0;
        let (mut acks, mut sent_at, mut from) = (Vec::new(), Vec::new(), BTreeMap::new());
        loop {
            reading
                .read(|packet| {
                    let Packet::Publish { id, payload } = packet else { return };
                    let word =
                        |at: usize| payload[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
                    sent_at.push(word(0));
                    *from.entry(word(8) as usize).or_insert(0) += 1;
                    if id > 0 {
                        wire::acknowledge(&mut acks, id);
                    }
                })
                .await?;
            let now = self.micros();
            self.received.fetch_add(sent_at.len() as u64, Relaxed);
            let took = sent_at.drain(..).map(|sent| now.saturating_sub(sent) as u32);
            self.latencies.borrow_mut().extend(took);
            while let Some((publisher, count)) = from.pop_first() {
                if tells {
                    self.go_on(publisher, count);
                }
            }
            if !acks.is_empty() {
                to.write_all(&acks).await?;
                acks.clear();
            }
        }
    }
}

/// In milliseconds.
fn quantile(micros: &[u32], at: f64) -> f64 {
    let mut sorted = micros.to_vec();
    sorted.sort_unstable();
    let index = ((sorted.len() as f64 - 1.0) * at).max(0.0) as usize;
    sorted.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// Microseconds of processor time that a process has used, in steps of ten milliseconds.
fn cpu_micros(process: u32) -> u64 {
    const TICK_MICROS: u64 = 10_000;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in brackets may hold blanks; user and system time are the 12th and 13th field behind it.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0 };
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_MICROS
}

/// Resident memory in KiB.
fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
