//! When an output is switched: what a message wants, a pulse that ends, and the times that an output must
//! stay as it is. Switches nothing by itself.

use std::time::Duration;

use tokio::time::Instant;

/// What holds for an output whatever messages say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The level when no commands come, or nobody is there to give them. None leaves it as it is.
    pub safe: Option<bool>,
    /// After how long without a command that is.
    pub safe_after: Option<Duration>,
    /// How long it stays on when it is switched on.
    pub pulse: Option<Duration>,
    /// How long it stays on at least, and off.
    pub min_on: Duration,
    pub min_off: Duration,
}

/// An output over time.
#[derive(Clone, Debug)]
pub struct Output {
    pub rules: Rules,
    /// As it is, and since when.
    level: bool,
    since: Instant,
    /// As it is to be, as soon as it may.
    wanted: bool,
    /// When the last command came.
    heard: Instant,
    /// Since when the pulse counts.
    pulse_from: Instant,
}

impl Output {
    /// One that has just been switched to a level, as far as anybody knows.
    pub fn new(rules: Rules, level: bool, now: Instant) -> Output {
        Output { rules, level, since: now, wanted: level, heard: now, pulse_from: now }
    }

    pub fn level(&self) -> bool {
        self.level
    }

    /// Somebody wants a level.
    pub fn order(&mut self, level: bool, now: Instant) {
        (self.wanted, self.heard, self.pulse_from) = (level, now, now);
    }

    /// Takes in what time brings. The level to switch to now, if it is another.
    pub fn next_level(&mut self, now: Instant) -> Option<bool> {
        if self.is_lost_at().is_some_and(|at| at <= now) {
            self.wanted = self.rules.safe.unwrap_or(self.wanted);
        }
        if self.pulse_ends().is_some_and(|at| at <= now) {
            self.wanted = false;
        }
        (self.wanted != self.level && self.may_change_at() <= now).then_some(self.wanted)
    }

    /// It was switched.
    pub fn switched(&mut self, level: bool, now: Instant) {
        (self.level, self.since, self.pulse_from) = (level, now, now);
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        let change = (self.wanted != self.level).then(|| self.may_change_at());
        [change, self.is_lost_at(), self.pulse_ends()].into_iter().flatten().min()
    }

    /// How long what is wanted has to wait.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        (self.wanted != self.level).then(|| self.may_change_at().saturating_duration_since(now))
    }

    /// Whether it is in its safe state because no command came.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.rules.safe_after.is_some_and(|after| self.heard + after <= now)
    }

    fn may_change_at(&self) -> Instant {
        self.since + if self.level { self.rules.min_on } else { self.rules.min_off }
    }

    fn is_lost_at(&self) -> Option<Instant> {
        let (safe, after) = (self.rules.safe?, self.rules.safe_after?);
        (self.wanted != safe).then_some(self.heard + after)
    }

    fn pulse_ends(&self) -> Option<Instant> {
        let pulse = self.rules.pulse?;
        (self.level && self.wanted).then_some(self.pulse_from + pulse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens, in seconds since the start: commands come at theirs, and it is switched when due.
    #[track_caller]
    fn check(rules: Rules, commands: &[(u64, bool)], switched: &[(u64, bool)]) {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut output = Output::new(rules, false, start);
        let mut found = Vec::new();
        let mut commands = commands.iter().peekable();
        for _ in 0..100 {
            let next = commands.peek().map(|(second, _)| at(*second));
            let due = output.due().filter(|due| next.is_none_or(|next| *due <= next));
            let Some(now) = due.or(next) else { break };
            if due.is_none() {
                output.order(commands.next().unwrap().1, now);
            }
            if let Some(level) = output.next_level(now) {
                output.switched(level, now);
                found.push(((now - start).as_secs(), level));
            }
        }
        assert_eq!(found, switched);
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_wanted_last_counts_when_an_output_must_stay_as_it_is() {
        let rules = Rules { min_on: seconds(30), min_off: seconds(60), ..Rules::default() };
        let flaps = [(5, true), (6, false), (7, true), (70, false), (95, true), (96, false)];
        // The start counts as switched off, so that a compressor that ran before is left alone.
        check(rules, &flaps, &[(60, true), (90, false)]);
    }

    #[test]
    fn a_pulse_ends_by_itself_and_a_further_one_makes_it_longer() {
        let rules = Rules { pulse: Some(seconds(10)), ..Rules::default() };
        check(rules.clone(), &[(1, true)], &[(1, true), (11, false)]);
        check(rules.clone(), &[(1, true), (5, true)], &[(1, true), (15, false)]);
        check(rules.clone(), &[(1, true), (5, false)], &[(1, true), (5, false)]);
        let late = Rules { min_off: seconds(20), ..rules };
        check(late, &[(1, true)], &[(20, true), (30, false)]);
    }

    #[test]
    fn an_output_goes_to_its_safe_state_when_no_command_comes() {
        let rules = Rules { safe: Some(false), safe_after: Some(seconds(60)), ..Rules::default() };
        check(rules.clone(), &[(1, true), (50, true)], &[(1, true), (110, false)]);
        check(
            rules.clone(),
            &[(1, true), (100, true)],
            &[(1, true), (61, false), (100, true), (160, false)],
        );
        let on = Rules { safe: Some(true), ..rules };
        check(on, &[(10, false)], &[(60 + 10, true)]);
    }
}
