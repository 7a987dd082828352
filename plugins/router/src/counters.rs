//! Data used over the mobile network, by SIM: of counters that begin anew with each connection, wrap at 32
//! bits or go back for a moment, sums that only ever grow. Pure but for its file.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use forebay_sdk::{Figure, Timestamp, Voice, beside, read_json, replace_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    figures::{self, Figures},
    modem,
};

const FILE: &str = "data-used.json";
/// More modems, and more SIMs, than any router has.
const MOST_NAMES: usize = 32;
/// A counter of 32 bits ends here.
const WRAP: u64 = 1 << 32;
/// Where a counter of 32 bits must stand for its next small value to be one beyond the end.
const NEAR_WRAP: u64 = 3 << 30;
/// Bytes a second that may go by across the end: this, or so many times as many as before. A counter that begins anew
/// near its end looks like one that wraps, and what it left out would be counted.
const ACROSS: u64 = 1 << 20;
const TIMES_AS_MANY: u64 = 8;
/// Seconds.
const DAY: i64 = 86_400;
/// A counter that began anew within less is lower than it was.
const LONG_GAP: Duration = Duration::from_secs(60);
/// So many readings in a row below what was seen before are no slip any more.
const MOST_LOWER: u32 = 3;

/// What was used, and the counters that it was seen by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Of each modem.
    modems: BTreeMap<String, Meters>,
    /// Of each SIM, as `2-1/sim1`.
    sims: BTreeMap<String, Used>,
    /// How long the router was up at the last reading, in seconds.
    uptime: Option<u64>,
    /// When that was. None after a restart.
    #[serde(skip)]
    at: Option<Instant>,
    /// When the first reading was, in milliseconds since 1970.
    since: Option<i64>,
    /// The day and the month that are counted, in UTC.
    day: String,
    month: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meters {
    up: Meter,
    down: Meter,
}

/// One counter of a modem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meter {
    /// What counts as seen. None before the first reading.
    seen: Option<u64>,
    /// Readings below it in a row, and the first of them.
    lower: u32,
    lowest: u64,
    /// Bytes a second, between the last two readings.
    #[serde(default)]
    rate: u64,
    /// The router may have booted since it was seen.
    #[serde(default)]
    may_be_anew: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Used {
    today: Both,
    month: Both,
    total: Both,
    /// What the router had on record of today and the month before the first reading is in them, or not to be had.
    #[serde(default)]
    has_record: bool,
}

/// A SIM of which the router may have a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    key: String,
    pub modem: String,
    pub sim: u64,
    /// The profile of an eSIM.
    pub esim: Option<String>,
    /// The beginnings of the day and of the month, and now, in seconds since 1970.
    pub day: i64,
    pub month: i64,
    pub now: i64,
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Both {
    up: u64,
    down: u64,
}

impl Meter {
    /// How many bytes went by since the last reading.
    fn read(&mut self, now: u64, since: Since) -> u64 {
        self.may_be_anew |= since.anew != Anew::NotKnown;
        // A modem that is away for a moment says nothing, or this. Where it is the truth, nothing went by.
        if now == 0 {
            return 0;
        }
        let Some(seen) = self.seen else {
            self.seen = Some(now);
            return now;
        };
        if since.anew == Anew::Booted {
            return self.went_by(now, now, since);
        }
        if now >= seen {
            return self.went_by(now, now - seen, since);
        }
        let seconds = since.time.as_secs().max(1);
        let most_across = seconds.saturating_mul(ACROSS.max(self.rate * TIMES_AS_MANY));
        let is_near = (NEAR_WRAP..WRAP).contains(&seen) && WRAP - seen + now <= most_across;
        if is_near && !self.may_be_anew {
            return self.went_by(now, WRAP - seen + now, since);
        }
        // A counter that began anew, or one that slipped for a moment: the next reading shows it.
        self.lower += 1;
        if self.lower == 1 {
            self.lowest = now;
        }
        let is_fresh = self.lowest <= seen / 2;
        if self.lower > 1 && is_fresh && now >= self.lowest {
            return self.went_by(now, now, since);
        }
        // Where it stands now is no beginning: what went by meanwhile is not known, and is not made up.
        if self.lower >= MOST_LOWER {
            *self = Meter { seen: Some(now), ..Meter::default() };
        }
        0
    }

    /// It stands there now, and so many went by.
    fn went_by(&mut self, now: u64, bytes: u64, since: Since) -> u64 {
        let rate = bytes / since.time.as_secs().max(1);
        *self = Meter { seen: Some(now), rate, ..Meter::default() };
        bytes
    }
}

/// What is known of the time since the last reading.
#[derive(Clone, Copy)]
struct Since {
    time: Duration,
    anew: Anew,
}

/// Whether counters began anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anew {
    /// Surely.
    Booted,
    /// The router is up for a shorter time than it was.
    Maybe,
    NotKnown,
}

impl Counters {
    /// Takes in a reading, and says the group `data`. None without a counter.
    pub fn read(&mut self, modems: &Value, uptime: Option<u64>, now: Timestamp) -> Option<Value> {
        self.turn(now);
        let since = self.since_last(uptime);
        let mut is_counted = false;
        for found in modem::all(modems) {
            let says = Figures::of(found);
            let up = says.count(&["txbytes", "tx_bytes", "bytes_sent"]);
            let down = says.count(&["rxbytes", "rx_bytes", "bytes_received"]);
            let Some((up, down)) = up.zip(down) else { continue };
            let (name, sim, esim) = sim_of(found);
            let key = key(&name, sim, esim.as_deref());
            if self.is_full(&name, &key) {
                continue;
            }
            let meters = self.modems.entry(name).or_default();
            let is_first = meters.up.seen.is_none();
            let by = Both { up: meters.up.read(up, since), down: meters.down.read(down, since) };
            let used = self.sims.entry(key).or_default();
            used.total.add(by);
            // When what was there before the first reading went by, nobody knows.
            if !is_first {
                used.today.add(by);
                used.month.add(by);
            }
            is_counted = true;
        }
        if !is_counted {
            return None;
        }
        self.uptime = uptime.or(self.uptime);
        self.at = Some(Instant::now());
        self.since.get_or_insert(now.unix_millis());
        self.said(modems)
    }

    /// The group `data`, as it stands: of the modem that has the connection, else of the first that counts.
    pub fn said(&self, modems: &Value) -> Option<Value> {
        let counted = |found: &Value| {
            let (name, sim, esim) = sim_of(found);
            Some((sim, self.sims.get(&key(&name, sim, esim.as_deref()))?))
        };
        let chosen = modem::chosen(modems).and_then(counted);
        let (sim, used) = chosen.or_else(|| modem::all(modems).find_map(counted))?;
        let sims = self.sims.iter().map(|(name, used)| (name.clone(), used.value()));
        let mut said = used.value();
        said["sim"] = sim.into();
        said["sims"] = Value::Object(sims.collect());
        Some(said)
    }

    /// The time since the last reading, and whether the router has booted meanwhile. That is sure only when it was so
    /// long ago that the counters may be higher than before all the same; otherwise they show it themselves.
    fn since_last(&self, uptime: Option<u64>) -> Since {
        let elapsed = self.at.map(|at| at.elapsed());
        let up = self.uptime.zip(uptime).filter(|(_, now)| *now > 0);
        let Some((before, now)) = up else {
            return Since { time: elapsed.unwrap_or_default(), anew: Anew::NotKnown };
        };
        let time = elapsed.unwrap_or(Duration::from_secs(now.saturating_sub(before)));
        let is_within = elapsed.is_none_or(|it| it > LONG_GAP && Duration::from_secs(now) <= it);
        let anew = match now < before {
            true if is_within => Anew::Booted,
            true => Anew::Maybe,
            false => Anew::NotKnown,
        };
        Since { time, anew }
    }

    /// The SIMs whose records were not asked for yet. Without a clock nobody knows what today is.
    pub fn without_record(&self, modems: &Value, now: Timestamp) -> Vec<Asked> {
        if !now.clock_was_set() {
            return Vec::new();
        }
        let seconds = now.unix_millis().div_euclid(1000);
        let day = seconds - seconds.rem_euclid(DAY);
        let days_before: i64 = now.to_rfc3339()[8..10].parse().map_or(0, |day: i64| day - 1);
        let month = day - days_before * DAY;
        let asked = modem::all(modems).filter_map(|found| {
            let (modem, sim, esim) = sim_of(found);
            let key = key(&modem, sim, esim.as_deref());
            let is_open = self.sims.get(&key).is_some_and(|used| !used.has_record);
            is_open.then_some(Asked { key, modem, sim, esim, day, month, now: seconds })
        });
        asked.collect()
    }

    /// Takes in what a router has on record: rows of a time in seconds, bytes down and bytes up. What was counted since the
    /// first reading is in it too.
    pub fn recorded(&mut self, asked: &Asked, rows: &Value) {
        let Some(used) = self.sims.get_mut(&asked.key) else { return };
        used.has_record = true;
        let since = |begin: i64| {
            let mut sum = Both::default();
            for row in rows.as_array().into_iter().flatten() {
                let of = |at: usize| figures::number(row.get(at)?)?.as_u64();
                let Some(((time, down), up)) = of(0).zip(of(1)).zip(of(2)) else { continue };
                if (begin..=asked.now).contains(&i64::try_from(time).unwrap_or(i64::MAX)) {
                    sum.add(Both { up, down });
                }
            }
            sum
        };
        used.today.raise(since(asked.day));
        used.month.raise(since(asked.month));
    }

    fn is_full(&self, modem: &str, sim: &str) -> bool {
        let is_new = |full: bool, known: bool| full && !known;
        is_new(self.modems.len() >= MOST_NAMES, self.modems.contains_key(modem))
            || is_new(self.sims.len() >= MOST_NAMES, self.sims.contains_key(sim))
    }

    /// Begins a new day and a new month. A clock that is not set says nothing about either.
    fn turn(&mut self, now: Timestamp) {
        if !now.clock_was_set() {
            return;
        }
        let moment = now.to_rfc3339();
        let (day, month) = (&moment[..10], &moment[..7]);
        if self.day != day {
            let is_first = self.day.is_empty();
            day.clone_into(&mut self.day);
            if !is_first {
                self.sims.values_mut().for_each(|used| used.today = Both::default());
            }
        }
        if self.month != month {
            let is_first = self.month.is_empty();
            month.clone_into(&mut self.month);
            if !is_first {
                self.sims.values_mut().for_each(|used| used.month = Both::default());
            }
        }
    }

    /// Reads what was counted before a restart.
    pub async fn load(folder: &Path) -> Counters {
        let folder = folder.to_owned();
        match beside(move || read_json(&folder, FILE)).await {
            Ok(Ok(counters)) => counters,
            Ok(Err(error)) => {
                if error.kind() != io::ErrorKind::NotFound {
                    debug!(%error, "cannot read what was counted; counting begins anew");
                }
                Counters::default()
            }
            Err(_) => Counters::default(),
        }
    }

    /// Writes it down. What goes by until the next time is not lost with the power: the counters of the router
    /// go on.
    pub async fn save(&self, folder: &Path, voice: &Voice) {
        let (folder, counters): (PathBuf, _) = (folder.to_owned(), self.clone());
        let write = move || replace_json(&folder, FILE, &counters);
        match beside(write).await {
            Ok(Ok(bytes)) => voice.count(Figure::BytesToDisk, bytes),
            Ok(Err(error)) => debug!(%error, "cannot write what was counted"),
            Err(_) => (),
        }
    }
}

/// The name of a modem, the slot of the SIM in use, and its profile.
fn sim_of(modem: &Value) -> (String, u64, Option<String>) {
    (modem::name(modem), modem::sim(modem).unwrap_or(1), modem::esim(modem))
}

/// What a SIM is called.
fn key(modem: &str, sim: u64, esim: Option<&str>) -> String {
    match esim {
        Some(profile) => format!("{modem}/sim{sim}/esim{profile}"),
        None => format!("{modem}/sim{sim}"),
    }
}

impl Used {
    fn value(&self) -> Value {
        let both = |it: Both| json!({ "up": it.up, "down": it.down });
        json!({ "today": both(self.today), "month": both(self.month), "total": both(self.total) })
    }
}

impl Both {
    fn raise(&mut self, other: Both) {
        (self.up, self.down) = (self.up.max(other.up), self.down.max(other.down));
    }

    fn add(&mut self, other: Both) {
        self.up = self.up.saturating_add(other.up);
        self.down = self.down.saturating_add(other.down);
    }
}
