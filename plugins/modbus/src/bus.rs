//! One bus, as its settings describe it and as its nodes see it: they line up, and the owner
//! (`connection.rs`) serves them one at a time.

use std::{sync::Arc, time::Duration};

use forebay_sdk::{
    Period,
    connection::Down,
    line::{Line, LineOwner, line},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    ask::Ask,
    block::Block,
    link::{Answer, Failure, Place},
    orders::LONGEST_WRITE,
    plan::Limits,
    serial::SerialLine,
    turns::Job,
};

/// So that the owner, who knows why the link does not open, speaks first.
const GRACE: Duration = Duration::from_secs(1);

/// How long a sink waits for the link, which its owner opens again and again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const _: () = assert!(LONGEST_WAIT.as_secs() < LONGEST_WRITE.as_secs());

/// A bus that was understood.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The devices, or the gateway to them.
    pub to: Place,
    /// The serial line, ours or behind the gateway, when we were told of one.
    pub line: Option<SerialLine>,
    /// How long to wait for an answer.
    pub timeout: Period,
    /// How long opening the link may take.
    pub connect_timeout: Period,
    /// How long to leave the bus alone after an answer.
    pub pause: Period,
    /// How long to leave it alone after it was opened.
    pub after_connect: Period,
    /// After how long without a request the link is closed.
    pub idle_close: Option<Period>,
    /// The most of its time that a unit which does not answer may take, in percent.
    pub breaker: u8,
}

/// Where nobody knows the line, an answer is waited for longer than any registers take: first as few requests as can
/// be, then as few bytes.
const REQUEST: Duration = Duration::from_millis(1);

impl Bus {
    /// What a request costs: its time where the line is known, else itself, and its bytes as nanoseconds.
    pub fn cost(&self, request: Block) -> Duration {
        match self.line {
            Some(line) => line.time_of(request) + *self.pause,
            None => REQUEST + Duration::from_nanos(request.value_bytes()) + *self.pause,
        }
    }
}

/// A bus as its nodes see it.
pub struct SharedBus {
    bus: Bus,
    place: Arc<str>,
    line: Line<Job>,
    since: Instant,
}

/// A request that waits for its turn, and is not asked once nobody waits for its answer.
pub struct InLine(oneshot::Receiver<Result<Answer, Failure>>);

impl SharedBus {
    /// The bus, and the end of the line at which its owner serves.
    pub fn new(bus: &Bus) -> (SharedBus, LineOwner<Job>) {
        let place = bus.to.to_string().into();
        let (line, owner) = line(*bus.connect_timeout + GRACE);
        (SharedBus { bus: bus.clone(), place, line, since: Instant::now() }, owner)
    }

    /// What a request costs.
    pub fn cost(&self, request: Block) -> Duration {
        self.bus.cost(request)
    }

    /// Where the bus is, as `192.168.1.50:502`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// When the bus began to be: beats that go by it are those of all its nodes.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Waits for the link. After a while it says why there is none.
    pub async fn ready(&self) -> Result<(), Down> {
        let ready = self.line.ready(LONGEST_WAIT).await;
        ready.map_err(|down| Down::new(Failure::NotConnected(down).to_string()))
    }

    /// Asks a device once it is this request's turn.
    pub async fn ask(&self, unit: u8, ask: Ask) -> Result<Answer, Failure> {
        self.answer(self.enter(unit, ask, Instant::now(), None).await?).await
    }

    /// Lines up to read registers of a device, with what others read of it at the same time where that is
    /// allowed and quicker. `due` is when they were to be read.
    pub async fn line_up(
        &self,
        unit: u8,
        block: Block,
        due: Instant,
        limits: &Arc<Limits>,
    ) -> Result<InLine, Failure> {
        self.enter(unit, Ask::Read(block), due, Some(Arc::clone(limits))).await
    }

    /// Waits until it was the turn of one who lined up.
    pub async fn answer(&self, InLine(answer): InLine) -> Result<Answer, Failure> {
        // Fails when the owner stops, however it does.
        answer.await.unwrap_or_else(|_| Err(Failure::NotConnected(self.line.down())))
    }

    async fn enter(
        &self,
        unit: u8,
        ask: Ask,
        due: Instant,
        limits: Option<Arc<Limits>>,
    ) -> Result<InLine, Failure> {
        let job = |reply| Job { unit, ask, due, limits, reply };
        self.line.enter(job).await.map(InLine).map_err(Failure::NotConnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        place,
        plan::{Merging, plan},
    };

    /// The requests for some registers of a bus with these settings.
    fn requests(url: &str, wanted: &[&str]) -> usize {
        let (to, line) = place::parse(url).unwrap();
        let zero = Period(Duration::ZERO);
        let bus = Bus {
            to,
            line,
            timeout: zero,
            connect_timeout: zero,
            pause: zero,
            after_connect: zero,
            idle_close: None,
            breaker: 5,
        };
        let wanted: Vec<Block> = wanted.iter().map(|block| Block::written(block)).collect();
        let free =
            Merging { max_gap: None, max_registers: 125, one_by_one: false, bits_from_zero: false };
        plan(&wanted, &Limits::of(free), |block| bus.cost(block)).len()
    }

    #[test]
    fn a_hole_of_a_hundred_registers_cost_a_request_where_no_line_is_known() {
        let wanted = ["h0+1", "h110+1", "h240+2"];
        assert_eq!(requests("tcp://meter.lan", &wanted), 2);
        assert_eq!(requests("tcp://meter.lan?baud=9600", &wanted), 3);
    }
}
