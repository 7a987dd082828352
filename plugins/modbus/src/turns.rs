//! Whose turn it is on a bus. Pure: it is told the time.
//!
//! Writes come first. Then the unit that was served longest ago, so that a long list of one device
//! does not keep the others waiting, and of its requests the one that was due first. A unit that did
//! not answer is left alone for so long that it takes only a small share of the bus's time, and on a
//! wire without transaction ids it is not asked again before its late answer must have come.

use std::{collections::BTreeMap, time::Duration};

use forebay_sdk::Period;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    ask::{Ask, Shape},
    frame::Framing,
    link::{Answer, Failure},
};

/// A request on its way to the owner of the bus.
pub struct Job {
    pub unit: u8,
    pub ask: Ask,
    /// When it was to be asked.
    pub due: Instant,
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

/// What is known of a unit.
#[derive(Default)]
struct Unit {
    served: Option<Instant>,
    /// It did not answer, and is left alone until then.
    rests_until: Option<Instant>,
    /// Answers that may still come.
    owes: Vec<Shape>,
    /// Until then they may.
    owes_until: Option<Instant>,
}

/// What to do next.
pub enum Turn {
    Serve(Waiting),
    /// Nothing, until then.
    WaitUntil(Instant),
    /// Nobody waits.
    Idle,
}

/// After the first answer of a device that is busy; each further pause is twice as long.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

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

    /// Whose turn it is now.
    pub fn next(&mut self, now: Instant) -> Turn {
        let ready_at = |waiting: &Waiting| {
            let owes_until = self.units[&waiting.job.unit].owes_until;
            owes_until.map_or(waiting.not_before, |until| until.max(waiting.not_before))
        };
        let rank = |waiting: &Waiting| {
            let Job { unit, ask, due, .. } = &waiting.job;
            (ask.is_read(), self.units[unit].served, *due)
        };
        let indices = 0..self.waiting.len();
        let ready = indices.filter(|index| ready_at(&self.waiting[*index]) <= now);
        if let Some(index) = ready.min_by_key(|index| rank(&self.waiting[*index])) {
            return Turn::Serve(self.waiting.remove(index));
        }
        match self.waiting.iter().map(ready_at).min() {
            Some(instant) => Turn::WaitUntil(instant),
            None => Turn::Idle,
        }
    }

    /// For how long a unit is still left alone.
    pub fn rests(&self, unit: u8, now: Instant) -> Option<Period> {
        let until = self.units[&unit].rests_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero()).map(Period)
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
        *unit = Unit { served: Some(now), ..Unit::default() };
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
        let alone = self.units.len() == 1;
        let unit = self.units.entry(unit).or_default();
        unit.served = Some(now);
        // Alone, nobody else has a use for the time.
        unit.rests_until = (!alone).then(|| now + took.mul_f64(1.0 / self.share - 1.0));
        if self.framing == Framing::Rtu {
            unit.owes_until = Some(now + self.timeout);
            if !unit.owes.contains(&ask.shape()) {
                unit.owes.push(ask.shape());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ask::Write,
        block::{Block, Table},
    };

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn read(start: u16) -> Ask {
        Ask::Read(Block { table: Table::Input, start, count: 2 })
    }

    fn turns(framing: Framing) -> Turns {
        Turns::new(framing, TIMEOUT, 5)
    }

    fn enter(turns: &mut Turns, unit: u8, ask: Ask, due: Instant) {
        turns.enter(Job { unit, ask, due, reply: oneshot::channel().0 });
    }

    /// Serves all who wait, each answered at once, and says whom.
    fn served(turns: &mut Turns, mut now: Instant) -> Vec<String> {
        let mut served = Vec::new();
        loop {
            match turns.next(now) {
                Turn::Serve(Waiting { job: Job { unit, ask, .. }, .. }) => {
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

    #[tokio::test(start_paused = true)]
    async fn a_dead_unit_ate_the_time_of_the_others() {
        let now = Instant::now();
        let mut turns = turns(Framing::Tcp);
        enter(&mut turns, 1, read(0), now);
        turns.was_silent(1, &read(0), TIMEOUT, now);
        assert_eq!(turns.rests(1, now), None, "alone on its bus it harms nobody");
        enter(&mut turns, 2, read(0), now);
        turns.was_silent(1, &read(0), TIMEOUT, now);
        assert_eq!(turns.rests(1, now), Some(Period::seconds(19)));
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
        assert!(matches!(turns.next(now), Turn::Serve(_)));
        turns.was_silent(1, &read(0), TIMEOUT, now);
        // It waits, and then something is asked whose answer cannot be mistaken.
        enter(&mut turns, 1, read(30), now);
        assert!(matches!(turns.next(now), Turn::WaitUntil(until) if until == now + TIMEOUT));
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
        while let Turn::Serve(waiting) = turns.next(now) {
            if turns.enter_again(waiting, now).is_err() {
                break;
            }
            let Turn::WaitUntil(until) = turns.next(now) else { panic!() };
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [100, 200, 400]);
    }
}
