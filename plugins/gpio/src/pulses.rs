//! Pulses of meters: how many, and how fast.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use forebay_sdk::{Voice, number, read_json, replace_json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

/// The name of the file in a node's folder.
const FILE: &str = "pulses.json";

/// How pulses become what is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Meter {
    pub per_unit: f64,
    pub start: f64,
    pub unit: Option<String>,
    /// The name of the field with the rate.
    pub rate: Option<String>,
    pub per: Duration,
    pub stops_after: Duration,
    /// Takes what the impulse counter of a router has counted.
    pub is_counted_by_router: bool,
}

impl Meter {
    /// What a meter shows after so many pulses.
    pub fn total(&self, pulses: u64) -> Value {
        number::value(self.start + pulses as f64 / self.per_unit)
    }

    /// What so many pulses a second are.
    pub fn rate(&self, per_second: f64) -> Value {
        number::value(per_second * self.per.as_secs_f64() / self.per_unit)
    }
}

/// The pulses of one line since it is watched.
#[derive(Clone, Debug)]
pub struct Pulses {
    since: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    /// The last pulse that the rate has taken in.
    told: Option<Instant>,
    /// When it was looked for pulses, where they are not told as they come. What came since is not known.
    looked: Option<Instant>,
    /// Pulses since.
    fresh: u64,
    /// Pulses a second.
    per_second: Option<f64>,
}

impl Pulses {
    pub fn new(now: Instant) -> Pulses {
        Pulses {
            since: now,
            first: None,
            last: None,
            told: None,
            looked: None,
            fresh: 0,
            per_second: None,
        }
    }

    /// Somebody looked, and found so many.
    pub fn look(&mut self, count: u64, at: Instant) {
        self.looked = Some(at);
        if count > 0 {
            self.add(count, at);
        }
    }

    /// So many came, the last of them at a moment.
    pub fn add(&mut self, count: u64, at: Instant) {
        self.first.get_or_insert(at);
        self.last = Some(at);
        self.fresh += count;
    }

    /// Pulses a second, by the time between them and not by how many fell into one beat: of a slow meter
    /// that would be none and then one. Without pulses it is as if one came now, and nothing once none came
    /// for `stops_after`. None until anything is known.
    pub fn per_second(&mut self, now: Instant, stops_after: Duration) -> Option<f64> {
        let known_until = self.looked.unwrap_or(now);
        let idle = known_until.saturating_duration_since(self.last.unwrap_or(self.since));
        if self.fresh > 0 {
            let (from, count) = match self.told {
                Some(told) => (Some(told), self.fresh),
                None => (self.first, self.fresh - 1),
            };
            let span = self.last.zip(from).map(|(last, from)| last.saturating_duration_since(from));
            if let Some(span) = span.filter(|span| !span.is_zero()) {
                self.per_second = Some(count as f64 / span.as_secs_f64());
            }
            (self.told, self.fresh) = (self.last, 0);
        }
        if idle >= stops_after {
            self.per_second = Some(0.0);
        } else if self.last.is_some() && !idle.is_zero() {
            let most = 1.0 / idle.as_secs_f64();
            self.per_second = self.per_second.map(|rate| rate.min(most));
        }
        self.per_second
    }
}

/// How many pulses each line of a node has counted, on disk.
pub struct Counts {
    voice: Voice,
    folder: PathBuf,
    pub pulses: BTreeMap<String, Count>,
    on_disk: BTreeMap<String, Count>,
}

/// The pulses of one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pulses: u64,
    /// What the impulse counter of a router has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    router: Option<u64>,
}

impl Count {
    /// The router shows so many. How many came since it was looked at, also while nobody looked. The first look
    /// only says from where to count.
    fn show(&mut self, now: u64) -> u64 {
        // A router that starts shows none for a moment; one that was cleared shows none until the next pulse.
        if now == 0 && self.router.is_some() {
            return 0;
        }
        let seen = self.router.replace(now).unwrap_or(now);
        let came = now.checked_sub(seen).unwrap_or(now);
        self.pulses += came;
        came
    }
}

impl Counts {
    /// Reads what was counted before.
    ///
    /// # Errors
    ///
    /// When there is a file that cannot be read. Nothing was counted then.
    pub fn read(folder: &Path, voice: Voice) -> (Counts, io::Result<()>) {
        let (pulses, read) = match read_json(folder, FILE) {
            Ok(pulses) => (pulses, Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), Ok(())),
            Err(error) => (BTreeMap::new(), Err(error)),
        };
        (Counts { voice, folder: folder.to_owned(), on_disk: pulses.clone(), pulses }, read)
    }

    /// Counts pulses of a line.
    pub fn add(&mut self, name: &str, count: u64) {
        self.line(name).pulses += count;
    }

    /// Takes in what a router shows of a line. How many came since.
    pub fn show(&mut self, name: &str, now: u64) -> u64 {
        self.line(name).show(now)
    }

    fn line(&mut self, name: &str) -> &mut Count {
        if !self.pulses.contains_key(name) {
            self.pulses.insert(name.to_owned(), Count::default());
        }
        self.pulses.get_mut(name).expect("it was put there")
    }

    pub fn of(&self, name: &str) -> u64 {
        self.pulses.get(name).map_or(0, |count| count.pulses)
    }

    /// Whether there is something to write.
    pub fn is_behind(&self) -> bool {
        self.on_disk != self.pulses
    }

    /// What writes them, on a thread that may wait for the disk.
    pub fn writing(&self) -> impl FnOnce() -> io::Result<u64> + Send + 'static {
        let (folder, pulses) = (self.folder.clone(), self.pulses.clone());
        move || replace_json(&folder, FILE, &pulses)
    }

    /// These are on disk now.
    pub fn written(&mut self, pulses: BTreeMap<String, Count>) {
        self.on_disk = pulses;
    }
}

/// A source that ends, or is replaced, has counted since it last wrote.
impl Drop for Counts {
    fn drop(&mut self) {
        if self.is_behind()
            && let Err(error) = self.writing()()
        {
            let why = "pulses that were counted last are not on disk";
            self.voice.trouble(&anyhow::Error::new(error).context(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    /// The rates at the ends of ten-second beats, of pulses that come at these milliseconds.
    fn rates(pulses: &[u64], beats: u64) -> Vec<Option<f64>> {
        let start = Instant::now();
        let mut line = Pulses::new(start);
        let mut pulses = pulses.iter().peekable();
        let mut rate = |beat: u64| {
            let end = beat * 10_000;
            while let Some(at) = pulses.next_if(|at| **at < end) {
                line.add(1, start + Duration::from_millis(*at));
            }
            let rate = line.per_second(start + Duration::from_millis(end), FIVE_MINUTES);
            rate.map(|rate| (rate * 1000.0).round() / 1000.0)
        };
        (1..=beats).map(&mut rate).collect()
    }

    #[test]
    fn a_counter_of_a_router_that_is_cleared_or_slips_makes_nothing_up() {
        let mut count = Count::default();
        let came: Vec<u64> =
            [40, 45, 45, 0, 46, 0, 2, 3].into_iter().map(|now| count.show(now)).collect();
        assert_eq!(came, [0, 5, 0, 0, 1, 0, 2, 1]);
        assert_eq!(count, Count { pulses: 9, router: Some(3) });
        // One that begins at none counts its first pulse.
        let mut count = Count::default();
        assert_eq!([0, 0, 1].map(|now| count.show(now)), [0, 0, 1]);
    }

    #[test]
    fn a_slow_meter_did_not_stop_between_two_pulses() {
        // One in twelve seconds: by what fell into each beat it would be 0, 0.1, 0.1, 0.1, …, 0, 0.1.
        let pulses: Vec<u64> = (1..=5).map(|at| at * 12_000).collect();
        let steady = Some(0.083);
        assert_eq!(rates(&pulses, 6), [None, None, steady, steady, steady, steady]);
    }

    #[test]
    fn a_meter_that_is_looked_at_rarely_does_not_slow_down_between_two_looks() {
        let start = Instant::now();
        let mut line = Pulses::new(start);
        for minute in 1..=3 {
            let look = start + Duration::from_secs(minute * 60);
            line.look(120, look);
            let rate = line.per_second(look + Duration::from_secs(50), FIVE_MINUTES);
            assert_eq!(rate, (minute > 1).then_some(2.0));
        }
    }

    #[test]
    fn a_meter_that_stops_slows_down_and_then_stands() {
        let rates = rates(&[1000, 2000, 3000], 31);
        assert_eq!(rates[..3], [Some(0.143), Some(0.059), Some(0.037)]);
        assert_eq!(rates[30], Some(0.0));
    }

    #[test]
    fn a_meter_that_never_moved_stands_after_a_while() {
        let rates = rates(&[], 30);
        assert_eq!((rates[0], rates[29]), (None, Some(0.0)));
    }
}
