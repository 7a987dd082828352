//! Random lives of a log against a model: it appends, syncs, reads, acknowledges and drops; the disk
//! fails, or is gone for a while; a byte is damaged; the process is killed; the power is cut. What was called safe must always be there, and
//! nothing that was never appended.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{super::memory::Faults, *};

/// Everything that is known about a log from outside.
#[derive(Clone, Default)]
struct Model {
    /// All that was ever handed over under a sequence number. After a restart one can be given again.
    given: BTreeMap<u64, Vec<Message>>,
    /// What the log took and was not told to forget.
    held: BTreeMap<u64, Message>,
    /// What of this must survive a power cut.
    safe: BTreeSet<u64>,
    /// What was appended since the last sync, acknowledged or not.
    unsynced: BTreeSet<u64>,
    /// What a failed sync left in doubt. The log writes it anew; when the process is killed before,
    /// its successor cannot know, for the system says that all is well.
    doubtful: BTreeSet<u64>,
    /// What such a successor found.
    taken_for_safe: BTreeSet<u64>,
    count: u64,
}

impl Model {
    fn doubt(&mut self) {
        self.doubtful.extend(&self.unsynced);
    }
}

struct Life {
    disk: MemoryDisk,
    log: Log<MemoryDisk>,
    model: Model,
    chance: fastrand::Rng,
}

impl Life {
    fn new(seed: u64) -> Life {
        // The log's own chance, for its salts.
        fastrand::seed(seed);
        let disk = MemoryDisk::default();
        let log = start(&disk);
        Life { disk, log, model: Model::default(), chance: fastrand::Rng::with_seed(seed) }
    }

    fn step(&mut self) {
        match self.chance.u32(..100) {
            0..40 => self.append(),
            40..60 => self.sync(),
            60..70 => self.ack(),
            70..80 => _ = self.log.settle(),
            80..85 => self.drop_oldest(),
            85..93 => self.read(),
            93..95 => self.disk_goes_and_comes_back(),
            _ => self.fail_soon(),
        }
    }

    fn append(&mut self) {
        let gap = if self.chance.u32(..10) == 0 { self.chance.u64(..5) } else { 0 };
        let first = self.log.next_seq() + gap;
        let messages: Vec<Message> =
            (0..self.chance.usize(1..12)).map(|_| self.message()).collect();
        let batch = batch(first, &messages);
        let numbered = (first..).zip(messages);
        for (seq, message) in numbered.clone() {
            self.model.given.entry(seq).or_default().push(message);
        }
        match self.log.append(&batch) {
            Ok(()) => {
                self.model.unsynced.extend(numbered.clone().map(|(seq, _)| seq));
                self.model.held.extend(numbered);
            }
            // It may have been the sync of a segment that is full.
            Err(_) => self.model.doubt(),
        }
    }

    fn message(&mut self) -> Message {
        let chance = &mut self.chance;
        self.model.count += 1;
        let text = format!("{} {}", self.model.count, "x".repeat(chance.usize(..150)));
        let payload = match chance.bool() {
            true => Payload::encoded(text, Format::Text),
            false => json!({"said": text}).into(),
        };
        let mut message = Message::new(format!("t/{}", chance.u8(..4)), payload);
        message.time = Timestamp::from_unix_nanos(TODAY + chance.i64(..SECOND));
        message.meta.source = chance.bool().then(|| format!("p/{}", chance.u8(..3)).into());
        if chance.u8(..10) == 0 {
            message.meta.insert("count", self.model.count);
        }
        message
    }

    fn sync(&mut self) {
        match self.log.sync() {
            Err(_) => self.model.doubt(),
            Ok(()) => {
                let (held, not) = (&self.model.held, &self.model.taken_for_safe);
                self.model.safe = held.keys().copied().filter(|seq| !not.contains(seq)).collect();
                self.model.unsynced.clear();
                // What was acknowledged meanwhile is not written anew.
                self.model.doubtful.retain(|seq| !held.contains_key(seq));
            }
        }
    }

    fn ack(&mut self) {
        let Some(first) = self.log.first() else { return };
        let end = self.log.next_seq();
        let range = match self.chance.u8(..3) {
            0 => first..self.chance.u64(first..=end),
            1 => 0..self.chance.u64(first..=end),
            _ => {
                let start = self.chance.u64(first..=end);
                start..self.chance.u64(start..=end)
            }
        };
        self.log.ack(range.clone());
        self.forget(range);
    }

    fn drop_oldest(&mut self) {
        let first = self.model.held.keys().next().copied();
        let dropped = self.log.drop_oldest().unwrap();
        assert_eq!(dropped.as_ref().map(|range| range.start), first);
        self.forget(dropped.unwrap_or_default());
    }

    fn forget(&mut self, range: Range<u64>) {
        self.model.held.retain(|seq, _| !range.contains(seq));
        self.model.safe.retain(|seq| !range.contains(seq));
    }

    fn read(&mut self) {
        let end = self.log.next_seq();
        let (from, most) = (self.chance.u64(..=end), self.chance.usize(1..40));
        let read = self.log.read(from, most, usize::MAX).unwrap();
        let read: Vec<_> = read.into_iter().map(|stored| (stored.seq, stored.message)).collect();
        let expected: Vec<_> =
            self.model.held.range(from..).take(most).map(|(seq, m)| (*seq, m.clone())).collect();
        assert_eq!(read, expected);
        assert_eq!(self.log.messages(), self.model.held.len() as u64);
        assert_eq!(self.log.first(), self.model.held.keys().next().copied());
    }

    fn fail_soon(&mut self) {
        let used: usize = self.disk.image().values().map(Vec::len).sum();
        let chance = &mut self.chance;
        self.disk.set(|faults| match chance.u8(..5) {
            0 => faults.failing_syncs = 1,
            1 => faults.failing_writes = 1,
            2 => faults.space = Some(used + chance.usize(..2000)),
            3 => faults.read_only = true,
            _ => *faults = Default::default(),
        });
    }

    /// A stick that is pulled out, and put in again.
    fn disk_goes_and_comes_back(&mut self) {
        let end = self.log.next_seq();
        self.disk.set(|faults| *faults = Faults { gone: true, ..Faults::default() });
        assert!(self.log.reopen(end, &Ranges::default()).is_err());
        self.disk.set(|faults| faults.gone = false);
        self.log.reopen(end, &Ranges::default()).unwrap();
        assert_eq!(self.log.take_repairs(), Repairs::default());
        let held: Vec<u64> = self.model.held.keys().copied().collect();
        assert_eq!(seqs(&mut self.log), held);
    }

    fn were_given(&self, found: &BTreeMap<u64, Message>) {
        for (seq, message) in found {
            let given = self.model.given.get(seq);
            assert!(given.is_some_and(|given| given.contains(message)), "{seq} was never given");
        }
    }

    /// The process ends without notice and another starts; or the machine does.
    fn restart(&mut self, disk: MemoryDisk, power_was_cut: bool) {
        self.disk = disk;
        self.log = start(&self.disk);
        let found = all(&mut self.log);
        self.were_given(&found);
        let must_be_there: Vec<u64> = match power_was_cut {
            true => self.model.safe.iter().copied().collect(),
            false => self.model.held.keys().copied().collect(),
        };
        for seq in must_be_there {
            assert_eq!(found.get(&seq), self.model.held.get(&seq), "{seq} is lost");
        }
        let model = &mut self.model;
        model.unsynced.clear();
        let doubtful = std::mem::take(&mut model.doubtful);
        match power_was_cut {
            true => {
                model.safe = found.keys().copied().collect();
                model.taken_for_safe.clear();
            }
            false => model.taken_for_safe.extend(doubtful),
        }
        model.held = found;
        assert_eq!(self.log.messages(), self.model.held.len() as u64);
    }
}

fn start(disk: &MemoryDisk) -> Log<MemoryDisk> {
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(3000);
    log
}

/// `FOREBAY_SEEDS=5000` for a long run, or `FOREBAY_LONG=1`; `FOREBAY_SEED=17` for one of them.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("FOREBAY_SEED"), number("FOREBAY_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => 0..if is_long() { usual * 6 } else { usual },
    }
}

/// Says which seed it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: FOREBAY_SEED={} repeats it", self.0, self.0);
        }
    }
}

#[test]
fn what_was_called_safe_survives_any_life() {
    for seed in seeds(60) {
        let _seed = Seed(seed);
        let mut life = Life::new(seed);
        for _ in 0..life.chance.u32(1..8) {
            for _ in 0..life.chance.u32(1..80) {
                life.step();
            }
            let power_was_cut = life.chance.bool();
            let disk = match power_was_cut {
                true => life.disk.after_power_cut(&mut life.chance),
                false => life.disk.after_kill(),
            };
            life.restart(disk, power_was_cut);
        }
    }
}

#[test]
fn a_damaged_byte_after_any_life_costs_one_message_at_most_and_is_counted() {
    for seed in seeds(100) {
        let _seed = Seed(seed);
        let mut life = Life::new(seed);
        for _ in 0..life.chance.u32(1..150) {
            life.step();
        }
        // What is not known to be acknowledged would be counted, too.
        life.disk.set(|faults| *faults = Faults::default());
        life.log.settle().unwrap();
        let mut image = life.disk.image();
        image.retain(|_, bytes| !bytes.is_empty());
        let Some(bytes) = life.chance.choice(image.values_mut()) else { continue };
        let at = life.chance.usize(..bytes.len());
        bytes[at] ^= life.chance.u8(1..);
        let (mut log, repairs) = open(MemoryDisk::of(&image));
        let found = all(&mut log);
        life.were_given(&found);
        let missing = life.model.held.keys().filter(|seq| !found.contains_key(seq));
        let (safe, newest): (Vec<u64>, Vec<u64>) =
            missing.partition(|seq| life.model.safe.contains(seq));
        assert!(safe.len() + newest.len() <= 1, "{safe:?} and {newest:?} are lost");
        let lost_records = repairs.lost_records + log.take_repairs().lost_records;
        assert!(lost_records >= safe.len() as u64, "{safe:?} was safe, and is lost in silence");
        // The end of what was not synced is what a power cut leaves.
        let told = lost_records + repairs.cut_records;
        assert_eq!(told, (safe.len() + newest.len()) as u64, "{repairs:?}");
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_safe() {
    for seed in seeds(1) {
        let _seed = Seed(seed);
        let live = |cut_at: Option<u64>| {
            let mut life = Life::new(seed);
            life.disk.set(|faults| faults.power_cut_at = cut_at);
            for _ in 0..60 {
                // Without other faults, and without reads, which a dead disk refuses.
                match life.chance.u32(..80) {
                    0..40 => life.append(),
                    40..60 => life.sync(),
                    60..70 => life.ack(),
                    _ => _ = life.log.settle(),
                }
            }
            life
        };
        let operations = live(None).disk.operations();
        assert!(operations > 30, "{operations}");
        for cut_at in 0..=operations {
            let mut life = live(Some(cut_at));
            for chance in 0..6 {
                let mut chance = fastrand::Rng::with_seed(chance);
                let disk = life.disk.after_power_cut(&mut chance);
                let before = life.model.clone();
                let old = std::mem::replace(&mut life.disk, disk.clone());
                life.restart(disk, true);
                life.disk = old;
                life.model = before;
            }
        }
    }
}
