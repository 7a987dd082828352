//! What a buffer promises. `life.rs` plays random lives of it against a model.

mod life;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use forebay_sdk::{Format, Message, Payload, Timestamp};
use serde_json::json;

use super::{disk::LOCK, memory::MemoryDisk, *};
use forebay_sdk::clock::{Clock, Moment};

const LIMITS: Limits = Limits { max_bytes: 1 << 20 };
const SECOND: i64 = 1_000_000_000;
/// 2026-11-21.
const TODAY: i64 = 1_795_219_200 * SECOND;

/// A clock that shows what it is told.
#[derive(Clone)]
struct Hand(Arc<Mutex<Moment>>);

impl Hand {
    fn at(boot: u128, uptime_seconds: i64, wall_nanos: i64) -> Hand {
        Hand(Arc::new(Mutex::new(Hand::moment(boot, uptime_seconds, wall_nanos))))
    }

    fn set(&self, boot: u128, uptime_seconds: i64, wall_nanos: i64) {
        *self.0.lock().unwrap() = Hand::moment(boot, uptime_seconds, wall_nanos);
    }

    /// It is set when it shows today.
    fn moment(boot: u128, uptime_seconds: i64, wall_nanos: i64) -> Moment {
        let uptime_nanos = uptime_seconds * SECOND;
        Moment { boot, uptime_nanos, wall_nanos, is_set: wall_nanos >= TODAY }
    }

    fn clock(&self) -> Clock {
        let hand = Arc::clone(&self.0);
        Arc::new(move || *hand.lock().unwrap())
    }
}

fn today() -> Clock {
    Hand::at(1, 100, TODAY).clock()
}

#[track_caller]
fn open<D: Disk>(disk: D) -> (Log<D>, Repairs) {
    Log::open_at(disk, LIMITS, today()).unwrap()
}

fn batch(first_seq: u64, messages: &[Message]) -> Batch {
    let mut batch = Batch::new(first_seq);
    messages.iter().for_each(|message| batch.push(message));
    batch
}

/// Appends and syncs; returns the numbers.
#[track_caller]
fn add<D: Disk>(log: &mut Log<D>, messages: &[Message]) {
    log.append(&batch(log.next_seq(), messages)).unwrap();
    log.sync().unwrap();
}

fn all<D: Disk>(log: &mut Log<D>) -> BTreeMap<u64, Message> {
    let read = log.read(0, usize::MAX, usize::MAX).unwrap();
    read.into_iter().map(|stored| (stored.seq, stored.message)).collect()
}

fn seqs<D: Disk>(log: &mut Log<D>) -> Vec<u64> {
    all(log).into_keys().collect()
}

/// Some messages of all kinds.
fn samples(count: usize) -> Vec<Message> {
    let make = |n: usize| {
        let payload = match n % 4 {
            0 => json!({"n": n, "text": "é"}).into(),
            1 => Payload::encoded(format!("{{ \"n\":{n} }}"), Format::Json),
            2 => Payload::encoded(format!("text {n}"), Format::Text),
            _ => Payload::encoded(vec![0xA5; n % 90], Format::Bytes),
        };
        let mut message = Message::new(format!("site/{}", n % 3), payload);
        message.time = Timestamp::from_unix_nanos(TODAY + n as i64 * 1_000_007);
        if !n.is_multiple_of(3) {
            message.meta.source = Some(format!("p/{}", n % 3).into());
        }
        if n.is_multiple_of(5) {
            message.meta.insert("quality", json!({"a": n}));
        }
        message
    };
    (0..count).map(make).collect()
}

fn numbered(count: usize) -> Vec<Message> {
    let message = |n| Message::new("t", Payload::encoded(format!("{n:0>100}"), Format::Text));
    (0..count).map(message).collect()
}

#[test]
fn a_backlog_that_has_drained_gives_its_room_back() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(3000);
    for message in numbered(2000) {
        add(&mut log, &[message]);
    }
    let files = || disk.image().keys().filter(|name| name.ends_with(".log")).count();
    assert!(files() > 20, "{}", files());
    log.ack(0..log.next_seq());
    log.settle().unwrap();
    assert!(files() <= 3, "{}", files());
}

#[test]
fn a_message_comes_back_as_it_was() {
    let mut messages = samples(100);
    let mut odd = Message::new("x".repeat(1000), json!("text"));
    odd.meta.source = Some("y".repeat(1000).into());
    odd.time = Timestamp::from_unix_nanos(i64::MIN);
    messages.push(odd);
    let mut last = Message::new("", json!([1.5, null, {"deep": [true, -7, u64::MAX]}]));
    last.time = Timestamp::from_unix_nanos(i64::MAX);
    messages.push(last);
    // More topics and sources than a batch shares.
    for n in 0..200 {
        let mut message = Message::new(format!("topic/{n}"), json!(n));
        message.meta.source = Some(format!("source/{n}").into());
        messages.push(message);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let (mut log, _) = open(Folder::new(&path));
    add(&mut log, &messages);
    for is_reopened in [false, true] {
        if is_reopened {
            drop(log);
            log = open(Folder::new(&path)).0;
        }
        let read = log.read(0, usize::MAX, usize::MAX).unwrap();
        assert_eq!(read.len(), messages.len());
        for (stored, message) in read.iter().zip(&messages) {
            assert_eq!(stored.message, *message);
            if let Some(encoded) = message.payload.as_encoded() {
                assert_eq!(stored.message.payload.as_encoded(), Some(encoded));
            }
            for format in Format::ALL {
                let bytes = stored.message.payload.to_bytes(format);
                // A text that we made is a text, and no longer a JSON document of one.
                assert_eq!(bytes, message.payload.to_bytes(format));
            }
        }
    }
}

#[test]
fn a_message_of_200_bytes_costs_little_more() {
    let message = |n: i64| {
        let mut message =
            Message::new("site/a/boiler", Payload::encoded(vec![b'x'; 200], Format::Json));
        message.time = Timestamp::from_unix_nanos(TODAY + n * 50_000_123);
        message.meta.source = Some("boiler-room/meter".into());
        message
    };
    for count in [100, 1000] {
        let messages: Vec<Message> = (0..count).map(message).collect();
        let per_message = batch(1, &messages).bytes() as f64 / count as f64;
        assert!(per_message < 216.0, "{per_message} bytes a message");
    }
}

#[test]
fn what_is_acknowledged_does_not_come_again() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(10));
    log.ack(0..3);
    log.ack(5..7);
    assert_eq!(seqs(&mut log), [3, 4, 7, 8, 9]);
    assert_eq!((log.first(), log.messages()), (Some(3), 5));
    log.settle().unwrap();
    drop(log);
    let (mut log, repairs) = open(disk);
    assert_eq!(repairs, Repairs::default());
    assert_eq!(seqs(&mut log), [3, 4, 7, 8, 9]);
    assert_eq!((log.next_seq(), log.messages()), (10, 5));
    log.ack(0..10);
    log.settle().unwrap();
    assert_eq!((log.first(), log.messages(), log.bytes()), (None, 0, 0));
}

#[test]
fn a_gap_that_was_left_on_purpose_is_no_loss() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.append(&batch(5, &numbered(2))).unwrap();
    log.append(&batch(90, &numbered(1))).unwrap();
    assert!(log.append(&batch(90, &numbered(1))).is_err());
    drop(log);
    let (mut log, repairs) = open(disk);
    assert_eq!(repairs, Repairs::default());
    assert_eq!(seqs(&mut log), [5, 6, 90]);
    assert_eq!(log.messages(), 3);
}

#[test]
fn a_read_is_bounded_and_goes_on_where_it_stopped() {
    let (mut log, _) = open(MemoryDisk::default());
    log.set_segment_bytes(2000);
    for chunk in numbered(100).chunks(7) {
        add(&mut log, chunk);
    }
    let mut from = 0;
    let mut found = Vec::new();
    loop {
        let read = log.read(from, 5, 300).unwrap();
        assert!(read.len() <= 3, "{} messages of more than 100 bytes", read.len());
        let Some(last) = read.last() else { break };
        from = last.seq + 1;
        found.extend(read.iter().map(|stored| stored.seq));
    }
    assert_eq!(found, Vec::from_iter(0..100));
    // One that is larger than all that is asked for comes alone.
    assert_eq!(log.read(50, 10, 1).unwrap().len(), 1);
}

#[test]
fn the_oldest_segment_is_dropped_whole_also_the_one_that_is_written() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(1400);
    for chunk in numbered(25).chunks(5) {
        add(&mut log, chunk);
    }
    log.ack(1..3);
    let dropped = log.drop_oldest().unwrap().unwrap();
    assert_eq!(dropped, 0..10);
    assert_eq!(seqs(&mut log), Vec::from_iter(10..25));
    assert_eq!(log.drop_oldest().unwrap(), Some(10..20));
    assert_eq!(log.drop_oldest().unwrap(), Some(20..25));
    assert_eq!(log.drop_oldest().unwrap(), None);
    add(&mut log, &numbered(1));
    assert_eq!(seqs(&mut log), [25]);
    log.settle().unwrap();
    drop(log);
    let (mut log, repairs) = open(disk);
    assert_eq!((seqs(&mut log), repairs), (vec![25], Repairs::default()));
}

#[test]
fn segments_are_dropped_by_age() {
    let hand = Hand::at(1, 100, TODAY);
    let (mut log, _) = Log::open_at(MemoryDisk::default(), LIMITS, hand.clock()).unwrap();
    log.set_segment_bytes(500);
    for n in 0..5 {
        hand.set(1, 100 + n * 10, TODAY + n * 10 * SECOND);
        add(&mut log, &numbered(5));
    }
    let before = |seconds: i64| Timestamp::from_unix_nanos(TODAY + seconds * SECOND);
    assert_eq!(log.drop_before(before(0)).unwrap(), None);
    assert_eq!(log.drop_before(before(11)).unwrap(), Some(0..10));
    assert_eq!(log.drop_before(before(1000)).unwrap(), Some(10..25));
    assert_eq!(log.drop_before(before(1000)).unwrap(), None);
}

#[test]
fn what_came_before_the_clock_was_set_has_no_age_until_it_is_known() {
    let hand = Hand::at(1, 10, 10 * SECOND);
    let (mut log, _) = Log::open_at(MemoryDisk::default(), LIMITS, hand.clock()).unwrap();
    add(&mut log, &numbered(1));
    let limit = |wall: i64| Timestamp::from_unix_nanos(wall - 60 * SECOND);
    hand.set(2, 10, TODAY);
    assert_eq!(log.drop_before(limit(TODAY)).unwrap(), None, "another boot tells nothing");
    hand.set(1, 69, TODAY);
    assert_eq!(log.drop_before(limit(TODAY)).unwrap(), None, "59 seconds old");
    hand.set(1, 71, TODAY);
    assert_eq!(log.drop_before(limit(TODAY)).unwrap(), Some(0..1));
}

#[test]
fn a_message_from_before_the_clock_was_set_gets_its_real_time() {
    let stamped = |wall_nanos: i64| {
        let mut message = Message::new("t", json!(1));
        message.time = match wall_nanos < TODAY {
            true => Timestamp::before_clock_was_set(wall_nanos),
            false => Timestamp::from_unix_nanos(wall_nanos),
        };
        message
    };
    let disk = MemoryDisk::default();
    let hand = Hand::at(7, 20, 20 * SECOND);
    let (mut log, _) = Log::open_at(disk.clone(), LIMITS, hand.clock()).unwrap();
    add(&mut log, &[stamped(15 * SECOND), stamped(20 * SECOND)]);
    let times = |log: &mut Log<MemoryDisk>| -> Vec<i64> {
        all(log).values().map(|message| message.time.unix_nanos()).collect()
    };
    assert_eq!(times(&mut log), [15 * SECOND, 20 * SECOND], "not known yet");
    // The network brings the time. A message that was on its way comes only now.
    hand.set(7, 30, TODAY);
    add(&mut log, &[stamped(29 * SECOND), stamped(TODAY)]);
    let real = [TODAY - 15 * SECOND, TODAY - 10 * SECOND, TODAY - SECOND, TODAY];
    assert_eq!(times(&mut log), real);
    drop(log);
    // A restart in the same boot, with a clock that was corrected by a little.
    hand.set(7, 100, TODAY + 70 * SECOND + SECOND / 2);
    let (mut log, _) = Log::open_at(disk.clone(), LIMITS, hand.clock()).unwrap();
    let shifted = |nanos: i64| nanos + SECOND / 2;
    assert_eq!(times(&mut log)[..3], [shifted(real[0]), shifted(real[1]), shifted(real[2])]);
    assert_eq!(times(&mut log)[3], TODAY, "this one had the time");
    drop(log);
    // Another boot knows nothing of it.
    hand.set(8, 1000, TODAY + 1000 * SECOND);
    let (mut log, _) = Log::open_at(disk, LIMITS, hand.clock()).unwrap();
    assert_eq!(times(&mut log), [15 * SECOND, 20 * SECOND, 29 * SECOND, TODAY]);
}

#[test]
fn two_processes_never_write_one_buffer() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(Folder::new(folder.path()));
    let second = Log::open(Folder::new(folder.path()), LIMITS);
    let error = second.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(error.to_string().starts_with("another process has "), "{error}");
    drop(log);
    open(Folder::new(folder.path()));
}

#[test]
fn a_look_needs_no_lock_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(Folder::new(folder.path()));
    add(&mut log, &numbered(3));
    log.ack(0..1);
    log.settle().unwrap();
    let files = |path: &Path| {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        BTreeMap::from_iter(names.map(|path| (path.clone(), fs::read(path).unwrap())))
    };
    let before = files(folder.path());
    let mut look = look(Folder::new(folder.path())).unwrap();
    assert_eq!((look.messages(), look.first(), look.last()), (2, Some(1), Some(2)));
    assert_eq!(look.read(0, 10, 1000).unwrap().len(), 2);
    assert_eq!(files(folder.path()), before);
    add(&mut log, &numbered(1));
}

#[test]
fn files_are_written_over_and_not_made_anew() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(2000);
    let mut most = 0;
    for _ in 0..200 {
        let first = log.next_seq();
        add(&mut log, &numbered(5));
        log.ack(first..first + 5);
        log.settle().unwrap();
        most = most.max(disk.image().len());
    }
    assert!(most <= 4, "{most} files");
    let bytes: usize = disk.image().values().map(Vec::len).sum();
    assert!(bytes < 2 * 4096 + 3 * 2800, "{bytes} bytes");
}

/// Each time that a file grows, the file system writes its journal.
#[test]
fn small_writes_seldom_make_a_file_longer() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    let mut sizes = std::collections::BTreeSet::new();
    for _ in 0..1000 {
        add(&mut log, &numbered(1));
        sizes.insert(disk.image().values().map(Vec::len).sum::<usize>());
    }
    assert!(sizes.len() <= 6, "{sizes:?}");
    let (mut again, repairs) = open(disk.after_kill());
    assert_eq!((seqs(&mut again).len(), repairs), (1000, Repairs::default()));
}

#[test]
fn files_beyond_the_limit_go_away_once_they_are_done_with() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(2000);
    for _ in 0..100 {
        add(&mut log, &numbered(10));
    }
    assert!(disk.image().len() > 50);
    log.ack(0..1000);
    log.settle().unwrap();
    assert!(disk.image().len() <= 1 + 1 + 32, "{} files", disk.image().len());
    assert_eq!(seqs(&mut log), <[u64; 0]>::default());
}

#[test]
fn a_full_disk_takes_nothing_and_loses_nothing() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(2000);
    let mut accepted = 0;
    disk.set(|faults| faults.space = Some(30_000));
    let refused = loop {
        match log.append(&batch(log.next_seq(), &numbered(5))) {
            Ok(()) => accepted += 5,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert!(accepted > 100, "{accepted}");
    for _ in 0..10 {
        assert!(log.append(&batch(log.next_seq(), &numbered(5))).is_err());
    }
    assert!(disk.image().len() < 15, "no litter");
    log.sync().unwrap();
    assert_eq!(seqs(&mut log), Vec::from_iter(0..accepted));
    let again = disk.after_kill();
    assert_eq!(seqs(&mut open(again).0), Vec::from_iter(0..accepted));
    // What is acknowledged makes room, although nothing can be made.
    log.ack(0..50);
    log.settle().unwrap();
    for _ in 0..5 {
        add(&mut log, &numbered(5));
    }
    assert_eq!(seqs(&mut log), Vec::from_iter(50..accepted + 25));
}

#[test]
fn a_disk_that_turned_read_only_still_gives_what_it_has() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(10));
    disk.set(|faults| faults.read_only = true);
    assert!(log.append(&batch(10, &numbered(1))).is_err());
    assert_eq!(seqs(&mut log), Vec::from_iter(0..10));
    log.ack(0..5);
    assert!(log.settle().is_err());
    assert_eq!(seqs(&mut log), Vec::from_iter(5..10));
    drop(log);
    let (mut log, repairs) = open(disk.clone());
    assert_eq!(repairs, Repairs::default());
    assert_eq!(seqs(&mut log), Vec::from_iter(0..10), "again, and not lost");
    disk.set(|faults| faults.read_only = false);
    add(&mut log, &numbered(1));
    log.settle().unwrap();
}

#[test]
fn after_a_failed_sync_everything_is_written_anew_before_it_is_called_safe() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(3));
    log.append(&batch(3, &numbered(30))).unwrap();
    log.ack(10..12);
    disk.set(|faults| faults.failing_syncs = 2);
    assert!(log.sync().is_err());
    assert!(log.sync().is_err(), "the other file cannot be synced either");
    log.sync().unwrap();
    let expected: Vec<u64> = (0..10).chain(12..33).collect();
    assert_eq!(seqs(&mut log), expected);
    assert_eq!((log.next_seq(), log.messages()), (33, 31));
    for seed in 0..20 {
        let cut = disk.after_power_cut(&mut fastrand::Rng::with_seed(seed));
        let (mut log, _) = open(cut);
        let found = all(&mut log);
        assert!(expected.iter().all(|seq| found.contains_key(seq)), "{:?}", found.keys());
    }
}

#[test]
fn a_block_that_cannot_be_read_costs_what_is_in_it() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    for chunk in numbered(1000).chunks(10) {
        add(&mut log, chunk);
    }
    disk.set(|faults| faults.unreadable = [2, 9].into());
    let found = seqs(&mut log);
    let lost = 1000 - found.len();
    assert!((70..=110).contains(&lost), "{lost}");
    assert_eq!(log.take_repairs().lost_records, lost as u64);
    assert_eq!(log.messages(), found.len() as u64);
}

/// A stick that was pulled out must not make us forget what is on it.
#[test]
fn a_disk_that_is_gone_is_no_loss() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(10));
    disk.set(|faults| faults.gone = true);
    assert!(log.read(0, 10, 1000).is_err());
    assert_eq!((log.take_repairs(), log.messages()), (Repairs::default(), 10));
    disk.set(|faults| faults.gone = false);
    assert_eq!(seqs(&mut log), Vec::from_iter(0..10));
}

/// The long forms of the tests: `FOREBAY_LONG=1`.
fn is_long() -> bool {
    std::env::var_os("FOREBAY_LONG").is_some_and(|value| value == "1")
}

/// All places of a file in a long run, else every few, which hit all fields.
fn some_of(len: usize, few: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(if is_long() { 1 } else { few })
}

/// Three batches in two segments, and where the headers of batches and segments are.
struct Specimen {
    image: BTreeMap<String, Vec<u8>>,
    messages: BTreeMap<u64, Message>,
}

impl Specimen {
    fn new() -> Specimen {
        let disk = MemoryDisk::default();
        let (mut log, _) = open(disk.clone());
        log.set_segment_bytes(892);
        for chunk in samples(32).chunks(8) {
            add(&mut log, chunk);
        }
        log.sync().unwrap();
        log.ack(0..1);
        log.settle().unwrap();
        log.ack(1..2);
        log.settle().unwrap();
        let messages = all(&mut log);
        let image = disk.image();
        assert_eq!((image.len(), messages.len()), (3, 30), "two segments and a cursor");
        Specimen { image, messages }
    }

    fn segments(&self) -> impl Iterator<Item = &String> {
        self.image.keys().filter(|name| *name != cursor::CURSOR && *name != LOCK)
    }

    /// Opens a damaged copy, and returns what is missing and what was reported.
    #[track_caller]
    fn open(&self, image: &BTreeMap<String, Vec<u8>>) -> (Vec<u64>, Repairs) {
        let (mut log, mut repairs) = open(MemoryDisk::of(image));
        let found = all(&mut log);
        for (seq, message) in &found {
            // 0 and 1 were acknowledged, and may come again when the cursor is damaged.
            assert!(*seq < 2 || self.messages.get(seq) == Some(message), "{seq}: {message:?}");
        }
        let later = log.take_repairs();
        repairs.lost_records += later.lost_records;
        repairs.lost_bytes += later.lost_bytes;
        assert_eq!(log.messages(), found.len() as u64);
        // Whatever happened, it takes new messages.
        let next = log.next_seq();
        add(&mut log, &numbered(1));
        assert_eq!(log.read(next, 1, 1).unwrap()[0].seq, next);
        let missing = self.messages.keys().filter(|seq| !found.contains_key(seq));
        (missing.copied().collect(), repairs)
    }
}

#[test]
fn a_damaged_byte_costs_the_message_that_it_is_in() {
    let specimen = Specimen::new();
    assert_eq!(specimen.open(&specimen.image), (Vec::new(), Repairs::default()));
    let mut chance = fastrand::Rng::with_seed(1);
    for name in specimen.segments() {
        for at in some_of(specimen.image[name].len(), 3) {
            let mut image = specimen.image.clone();
            image.get_mut(name).unwrap()[at] ^= chance.u8(1..);
            let (missing, repairs) = specimen.open(&image);
            assert!(missing.len() <= 1, "{at} {missing:?}");
            assert_eq!(repairs.lost_records, missing.len() as u64, "{at} {repairs:?}");
        }
    }
}

#[test]
fn a_segment_that_was_cut_anywhere_keeps_what_is_whole() {
    let specimen = Specimen::new();
    let names: Vec<&String> = specimen.segments().collect();
    for name in &names {
        let mut most = 0;
        for len in some_of(specimen.image[*name].len(), 3) {
            let mut image = specimen.image.clone();
            image.get_mut(*name).unwrap().truncate(len);
            let (missing, repairs) = specimen.open(&image);
            let kept = specimen.messages.len() - missing.len();
            assert!(kept >= most, "a longer file keeps more: {len} {kept} {most}");
            most = kept;
            assert_eq!(repairs.lost_records, missing.len() as u64, "{len}");
        }
        assert!(most >= 29, "{most}");
    }
}

#[test]
fn a_damaged_cursor_loses_nothing() {
    let specimen = Specimen::new();
    let mut chance = fastrand::Rng::with_seed(1);
    let len = specimen.image[cursor::CURSOR].len();
    assert_eq!(len, 8192);
    // What is written is at the beginning of each half.
    for at in (0..100).chain(4096..4196).chain(some_of(len, 97)) {
        let mut image = specimen.image.clone();
        image.get_mut(cursor::CURSOR).unwrap()[at] ^= chance.u8(1..);
        assert_eq!(specimen.open(&image), (Vec::new(), Repairs::default()), "{at}");
    }
    for len in some_of(len, 97) {
        let mut image = specimen.image.clone();
        image.get_mut(cursor::CURSOR).unwrap().truncate(len);
        assert_eq!(specimen.open(&image), (Vec::new(), Repairs::default()), "{len}");
    }
    let mut image = specimen.image.clone();
    image.remove(cursor::CURSOR);
    assert_eq!(specimen.open(&image).0, <[u64; 0]>::default());
}

#[test]
fn a_stretch_of_nonsense_costs_what_it_covers() {
    let specimen = Specimen::new();
    let mut chance = fastrand::Rng::with_seed(3);
    for _ in some_of(600, 4) {
        let mut image = specimen.image.clone();
        let names: Vec<&String> = specimen.segments().collect();
        let file = image.get_mut(names[chance.usize(..names.len())]).unwrap();
        let at = chance.usize(..file.len());
        let len = chance.usize(..file.len() - at);
        match chance.bool() {
            true => file[at..at + len].fill(0),
            false => file[at..at + len].iter_mut().for_each(|byte| *byte = chance.u8(..)),
        }
        specimen.open(&image);
    }
}

#[test]
fn a_segment_that_is_gone_is_counted() {
    let specimen = Specimen::new();
    for name in specimen.segments() {
        let mut image = specimen.image.clone();
        image.remove(name);
        let (missing, repairs) = specimen.open(&image);
        assert!(missing.len() >= 8, "{missing:?}");
        assert_eq!(repairs.lost_records, missing.len() as u64);
    }
}

/// What stands behind a folder that somebody removed, in the order of its fate.
#[test]
fn a_folder_that_was_removed_costs_what_was_only_there_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffers/a/out");
    let (mut log, _) = open(super::Folder::new(&path));
    log.set_segment_bytes(2000);
    for chunk in numbered(60).chunks(10) {
        add(&mut log, chunk);
        log.sync().unwrap();
    }
    log.ack(0..3);
    fs::remove_dir_all(&path).unwrap();
    assert!(log.is_broken());
    // The last two are in memory all the same.
    log.reopen(58, &Ranges::default()).unwrap();
    let kept = seqs(&mut log);
    assert!(!kept.is_empty() && kept.iter().all(|seq| (3..58).contains(seq)), "{kept:?}");
    let repairs = log.take_repairs();
    assert_eq!((repairs.lost_records, repairs.was_removed), (55 - kept.len() as u64, true));
    log.append(&batch(58, &numbered(2))).unwrap();
    log.sync().unwrap();
    log.settle().unwrap();
    let expected: Vec<u64> = kept.into_iter().chain(58..60).collect();
    assert_eq!(seqs(&mut log), expected);
    drop(log);
    let (mut log, repairs) = open(super::Folder::new(&path));
    assert_eq!((seqs(&mut log), repairs), (expected, Repairs::default()));
}

#[test]
fn a_disk_that_comes_back_has_what_it_had() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(30));
    log.sync().unwrap();
    log.ack(0..10);
    disk.set(|faults| faults.gone = true);
    assert!(log.reopen(25, &Ranges::default()).is_err());
    assert_eq!(log.messages(), 20);
    assert!(log.is_broken(), "it is not to be used before it was opened");
    disk.set(|faults| faults.gone = false);
    log.reopen(25, &Ranges::default()).unwrap();
    assert_eq!(log.take_repairs(), Repairs::default());
    assert_eq!(seqs(&mut log), Vec::from_iter(10..25));
    log.append(&batch(25, &numbered(9))).unwrap();
    log.sync().unwrap();
    log.settle().unwrap();
    let (mut log, repairs) = open(disk.after_kill());
    assert_eq!((seqs(&mut log), repairs), (Vec::from_iter(10..34), Repairs::default()));
}

#[test]
fn a_file_that_is_a_link_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
    for name in [LOCK, cursor::CURSOR, "doubt"] {
        fs::create_dir_all(&path).unwrap();
        fs::write(&elsewhere, "precious").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join(name)).unwrap();
        let limits = Limits { max_bytes: 1 << 20 };
        let failed = Log::open_at(super::Folder::new(&path), limits, today())
            .and_then(|(mut log, _)| log.let_go(0, &numbered(1)[0]));
        let error = failed.unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}` is a symbolic link")), "{error}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn nobody_else_can_read_a_buffer() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("buffers/a/out");
    let (mut log, _) = open(super::Folder::new(&path));
    add(&mut log, &numbered(3));
    log.let_go(0, &numbered(1)[0]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for part in path.ancestors().take(3) {
        assert_eq!(mode(part), 0o700, "{}", part.display());
    }
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

/// Otherwise a device that says what to write could write messages of its own once there is damage.
#[test]
fn a_payload_that_looks_like_a_batch_is_none() {
    let inner = numbered(3);
    let mut forged = Vec::new();
    batch(40, &inner).write(0, Timestamp::from_unix_nanos(TODAY), 0, &mut forged);
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    let carrier = Message::new("t", Payload::encoded(forged, Format::Bytes));
    add(&mut log, &[carrier]);
    add(&mut log, &numbered(1));
    let mut image = disk.image();
    let name = image.keys().find(|name| name.ends_with(".log")).unwrap().clone();
    // The mark of the first batch, so that the next one is searched for.
    let file = image.get_mut(&name).unwrap();
    let at = file.windows(4).position(|four| four == record::BATCH_MARK).unwrap();
    file[at] ^= 1;
    let (mut log, repairs) = open(MemoryDisk::of(&image));
    assert_eq!(seqs(&mut log), [1]);
    assert_eq!(repairs.lost_records, 1);
}

#[test]
fn old_content_of_a_file_is_not_taken_for_damage() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    log.set_segment_bytes(5000);
    for n in 0..40 {
        add(&mut log, &numbered(9));
        log.ack(0..n * 9);
        log.settle().unwrap();
    }
    let (mut log, repairs) = open(disk.after_kill());
    assert_eq!(repairs, Repairs::default());
    assert_eq!(seqs(&mut log), Vec::from_iter(351..360));
}

#[test]
fn acknowledgements_in_many_pieces_are_bounded_and_lose_nothing() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(disk.clone());
    add(&mut log, &numbered(2000));
    for seq in (0..2000).step_by(2) {
        log.ack(seq..seq + 1);
    }
    let left = log.messages();
    assert!((1000..1800).contains(&left), "{left}");
    log.settle().unwrap();
    let (mut again, _) = open(disk.after_kill());
    let found = seqs(&mut again);
    assert!((1..2000).step_by(2).all(|seq| found.contains(&seq)));
}

/// Mounts a small file system where only the test sees it. Skipped where that is not permitted.
#[test]
fn a_real_disk_that_is_full_or_read_only_loses_nothing() {
    const SELF: &str = "engine::buffer::tests::a_real_disk_that_is_full_or_read_only_loses_nothing";
    const MOUNT: &str = "mount -t tmpfs -o size=1m none \"$1\" && echo mounted && \
        FOREBAY_SMALL_DISK=\"$1\" exec \"$2\" --exact \"$3\" --nocapture";
    if let Some(folder) = std::env::var_os("FOREBAY_SMALL_DISK") {
        return on_a_small_disk(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]);
    command.arg(folder.path()).arg(std::env::current_exe().unwrap()).arg(SELF);
    let said = command.output().map(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), text + &*String::from_utf8_lossy(&output.stderr))
    });
    match said {
        Ok((success, text)) if text.contains("mounted") => assert!(success, "{text}"),
        _ => eprintln!("skipped: no file system can be mounted here"),
    }
}

fn on_a_small_disk(folder: &Path) {
    let (mut log, _) = open(Folder::new(folder.join("b")));
    let mut accepted = 0;
    let full = loop {
        match log.append(&batch(log.next_seq(), &numbered(200))) {
            Ok(()) => accepted += 200,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert!(accepted > 5000, "{accepted}");
    log.sync().unwrap();
    assert_eq!(log.messages(), accepted);
    let dropped = log.drop_oldest().unwrap().unwrap();
    add(&mut log, &numbered(200));
    log.ack(dropped.end..dropped.end + 10);
    log.settle().unwrap();
    let expected = Vec::from_iter(dropped.end + 10..accepted + 200);
    assert_eq!(seqs(&mut log), expected);
    drop(log);
    let remount = |how: &str| {
        let mut command = std::process::Command::new("mount");
        command.args(["-o", &format!("remount,{how}")]).arg(folder);
        assert!(command.status().unwrap().success());
    };
    remount("ro");
    let (mut log, repairs) = open(Folder::new(folder.join("b")));
    assert_eq!((seqs(&mut log), repairs), (expected.clone(), Repairs::default()));
    assert!(log.append(&batch(log.next_seq(), &numbered(1))).is_err());
    drop(log);
    remount("rw");
    let (mut log, _) = open(Folder::new(folder.join("b")));
    assert_eq!(seqs(&mut log), expected);
    log.ack(0..accepted);
    log.settle().unwrap();
    add(&mut log, &numbered(1));
}

#[test]
fn the_name_of_any_node_is_a_folder() {
    let data = Path::new("/data");
    #[track_caller]
    fn check(data: &Path, node: &str, expected: &str) {
        let folder = folder_of(data, node);
        assert_eq!(folder, Path::new(expected));
        assert_eq!(node_of(data, &folder).as_deref(), Some(node));
    }
    check(data, "boiler-room/meter", "/data/buffers/boiler-room/meter");
    check(data, "a b/ä.1", "/data/buffers/a%20b/%c3%a4.1");
    check(data, "../..", "/data/buffers/%2e./%2e.");
    check(data, "p/a/b", "/data/buffers/p/a%2fb");
    check(data, "p/%41", "/data/buffers/p/%2541");
    for other in ["/data/buffers/p/a b", "/data/buffers/p/%4", "/data/buffers/p/%41", "/else/p/n"] {
        assert_eq!(node_of(data, Path::new(other)), None, "{other}");
    }
}

#[test]
fn all_buffers_are_found() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(list(data.path()).unwrap(), []);
    for node in ["p/b", "p/a", "q/ä"] {
        open(Folder::new(folder_of(data.path(), node)));
    }
    let found = list(data.path()).unwrap();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["p/a", "p/b", "q/ä"]);
}

#[test]
fn only_a_buffer_that_surely_holds_nothing_is_removed() {
    let data = tempfile::tempdir().unwrap();
    let path = folder_of(data.path(), "p/old");
    let (mut log, _) = open(Folder::new(&path));
    assert!(!remove_if_empty(&path).unwrap(), "it is open");
    add(&mut log, &numbered(2));
    drop(log);
    assert!(!remove_if_empty(&path).unwrap(), "it holds messages");
    let (mut log, _) = open(Folder::new(&path));
    log.ack(0..1);
    log.let_go(1, &numbered(1)[0]).unwrap();
    drop(log);
    assert!(!remove_if_empty(&path).unwrap(), "one may have been done, or not");
    doubt::clear(&Folder::new(&path)).unwrap();
    let others = path.join("notes.txt");
    fs::write(&others, "not ours").unwrap();
    assert!(!remove_if_empty(&path).unwrap(), "somebody else's file is there");
    fs::remove_file(others).unwrap();
    assert!(remove_if_empty(&path).unwrap());
    assert_eq!(fs::read_dir(buffers(data.path())).unwrap().count(), 0);
}
