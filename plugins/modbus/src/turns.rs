//! Whose turn it is on a bus. Pure: it is told the time.
//!
//! Writes come first. Then the unit that was served longest ago, so that a long list of one device
//! does not keep the others waiting, and of its requests the one that was due first. Reads of one unit
//! that wait together become one request where that is allowed and costs less. A unit that did
//! not answer is left alone for so long that it takes only a small share of the bus's time, and on a
//! wire without transaction ids it is not asked again before its late answer must have come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forebay_sdk::Period;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    ask::{Ask, Shape},
    block::Block,
    frame::Framing,
    link::{Answer, Failure, Rest},
    plan::Limits,
};

/// A request on its way to the owner of the bus.
pub struct Job {
    pub unit: u8,
    pub ask: Ask,
    /// When it was to be asked.
    pub due: Instant,
    /// How far it may be read together with what others ask of the unit. None: not at all.
    pub limits: Option<Arc<Limits>>,
    pub reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// Who waits, and what is known of each unit.
pub struct Turns {
    framing: Framing,
    timeout: Duration,
    /// What a unit that does not answer may take of the bus's time, from 0 to 1.
    share: f64,
    waiting: Vec<Waiting>,
    units: BTreeMap<u8, Unit>,
}

/// A job that waits.
pub struct Waiting {
    pub job: Job,
    not_before: Instant,
    /// When a device that is busy was first asked, and how often since.
    busy: Option<(Instant, u32)>,
}

/// A request, and all who wait for its answer.
pub struct Serving {
    pub unit: u8,
    pub ask: Ask,
    pub waiting: Vec<Waiting>,
}

/// What is known of a unit.
#[derive(Default)]
struct Unit {
    served: Option<Instant>,
    /// It did not answer, and is left alone until then; how often it is asked.
    rests: Option<(Instant, Duration)>,
    /// Answers that may still come.
    owes: Vec<Shape>,
    /// Until then they may.
    owes_until: Option<Instant>,
    /// What it does not answer in one request, and answers in several.
    apart: Vec<Block>,
    /// What may be such.
    doubt: Option<Doubt>,
}

/// What several asked for together, and got no answer.
struct Doubt {
    whole: Block,
    /// How often in a row.
    silent: u32,
    /// Whether the unit has answered since it is asked by each apart. One that is gone does not.
    is_there: bool,
}

/// What to do next.
pub enum Turn {
    Serve(Serving),
    /// Nothing, until then.
    WaitUntil(Instant),
    /// Nobody waits.
    Idle,
}

/// After the first answer of a device that is busy; each further pause is twice as long.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// So often what several ask for together is asked without an answer before it is asked apart.
const MOST_SILENT: u32 = 3;
/// What is remembered of each unit.
const MOST_APART: usize = 100;

impl Turns {
    /// `percent` of the bus's time, 1 to 100, may be spent waiting for a unit that does not answer.
    pub fn new(framing: Framing, timeout: Duration, percent: u8) -> Turns {
        let share = f64::from(percent) / 100.0;
        Turns { framing, timeout, share, waiting: Vec::new(), units: BTreeMap::new() }
    }

    /// Lines up.
    pub fn enter(&mut self, job: Job) {
        self.units.entry(job.unit).or_default();
        let not_before = job.due;
        self.waiting.push(Waiting { job, not_before, busy: None });
    }

    /// Lines up again behind a device that said it is busy. Gives the job back when it has been
    /// asked for as long as one waits for an answer.
    pub fn enter_again(&mut self, mut waiting: Waiting, now: Instant) -> Result<(), Waiting> {
        let (since, times) = waiting.busy.unwrap_or((now, 0));
        let pause = BUSY_PAUSE * 2_u32.pow(times.min(10));
        if now + pause > since + self.timeout {
            return Err(waiting);
        }
        waiting.not_before = now + pause;
        waiting.busy = Some((since, times + 1));
        self.waiting.push(waiting);
        Ok(())
    }

    /// Whose turn it is now. `cost` tells what a request costs.
    pub fn next(&mut self, now: Instant, cost: &dyn Fn(Block) -> Duration) -> Turn {
        let ready_at = |waiting: &Waiting| {
            let owes_until = self.units[&waiting.job.unit].owes_until;
            owes_until.map_or(waiting.not_before, |until| until.max(waiting.not_before))
        };
        // Those that are due together go by their addresses, so that neighbours meet.
        let rank = |waiting: &Waiting| {
            let Job { unit, ask, due, .. } = &waiting.job;
            (ask.is_read(), self.units[unit].served, *due, ask.reads())
        };
        let indices = 0..self.waiting.len();
        let ready = indices.filter(|index| ready_at(&self.waiting[*index]) <= now);
        if let Some(index) = ready.min_by_key(|index| rank(&self.waiting[*index])) {
            let first = self.waiting.remove(index);
            return Turn::Serve(self.with_others(first, now, cost));
        }
        match self.waiting.iter().map(ready_at).min() {
            Some(instant) => Turn::WaitUntil(instant),
            None => Turn::Idle,
        }
    }

    /// All who are answered by one request, when that is allowed and costs less.
    fn with_others(
        &mut self,
        first: Waiting,
        now: Instant,
        cost: &dyn Fn(Block) -> Duration,
    ) -> Serving {
        let Job { unit, ref ask, .. } = first.job;
        let mut serving = Serving { unit, ask: ask.clone(), waiting: vec![first] };
        let Unit { apart, doubt, .. } = &self.units[&unit];
        let doubtful = doubt.iter().filter(|doubt| doubt.keeps_apart()).map(|doubt| &doubt.whole);
        let apart: Vec<Block> = apart.iter().chain(doubtful).copied().collect();
        let mut index = 0;
        while index < self.waiting.len() {
            let other = &self.waiting[index];
            let joined = (other.job.unit == unit && other.not_before <= now)
                .then(|| serving.join(&other.job, cost))
                .flatten()
                .filter(|whole| !apart.iter().any(|refused| whole.holds(*refused)));
            match joined {
                Some(whole) => {
                    serving.ask = Ask::Read(whole);
                    serving.waiting.push(self.waiting.remove(index));
                    // What was too far from the first may be near to this one.
                    index = 0;
                }
                None => index += 1,
            }
        }
        serving
    }

    /// A unit refused to answer several at once: each is asked by itself, now and from then on.
    pub fn split(&mut self, serving: Serving) {
        let unit = self.units.entry(serving.unit).or_default();
        serving.ask.reads().into_iter().for_each(|whole| unit.keep_apart(whole));
        self.waiting.extend(serving.waiting);
    }

    /// A unit did not answer several at once. When that goes on, each is asked by itself; and once the unit
    /// answers them, all together once more. It is learnt only when they then get no answer again.
    pub fn silent_together(&mut self, unit: u8, whole: Block) {
        let unit = self.units.entry(unit).or_default();
        let first = Doubt { whole, silent: 1, is_there: false };
        let doubt = match unit.doubt.take() {
            Some(doubt) if doubt.is_there && whole.holds(doubt.whole) => {
                return unit.keep_apart(doubt.whole);
            }
            Some(doubt) if whole.holds(doubt.whole) => Doubt { silent: doubt.silent + 1, ..doubt },
            Some(doubt) if doubt.whole.holds(whole) => Doubt { silent: doubt.silent + 1, ..first },
            _ => first,
        };
        unit.doubt = Some(doubt);
    }

    /// A unit answered several at once.
    pub fn answered_together(&mut self, unit: u8, whole: Block) {
        let unit = self.units.entry(unit).or_default();
        if unit.doubt.as_ref().is_some_and(|doubt| whole.holds(doubt.whole)) {
            unit.doubt = None;
        }
    }

    /// How a unit is still left alone.
    pub fn rests(&self, unit: u8, now: Instant) -> Option<Rest> {
        // Alone, nobody else has a use for the time.
        let (until, every) = self.units[&unit].rests.filter(|_| self.units.len() > 1)?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Rest { left: Period(left), every: Period(every) })
    }

    /// What to ask a unit first, and to throw away, so that no answer to something earlier is taken
    /// for the one to this.
    pub fn clears(&self, unit: u8, ask: &Ask) -> Option<Ask> {
        let owes = &self.units[&unit].owes;
        let shape = ask.shape();
        owes.contains(&shape).then(|| ask.unlike(&[&owes[..], &[shape]].concat())).flatten()
    }

    /// A unit did as it was asked. It answers in the order in which it was asked, so it owes nothing.
    pub fn answered(&mut self, unit: u8, now: Instant) {
        let unit = self.units.entry(unit).or_default();
        let (apart, mut doubt) = (std::mem::take(&mut unit.apart), unit.doubt.take());
        if let Some(doubt) = &mut doubt {
            doubt.is_there |= doubt.keeps_apart();
        }
        *unit = Unit { served: Some(now), apart, doubt, ..Unit::default() };
    }

    /// A unit said that it will not. That tells only the function, so it may have been said to an
    /// earlier request, and then the answer to this one is still to come; but none from before.
    pub fn refused(&mut self, unit: u8, ask: &Ask, now: Instant) {
        let shape = ask.shape();
        let owed = std::mem::take(&mut self.units.entry(unit).or_default().owes);
        self.answered(unit, now);
        if owed.iter().any(|owed| owed.function == shape.function) {
            self.units.entry(unit).or_default().owes.push(shape);
        }
    }

    /// A unit was asked and did not answer. It took the bus for so long.
    pub fn was_silent(&mut self, unit: u8, ask: &Ask, took: Duration, now: Instant) {
        let unit = self.units.entry(unit).or_default();
        unit.served = Some(now);
        let every = took.mul_f64(1.0 / self.share);
        unit.rests = Some((now + every - took, every));
        if self.framing != Framing::Tcp {
            unit.owes_until = Some(now + self.timeout);
            if !unit.owes.contains(&ask.shape()) {
                unit.owes.push(ask.shape());
            }
        }
    }
}

impl Unit {
    fn keep_apart(&mut self, whole: Block) {
        if self.apart.len() == MOST_APART {
            self.apart.remove(0);
        }
        self.apart.push(whole);
    }
}

impl Doubt {
    /// Whether nobody asks for it together.
    fn keeps_apart(&self) -> bool {
        self.silent >= MOST_SILENT && !self.is_there
    }
}

impl Serving {
    /// The request that answers these and one more, should it be allowed for all of them.
    fn join(&self, other: &Job, cost: &dyn Fn(Block) -> Duration) -> Option<Block> {
        let (Ask::Read(this), Ask::Read(that)) = (&self.ask, &other.ask) else { return None };
        let whole = other.limits.as_ref()?.join(*this, *that, cost)?;
        let mut all = self.waiting.iter();
        let allowed = |waiting: &Waiting| {
            let limits = waiting.job.limits.as_ref()?;
            limits.join(*this, *that, cost)
        };
        all.all(|waiting| allowed(waiting).is_some()).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ask::Write, block::Table, plan::Merging};

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn read(start: u16) -> Ask {
        Ask::Read(Block { table: Table::Input, start, count: 2 })
    }

    /// A request costs as much as ten registers.
    fn cost(block: Block) -> Duration {
        Duration::from_millis(10 + u64::from(block.count))
    }

    fn turns(framing: Framing) -> Turns {
        Turns::new(framing, TIMEOUT, 5)
    }

    fn enter(turns: &mut Turns, unit: u8, ask: Ask, due: Instant) {
        turns.enter(Job { unit, ask, due, limits: None, reply: oneshot::channel().0 });
    }

    /// Serves all who wait, each answered at once, and says whom.
    fn served(turns: &mut Turns, mut now: Instant) -> Vec<String> {
        let mut served = Vec::new();
        loop {
            match turns.next(now, &cost) {
                Turn::Serve(Serving { unit, ask, .. }) => {
                    served.push(format!("{unit}: {ask}"));
                    turns.answered(unit, now);
                    now += Duration::from_millis(1);
                }
                Turn::WaitUntil(instant) => now = instant,
                Turn::Idle => return served,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_list_of_one_unit_kept_the_others_waiting() {
        let now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        for start in [0, 10, 20] {
            enter(&mut turns, 1, read(start), now);
        }
        enter(&mut turns, 2, read(0), now);
        enter(&mut turns, 3, Ask::Write(Write::Register(9, 1)), now + Duration::from_millis(1));
        let expected = [
            "1: reading input registers 0 to 1",
            "3: writing holding register 9",
            "2: reading input registers 0 to 1",
            "1: reading input registers 10 to 11",
            "1: reading input registers 20 to 21",
        ];
        assert_eq!(served(&mut turns, now), expected);
    }

    /// Has nodes ask for blocks, as in `1: h0+2`, and says what is asked on the bus.
    fn asked(turns: &mut Turns, jobs: &[&str], merging: Merging, now: Instant) -> Vec<String> {
        let limits = Arc::new(Limits::of(merging));
        for job in jobs {
            let (unit, block) = job.split_once(": ").unwrap();
            let ask = Ask::Read(Block::written(block));
            let unit = unit.parse().unwrap();
            let limits = Some(Arc::clone(&limits));
            turns.enter(Job { unit, ask, due: now, limits, reply: oneshot::channel().0 });
        }
        served(turns, now)
    }

    const FREE: Merging =
        Merging { max_gap: None, max_registers: 125, one_by_one: false, bits_from_zero: false };

    #[tokio::test(start_paused = true)]
    async fn nodes_that_read_neighbours_at_one_beat_share_a_request() {
        let now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        let asked = |turns: &mut Turns, jobs: &[&str], merging| asked(turns, jobs, merging, now);
        let jobs = ["1: h40+2", "1: h0+2", "2: h2+2", "1: h4+4", "1: h8+2", "1: i2+2"];
        let expected = [
            "1: reading holding registers 0 to 9",
            "2: reading holding registers 2 to 3",
            "1: reading holding registers 40 to 41",
            "1: reading input registers 2 to 3",
        ];
        assert_eq!(asked(&mut turns, &jobs, FREE), expected);
        let none = Merging { one_by_one: true, ..FREE };
        assert_eq!(asked(&mut turns, &["1: h0+2", "1: h2+2"], none).len(), 2);
        let small = Merging { max_registers: 3, ..FREE };
        assert_eq!(asked(&mut turns, &["1: h0+2", "1: h2+2"], small).len(), 2);
        // What several ask for is read once.
        assert_eq!(asked(&mut turns, &["1: h0+2", "1: h0+2", "1: h1+1"], FREE).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_together_was_asked_together_over_and_over() {
        let now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        let limits = Some(Arc::new(Limits::of(FREE)));
        for at in ["h0+2", "h4+2", "h8+2"] {
            let (ask, limits) = (Ask::Read(Block::written(at)), limits.clone());
            turns.enter(Job { unit: 1, ask, due: now, limits, reply: oneshot::channel().0 });
        }
        let Turn::Serve(serving) = turns.next(now, &cost) else { panic!() };
        assert_eq!(serving.waiting.len(), 3);
        turns.split(serving);
        let fewer = ["1: reading holding registers 0 to 5", "1: reading holding registers 8 to 9"];
        assert_eq!(served(&mut turns, now), fewer);
        // Also at the next beat, and whatever else was answered.
        assert_eq!(asked(&mut turns, &["1: h0+2", "1: h4+2", "1: h8+2"], FREE, now), fewer);
    }

    /// Two nodes ask for neighbours over a hole, beat by beat, of a unit of which this says whether it answers a
    /// block. Says what each beat asked.
    fn beats(answers: impl Fn(usize, Block) -> bool, count: usize) -> Vec<String> {
        let mut now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        let limits = Some(Arc::new(Limits::of(FREE)));
        let mut beats = Vec::new();
        for beat in 0..count {
            for at in ["h0+2", "h4+2"] {
                let (ask, limits) = (Ask::Read(Block::written(at)), limits.clone());
                turns.enter(Job { unit: 1, ask, due: now, limits, reply: oneshot::channel().0 });
            }
            let mut asked = Vec::new();
            while let Turn::Serve(Serving { ask, waiting, .. }) = turns.next(now, &cost) {
                let block = ask.reads().unwrap();
                asked.push(format!("{}+{}", block.start, block.count));
                match (answers(beat, block), waiting.len() > 1) {
                    (true, is_together) => {
                        turns.answered(1, now);
                        if is_together {
                            turns.answered_together(1, block);
                        }
                    }
                    (false, is_together) => {
                        turns.was_silent(1, &ask, TIMEOUT, now);
                        if is_together {
                            turns.silent_together(1, block);
                        }
                    }
                }
                now += TIMEOUT;
            }
            beats.push(asked.join(" "));
        }
        beats
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_answer_together_was_asked_together_over_and_over() {
        let apart = ["0+6", "0+6", "0+6", "0+2 4+2", "0+6", "0+2 4+2", "0+2 4+2"];
        assert_eq!(beats(|_, block| block.count < 6, 7), apart);
        // Of a unit that was away, nothing is learnt.
        let away = ["0+6", "0+6", "0+6", "0+2 4+2", "0+2 4+2", "0+6", "0+6"];
        assert_eq!(beats(|beat, _| beat > 3, 7), away);
        assert_eq!(beats(|beat, _| beat > 1, 4), ["0+6"; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_unit_ate_the_time_of_the_others() {
        let now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        enter(&mut turns, 1, read(0), now);
        turns.was_silent(1, &read(0), TIMEOUT, now);
        assert_eq!(turns.rests(1, now), None, "alone on its bus it harms nobody");
        // It is left alone also when it was asked before the other came.
        enter(&mut turns, 2, read(0), now);
        let [left, every] = [19, 20].map(Period::seconds);
        assert_eq!(turns.rests(1, now), Some(Rest { left, every }));
        assert_eq!(turns.rests(2, now), None);
        assert_eq!(turns.rests(1, now + TIMEOUT * 19), None);
        turns.answered(1, now);
        assert_eq!(turns.rests(1, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_on_a_serial_line_was_taken_for_the_next() {
        let now = Instant::now();
        let mut turns = turns(Framing::Rtu);
        enter(&mut turns, 1, read(0), now);
        assert!(matches!(turns.next(now, &cost), Turn::Serve(_)));
        turns.was_silent(1, &read(0), TIMEOUT, now);
        // It waits, and then something is asked whose answer cannot be mistaken.
        enter(&mut turns, 1, read(30), now);
        assert!(matches!(turns.next(now, &cost), Turn::WaitUntil(until) if until == now + TIMEOUT));
        let first = turns.clears(1, &read(30)).unwrap();
        assert_ne!(first.shape(), read(0).shape());
        turns.answered(1, now);
        assert_eq!(turns.clears(1, &read(30)), None);
        // A refusal may be the late answer, and then the other is still to come, but none before it.
        turns.was_silent(1, &read(0), TIMEOUT, now);
        turns.refused(1, &first, now);
        assert_eq!(turns.clears(1, &read(30)), None);
        turns.refused(1, &read(30), now);
        assert!(turns.clears(1, &read(30)).is_some());
        let other = Ask::Read(Block { table: Table::Holding, start: 0, count: 2 });
        turns.refused(1, &other, now);
        assert_eq!(turns.clears(1, &read(30)), None, "of another function, so to nothing earlier");
        // With transaction ids there is nothing to mistake.
        let mut turns = super::Turns::new(Framing::Tcp, TIMEOUT, 5);
        turns.was_silent(1, &read(0), TIMEOUT, now);
        assert_eq!(turns.clears(1, &read(30)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_device_is_asked_again_for_as_long_as_one_waits() {
        let mut now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        enter(&mut turns, 1, read(0), now);
        let mut pauses = Vec::new();
        while let Turn::Serve(mut serving) = turns.next(now, &cost) {
            let waiting = serving.waiting.remove(0);
            if turns.enter_again(waiting, now).is_err() {
                break;
            }
            let Turn::WaitUntil(until) = turns.next(now, &cost) else { panic!() };
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [100, 200, 400]);
    }
}
