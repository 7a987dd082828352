//! Looks at a device by reading it: which units there are, what they answer, what they refuse.
//!
//! Nothing is ever written. There is a bound on requests and on time, for what is behind a metered link.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{Figure, Period, Voice, World, tool::Screen, voice::Hears};
use tokio::time::{Instant, sleep};
use tokio_modbus::ExceptionCode;

use crate::{
    ask::{Ask, Level},
    block::{Block, Table},
    frame::{Framing, Stray},
    link::{Answer, Failure, Identity, Link, Place},
    serial::SerialLine,
};

/// What may be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub requests: usize,
    pub time: Duration,
}

/// A link, and what was spent on it.
pub struct Looker<'a> {
    pub to: Place,
    pub line: Option<SerialLine>,
    pub timeout: Period,
    pub budget: Budget,
    pub world: &'a World,
    pub screen: &'a dyn Screen,
    link: Option<Link>,
    bytes: Arc<Bytes>,
    began: Instant,
    /// How long each answer took.
    pub took: Vec<Duration>,
    pub requests: usize,
    /// Whether there was no more to spend.
    pub is_spent: bool,
}

/// What a unit has in one table.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Registers, or bits as 0 and 1, with what they held a little later.
    pub values: BTreeMap<u16, (u16, Option<u16>)>,
    /// What was refused, and why.
    pub refused: Vec<(Block, String)>,
}

/// Why nothing more was read.
pub enum End {
    Spent,
    Failed(anyhow::Error),
}

#[derive(Default)]
struct Bytes {
    out: AtomicU64,
    back: AtomicU64,
}

impl Hears for Bytes {
    fn ready(&self) {}
    fn trouble(&self, _: &anyhow::Error) {}
    fn trouble_lasts(&self, _: &str, _: &anyhow::Error) {}
    fn trouble_is_over(&self, _: &str) {}
    fn dropped(&self, _: u64, _: &str) {}
    fn busy(&self, _: f64) {}

    fn count(&self, figure: Figure, by: u64) {
        match figure {
            Figure::BytesOut => _ = self.out.fetch_add(by, Ordering::Relaxed),
            Figure::BytesIn => _ = self.back.fetch_add(by, Ordering::Relaxed),
            _ => (),
        }
    }
}

/// Between the two looks at the same registers, at least.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1200);
/// A device that is busy is asked so often.
const TRIES: usize = 3;
const BUSY_PAUSE: Duration = Duration::from_millis(200);
/// Some devices swallow what comes in their first second.
const FIRST_SECOND: Duration = Duration::from_millis(1200);
/// What a device says of itself comes in no more parts.
const MOST_PARTS: usize = 4;
/// So many requests in a row without an answer, and a table is left alone: those it takes from a hundred
/// registers down to a single one that is not answered.
const MOST_SILENT: usize = 8;

impl<'a> Looker<'a> {
    pub fn new(
        to: Place,
        line: Option<SerialLine>,
        timeout: Period,
        budget: Budget,
        world: &'a World,
        screen: &'a dyn Screen,
    ) -> Looker<'a> {
        Looker {
            to,
            line,
            timeout,
            budget,
            world,
            screen,
            link: None,
            bytes: Arc::default(),
            began: Instant::now(),
            took: Vec::new(),
            requests: 0,
            is_spent: false,
        }
    }

    /// Bytes of Modbus to the device, and back.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes.out.load(Ordering::Relaxed), self.bytes.back.load(Ordering::Relaxed))
    }

    pub async fn open(&mut self) -> anyhow::Result<()> {
        const LONGEST: Period = Period(Duration::from_secs(5));
        let voice = Voice::new(Arc::clone(&self.bytes) as Arc<dyn Hears>);
        let opened = Link::open(self.world, &self.to, LONGEST, &voice).await;
        self.link = Some(opened.map_err(explain_opening)?);
        Ok(())
    }

    /// Which of the units answer, and how the others do not.
    pub async fn units(&mut self, units: &[u8]) -> Result<Vec<(u8, Result<(), String>)>, End> {
        let mut found = Vec::new();
        for unit in units {
            self.screen.progress(&format!("looking for unit {unit} …"));
            let first = Block { table: Table::Holding, start: 0, count: 1 };
            let mut answer = match self.ask(*unit, first).await {
                Ok(answer) => answer,
                // What was found is worth telling.
                Err(End::Spent) => break,
                Err(failed) => return Err(failed),
            };
            if found.is_empty() && matches!(answer, Err(Failure::Silence { .. })) {
                sleep(FIRST_SECOND.saturating_sub(self.began.elapsed())).await;
                answer = match self.ask(*unit, first).await {
                    Ok(answer) => answer,
                    Err(End::Spent) => break,
                    Err(failed) => return Err(failed),
                };
            }
            let there = match answer {
                Err(failure) if is_absent(&failure) => Err(failure.to_string()),
                Ok(_) | Err(Failure::Exception(_)) => Ok(()),
                Err(failure) => Err(failure.to_string()),
            };
            found.push((*unit, there));
        }
        Ok(found)
    }

    /// Reads a range, and asks in halves what is refused or not answered, down to `finest` registers.
    pub async fn scan(&mut self, unit: u8, range: Block, finest: u16) -> Result<Found, End> {
        let most = u16::try_from(range.table.most_in_one_request(100)).unwrap_or(100);
        let mut waiting = Vec::new();
        let mut start = u32::from(range.start);
        while start < range.end() {
            let count = u32::from(most).min(range.end() - start);
            waiting.push(Block { start: start as u16, count: count as u16, ..range });
            start += count;
        }
        waiting.reverse();
        let (mut found, mut silent) = (Found::default(), 0);
        while let Some(block) = waiting.pop() {
            let requests = self.requests;
            self.screen.progress(&format!("unit {unit}: {block} … ({requests} requests so far)"));
            let answer = match self.ask(unit, block).await {
                Ok(answer) => answer,
                Err(End::Spent) => break,
                Err(failed) => return Err(failed),
            };
            match answer {
                Ok(answer) => {
                    silent = 0;
                    let values = (block.start..=u16::MAX).zip(words(answer));
                    found.values.extend(values.map(|(address, value)| (address, (value, None))));
                }
                Err(Failure::Exception(ExceptionCode::IllegalFunction)) => {
                    let why = "it does not know the function (exception 1)".to_owned();
                    found.refused.push((range, why));
                    break;
                }
                Err(failure) => {
                    let is_silence = !matches!(failure, Failure::Exception(_));
                    silent = if is_silence { silent + 1 } else { 0 };
                    if silent == MOST_SILENT {
                        found.refuse(block, failure.to_string());
                        let why = format!("not asked after {silent} requests without an answer");
                        waiting.into_iter().rev().for_each(|rest| found.refuse(rest, why.clone()));
                        break;
                    }
                    if block.count > finest && may_be_about_place(&failure) {
                        let (front, back) = halves(block);
                        waiting.push(back);
                        waiting.push(front);
                    } else {
                        found.refuse(block, failure.to_string());
                    }
                }
            }
        }
        Ok(found)
    }

    /// Reads what was found once more.
    pub async fn look_again(
        &mut self,
        unit: u8,
        table: Table,
        found: &mut Found,
    ) -> Result<(), End> {
        for block in found.blocks(table) {
            self.screen.progress(&format!("unit {unit}: {block}, a second look …"));
            match self.ask(unit, block).await {
                Ok(Ok(answer)) => {
                    for (address, value) in (block.start..=u16::MAX).zip(words(answer)) {
                        if let Some(seen) = found.values.get_mut(&address) {
                            seen.1 = Some(value);
                        }
                    }
                }
                Ok(Err(_)) => (),
                Err(End::Spent) => return Ok(()),
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// What a unit says of itself, by the numbers of the objects. Most devices say nothing.
    pub async fn identify(&mut self, unit: u8) -> Result<BTreeMap<u8, String>, End> {
        self.screen.progress(&format!("unit {unit}: what it says of itself …"));
        let mut known = BTreeMap::new();
        let (mut level, mut from) = (Level::Basic, 0);
        for _ in 0..MOST_PARTS {
            let Ok(Answer::Identity(identity)) =
                self.try_once(unit, &Ask::Identify { level, from }).await?
            else {
                break;
            };
            let Identity { objects, next, is_regular } = identity;
            known.extend(objects.into_iter().filter(|(_, text)| !text.is_empty()));
            (level, from) = match (next, level) {
                (Some(next), _) => (level, next),
                (None, Level::Basic) if is_regular => (Level::Regular, 0),
                (None, _) => break,
            };
        }
        Ok(known)
    }

    /// Lets some time pass between two looks.
    pub async fn wait_a_moment(&self) {
        self.screen.progress("waiting a moment, to see what moves …");
        sleep(BETWEEN_LOOKS).await;
    }

    /// Asks once; a device that is busy, or hangs up after each answer, a few times.
    async fn ask(&mut self, unit: u8, block: Block) -> Result<Result<Answer, Failure>, End> {
        let ask = Ask::Read(block);
        let mut answer = self.try_once(unit, &ask).await?;
        for _ in 1..TRIES {
            match &answer {
                Err(Failure::Exception(
                    ExceptionCode::ServerDeviceBusy | ExceptionCode::Acknowledge,
                )) => sleep(BUSY_PAUSE).await,
                Err(Failure::HungUp { .. }) => (),
                Err(Failure::Silence { stray: Some(Stray::Transaction { .. }), .. })
                    if self.ignore_transaction() => {}
                _ => return Ok(answer),
            }
            answer = self.try_once(unit, &ask).await?;
        }
        Ok(answer)
    }

    /// A device that does not repeat transactions is looked at without them, on a new link. Says whether
    /// it was looked at with them.
    fn ignore_transaction(&mut self) -> bool {
        let Place::Network(_, framing @ Framing::Tcp) = &mut self.to else { return false };
        *framing = Framing::Unnumbered;
        self.link = None;
        true
    }

    async fn try_once(&mut self, unit: u8, ask: &Ask) -> Result<Result<Answer, Failure>, End> {
        if self.requests >= self.budget.requests || self.began.elapsed() > self.budget.time {
            self.is_spent = true;
            return Err(End::Spent);
        }
        if self.link.is_none() {
            self.open().await.map_err(End::Failed)?;
        }
        let Some(mut link) = self.link.take() else { return Err(End::Spent) };
        self.requests += 1;
        let began = Instant::now();
        let answer = link.call(unit, ask, self.timeout).await;
        match &answer {
            Ok(_) | Err(Failure::Exception(_)) => {
                self.took.push(began.elapsed());
                self.link = Some(link);
            }
            // With transaction ids a late answer is told from the next.
            Err(Failure::Silence { .. }) if self.to.framing() == Framing::Tcp => {
                self.link = Some(link);
            }
            // Without, it is waited for and thrown away.
            Err(Failure::Silence { .. }) => {
                let silence = self.line.map_or(self.timeout.0, |line| line.silence());
                link.settle(silence.max(self.timeout.0 / 2)).await;
                self.link = Some(link);
            }
            Err(_) => (),
        }
        Ok(answer)
    }
}

impl Found {
    /// What was read, as runs without a hole that fit in a request.
    pub fn blocks(&self, table: Table) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let most = table.most_in_one_request(100);
        for address in self.values.keys() {
            match blocks.last_mut() {
                Some(last) if last.end() == u32::from(*address) && u32::from(last.count) < most => {
                    last.count += 1;
                }
                _ => blocks.push(Block { table, start: *address, count: 1 }),
            }
        }
        blocks
    }

    /// Refusals for one reason are told as one.
    fn refuse(&mut self, block: Block, why: String) {
        match self.refused.last_mut() {
            Some((last, known)) if last.end() == u32::from(block.start) && *known == why => {
                last.count += block.count;
            }
            _ => self.refused.push((block, why)),
        }
    }
}

/// Whether nobody answers there.
fn is_absent(failure: &Failure) -> bool {
    use ExceptionCode::{GatewayPathUnavailable, GatewayTargetDevice};
    matches!(
        failure,
        Failure::Silence { .. } | Failure::Exception(GatewayPathUnavailable | GatewayTargetDevice)
    )
}

/// Whether a smaller request may be answered. Some devices say nothing to one with a register in it that they
/// do not have, or hang up.
fn may_be_about_place(failure: &Failure) -> bool {
    use ExceptionCode::{IllegalDataAddress, IllegalDataValue, ServerDeviceFailure};
    let about_place = [IllegalDataAddress, IllegalDataValue, ServerDeviceFailure];
    match failure {
        Failure::Exception(code) => about_place.contains(code),
        failure => matches!(failure, Failure::Silence { .. } | Failure::HungUp { .. }),
    }
}

/// Two parts; where that can be the second begins at an even address, as values of two registers do.
fn halves(block: Block) -> (Block, Block) {
    let middle = u32::from(block.start) + u32::from(block.count) / 2;
    let middle = if block.count > 2 && middle % 2 == 1 { middle + 1 } else { middle };
    let first = (middle - u32::from(block.start)) as u16;
    let front = Block { count: first, ..block };
    (front, Block { start: middle as u16, count: block.count - first, ..block })
}

fn words(answer: Answer) -> Vec<u16> {
    match answer {
        Answer::Registers(registers) => registers,
        Answer::Bits(bits) => bits.into_iter().map(u16::from).collect(),
        Answer::Written | Answer::Identity(_) => Vec::new(),
    }
}

/// A line that somebody else has open is left alone.
fn explain_opening(error: anyhow::Error) -> anyhow::Error {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match kind {
        Some(std::io::ErrorKind::ResourceBusy) => anyhow!(
            "{error:#}; two who ask at once on a serial line are not understood: stop that one first"
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use forebay_sdk::world::{Listener, memory::Memory};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::place;

    struct Nobody;

    impl Screen for Nobody {
        fn print(&self, _: &str) {}
        fn progress(&self, _: &str) {}
    }

    /// Units of a device at 10.0.0.5, which answers with `answer` to function, start and count, or not at all.
    fn device(memory: &Memory, answer: impl Fn(u8, u16, u16) -> Option<Vec<u8>> + Send + 'static) {
        let door = memory.open("10.0.0.5:502");
        tokio::spawn(async move {
            loop {
                let (mut client, _) = door.accept().await.unwrap();
                let mut request = [0; 12];
                while client.read_exact(&mut request).await.is_ok() {
                    let [.., function, a, b, c, d] = request;
                    let (start, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    if let Some(answer) = answer(function, start, count) {
                        let length = u8::try_from(answer.len() + 2).unwrap();
                        let head = [request[0], request[1], 0, 0, 0, length, request[6], function];
                        client.write_all(&[&head[..], &answer].concat()).await.unwrap();
                    }
                }
            }
        });
    }

    /// What is found in a range, and how many requests it takes.
    async fn scanned(memory: &Memory, range: &str) -> (Found, usize) {
        let (to, line) = place::parse("tcp://10.0.0.5").unwrap();
        let budget = Budget { requests: 100, time: Duration::from_secs(600) };
        let world = memory.world();
        let mut looker = Looker::new(to, line, Period::seconds(1), budget, &world, &Nobody);
        let Ok(found) = looker.scan(1, Block::written(range), 1).await else {
            panic!("it can be asked")
        };
        (found, looker.requests)
    }

    fn registers(count: u16) -> Vec<u8> {
        [vec![(count * 2) as u8], [0, 7].repeat(count.into())].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn a_range_with_one_register_that_is_not_answered_was_not_found_at_all() {
        let memory = Memory::new(1_795_251_600_000_000_000);
        device(&memory, |_, start, count| {
            (!(start..start + count).contains(&40)).then(|| registers(count))
        });
        let (found, requests) = scanned(&memory, "h0+100").await;
        assert_eq!(found.values.len(), 99);
        let [(refused, why)] = &found.refused[..] else { panic!("{:?}", found.refused) };
        assert_eq!((*refused, &why[..]), (Block::written("h40+1"), "no answer within 1s"));
        assert!(requests <= 15, "{requests}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_asked_of_a_table_that_is_not_answered_went_without_a_word() {
        let memory = Memory::new(1_795_251_600_000_000_000);
        device(&memory, |_, _, _| None);
        let (found, requests) = scanned(&memory, "h0+300").await;
        assert_eq!(requests, MOST_SILENT);
        let (mut next, mut whys) = (0, Vec::new());
        for (block, why) in &found.refused {
            assert_eq!(u32::from(block.start), next);
            next = block.end();
            whys.push(&why[..]);
        }
        assert_eq!(next, 300);
        assert_eq!(whys, ["no answer within 1s", "not asked after 8 requests without an answer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_never_repeats_the_transaction_was_not_found() {
        let memory = Memory::new(1_795_251_600_000_000_000);
        let door = memory.open("10.0.0.5:502");
        tokio::spawn(async move {
            loop {
                let (mut client, _) = door.accept().await.unwrap();
                let mut request = [0; 12];
                while client.read_exact(&mut request).await.is_ok() {
                    let answer = [0, 0, 0, 0, 0, 5, request[6], request[7], 2, 0, 7];
                    client.write_all(&answer).await.unwrap();
                }
            }
        });
        let (to, line) = place::parse("tcp://10.0.0.5").unwrap();
        let budget = Budget { requests: 20, time: Duration::from_secs(60) };
        let world = memory.world();
        let timeout = Period::seconds(1);
        let mut looker = Looker::new(to, line, timeout, budget, &world, &Nobody);
        let Ok(units) = looker.units(&[1]).await else { panic!("it can be asked") };
        assert_eq!(units, [(1, Ok(()))]);
        assert_eq!(looker.to.framing(), Framing::Unnumbered);
    }
}
