//! The rules of a queue, against a log that is a map.

use std::{collections::BTreeMap, task::Poll};

use forebay_sdk::{Outcome, Receipt, SyncPolicy, world::memory::Memory};
use serde_json::json;
use tokio::time::advance;

use super::*;

const MESSAGE_BYTES: usize = 136;

/// A queue and the log behind it.
struct Bench {
    queue: Queue,
    log: BTreeMap<u64, Message>,
    next_seq: u64,
    /// How many messages the log was asked to keep.
    written: usize,
    /// The disk takes nothing.
    is_broken: bool,
    /// Nor gives anything back.
    is_unreadable: bool,
    /// What a failed write may have left in the log, as far as the queue can know.
    refused_below: u64,
    pushed: u64,
    receipts: Vec<Receipt>,
    got: Vec<u64>,
}

impl Bench {
    fn new(buffer: Buffer) -> Bench {
        let mut bench = Bench {
            queue: Queue::new(),
            log: BTreeMap::new(),
            next_seq: 0,
            written: 0,
            is_broken: false,
            is_unreadable: false,
            refused_below: 0,
            pushed: 0,
            receipts: Vec::new(),
            got: Vec::new(),
        };
        bench.queue.set_limits(buffer);
        bench.queue.expect_log();
        bench.open();
        bench
    }

    fn open(&mut self) {
        let first = self.log.keys().next().copied();
        let messages = self.log.len() as u64;
        let bytes = messages * MESSAGE_BYTES as u64;
        self.queue.opened(Opened {
            first,
            next_seq: self.next_seq,
            messages,
            bytes,
            only_in_lanes: super::super::buffer::Ranges::default(),
        });
    }

    /// Sends the next number. False when there was no room.
    fn push(&mut self) -> bool {
        let (delivery, receipt) = Delivery::track();
        let message = Message::new("n", json!(self.pushed));
        match self.queue.push(Envelope::new(message, Some(delivery)), &"n".into()) {
            Pushed::Full(_) => false,
            _ => {
                self.pushed += 1;
                self.receipts.push(receipt);
                true
            }
        }
    }

    fn push_many(&mut self, count: usize) {
        assert!(self.push_up_to(count), "full for ever");
    }

    /// False when there was no room for all.
    fn push_up_to(&mut self, count: usize) -> bool {
        (0..count).all(|_| {
            while !self.push() {
                if !self.work() {
                    return false;
                }
            }
            true
        })
    }

    /// Does what is due on disk. False when nothing was.
    fn work(&mut self) -> bool {
        let Due::Now(job) = self.queue.due(false) else { return false };
        let mut done = Done::default();
        for seq in job.acknowledged.into_iter().flatten() {
            let was_there = self.log.remove(&seq).is_some();
            assert!(was_there || seq < self.refused_below, "{seq} was not in the log");
        }
        let broken = || std::io::Error::other("read-only");
        match self.is_broken {
            true if !job.write.is_empty() => {
                let last = job.write.last().map_or(0, |(seq, _)| seq + 1);
                self.refused_below = self.refused_below.max(last);
                done.write_failed = Some(broken());
            }
            _ => {
                for (seq, message) in job.write {
                    assert!(seq >= self.next_seq, "{seq} twice");
                    self.next_seq = seq + 1;
                    self.written += 1;
                    self.log.insert(seq, message);
                }
            }
        }
        if self.is_unreadable && job.fetch.is_some() {
            done.read_failed = Some(broken());
        } else if let Some((from, _)) = job.fetch {
            let some = self.log.range(from..).take(100);
            done.fetched = Some((from, some.map(|(seq, m)| (*seq, m.clone())).collect()));
        }
        done.stored_messages = self.log.len() as u64;
        done.stored_bytes = done.stored_messages * MESSAGE_BYTES as u64;
        self.queue.done(done);
        true
    }

    fn work_all(&mut self) {
        while self.work() {}
    }

    /// What a sink would write now.
    fn shown(&mut self, most: usize) -> Vec<Message> {
        match self.queue.turn(most) {
            Turn::Write(batch) => batch,
            _ => Vec::new(),
        }
    }

    /// Delivers up to `most` messages at once; returns how many.
    fn deliver(&mut self, most: usize) -> usize {
        let batch = self.shown(most);
        self.got.extend(batch.iter().map(number));
        for envelope in self.queue.release(batch.len()) {
            envelope.delivery.into_iter().for_each(Delivery::settle);
        }
        if !batch.is_empty() {
            self.queue.link_works();
        }
        batch.len()
    }

    fn deliver_all(&mut self) {
        while self.deliver(5) > 0 || self.work() {}
    }

    /// How many messages had a good end.
    async fn delivered(&mut self) -> usize {
        let mut pending = Vec::new();
        for mut receipt in std::mem::take(&mut self.receipts) {
            let look = tokio::task::unconstrained(async { futures_util::poll!(&mut receipt) });
            match look.await {
                Poll::Ready(outcome) => assert_eq!(outcome, Outcome::Delivered),
                Poll::Pending => pending.push(receipt),
            }
        }
        self.receipts = pending;
        usize::try_from(self.pushed).unwrap() - self.receipts.len()
    }
}

fn number(message: &Message) -> u64 {
    message.payload.value().unwrap().as_u64().unwrap()
}

fn is_historical(message: &Message) -> bool {
    message.meta.get("historical").is_some()
}

fn disk() -> Buffer {
    Buffer {
        store: Store::Disk,
        max_bytes: 16 << 20,
        sync: SyncPolicy::Always,
        ..Buffer::default()
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test(start_paused = true)]
async fn a_promise_is_kept_once_the_log_has_the_message() {
    let mut bench = Bench::new(disk());
    bench.push_many(3);
    assert_eq!(bench.delivered().await, 0);
    assert!(bench.work());
    assert_eq!(bench.delivered().await, 3);
    bench.deliver_all();
    assert_eq!(bench.got, numbers(0..3));
    advance(Duration::from_secs(2)).await;
    bench.work_all();
    assert!(bench.log.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_first_need_not_be_written() {
    let sync = SyncPolicy::Every(Duration::from_secs(1));
    let mut bench = Bench::new(Buffer { sync, ..disk() });
    bench.push_many(3);
    assert!(!bench.work());
    assert_eq!(bench.deliver(10), 3);
    assert_eq!(bench.delivered().await, 3);
    advance(Duration::from_secs(5)).await;
    bench.work_all();
    assert_eq!(bench.written, 0);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_larger_than_memory_comes_back_in_order() {
    let mut bench = Bench::new(disk());
    bench.push_many(10_000);
    bench.work_all();
    assert!(bench.queue.lanes.size_bytes() <= WINDOW_BYTES + 8 * MESSAGE_BYTES);
    assert_eq!((bench.queue.len(), bench.queue.unsafe_len()), (10_000, 0));
    bench.deliver_all();
    assert_eq!(bench.got, numbers(0..10_000));
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_the_start_goes_first_and_is_historical() {
    let mut bench = Bench::new(disk());
    bench.push_many(20);
    bench.work_all();
    let mut again = Bench { log: bench.log, next_seq: bench.next_seq, ..Bench::new(disk()) };
    again.queue = Queue::new();
    again.queue.set_limits(disk());
    again.queue.expect_log();
    again.pushed = 20;
    // What comes while the log is still being opened.
    again.push_many(5);
    assert!(matches!(again.queue.turn(9), Turn::Wait));
    again.open();
    again.work_all();
    let shown = again.shown(99);
    assert!(shown.iter().filter(|message| number(message) < 20).all(is_historical));
    again.deliver_all();
    assert_eq!(again.got, numbers(0..25));
}

#[tokio::test(start_paused = true)]
async fn live_first_sends_what_comes_now_before_what_waited() {
    let mut bench = Bench::new(Buffer { order: Order::LiveFirst, ..disk() });
    bench.push_many(3);
    bench.work_all();
    assert_eq!(bench.shown(9).len(), 3);
    bench.queue.link_failed();
    bench.push_many(7);
    bench.work_all();
    // The first to go through is of what waited; then the link is known to work.
    assert_eq!(bench.deliver(1), 1);
    bench.push_many(2);
    bench.work_all();
    assert_eq!(bench.shown(9).iter().map(number).collect::<Vec<_>>(), [10, 11]);
    assert!(!bench.shown(9).iter().any(is_historical));
    bench.deliver_all();
    assert_eq!(bench.got, [0, 10, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_of_a_backlog_took_a_live_message_along() {
    let mut bench =
        Bench::new(Buffer { order: Order::LiveFirst, store: Store::Memory, ..Buffer::default() });
    bench.push_many(3);
    bench.queue.link_failed();
    assert_eq!(bench.shown(9).len(), 3);
    bench.queue.link_works();
    bench.push_many(1);
    // One by one, as the sink took some and refused others.
    let released = (0..3).flat_map(|_| bench.queue.release(1));
    assert_eq!(released.map(|it| number(&it.message)).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(bench.shown(9).iter().map(number).collect::<Vec<_>>(), [3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_batch_is_shown_as_long_as_it_is_its_turn() {
    let limits = Buffer { order: Order::LiveFirst, store: Store::Memory, ..Buffer::default() };
    let limits = Buffer { max_age: Some(Duration::from_secs(60)), ..limits };
    let mut bench = Bench::new(limits);
    let more = |bench: &mut Bench, most: usize| {
        bench.queue.turn_more(most).iter().map(number).collect::<Vec<_>>()
    };
    bench.push_many(2);
    bench.queue.link_failed();
    assert_eq!(bench.shown(1).iter().map(number).collect::<Vec<_>>(), [0]);
    assert_eq!(more(&mut bench, 9), [1]);
    assert_eq!(more(&mut bench, 9), [0; 0]);
    // What comes now goes first, and so the reader is to come again.
    bench.queue.link_works();
    bench.push_many(3);
    assert_eq!(more(&mut bench, 9), [0; 0]);
    assert_eq!(bench.queue.release(2).len(), 2);
    assert_eq!(bench.shown(1).iter().map(number).collect::<Vec<_>>(), [2]);
    assert_eq!(more(&mut bench, 1), [3]);
    // What is too old is not sent, and what is shown is not dropped.
    advance(Duration::from_secs(61)).await;
    bench.push_many(1);
    assert_eq!(more(&mut bench, 9), [0; 0]);
    assert_eq!(bench.queue.drop_expired(), 0);
    assert_eq!(bench.queue.release(2).len(), 2);
    assert_eq!(bench.queue.drop_expired(), 1);
    assert_eq!(bench.shown(9).iter().map(number).collect::<Vec<_>>(), [5]);
}

#[tokio::test(start_paused = true)]
async fn live_first_needs_no_disk() {
    let mut bench =
        Bench::new(Buffer { order: Order::LiveFirst, store: Store::Memory, ..Buffer::default() });
    bench.push_many(3);
    bench.queue.link_failed();
    bench.push_many(2);
    assert_eq!(bench.deliver(1), 1);
    bench.push_many(2);
    assert_eq!(bench.deliver(2), 2);
    assert!(bench.shown(9).iter().all(is_historical));
    bench.deliver_all();
    assert_eq!(bench.got, [0, 5, 6, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_paced_and_live_messages_are_not() {
    let drain_every = Some(Duration::from_millis(50));
    let mut bench = Bench::new(Buffer { order: Order::LiveFirst, drain_every, ..disk() });
    bench.push_many(100);
    bench.queue.link_failed();
    bench.work_all();
    assert!(bench.deliver(50) <= 2);
    let mut seconds = 0;
    let (mut live, began) = (0, bench.got.len());
    while bench.got.len() - began < 60 + live {
        advance(Duration::from_secs(1)).await;
        seconds += 1;
        bench.push_many(10);
        live += bench.deliver(10);
        for _ in 0..200 {
            bench.work_all();
            bench.deliver(10);
            advance(Duration::from_millis(5)).await;
        }
    }
    // 20 a second, over two seconds each round.
    assert!((1..=3).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn spill_leaves_the_disk_alone_while_the_link_is_good() {
    let mut bench = Bench::new(Buffer { store: Store::Spill, ..disk() });
    for _ in 0..100 {
        bench.push_many(10);
        bench.work_all();
        bench.deliver(10);
    }
    assert_eq!((bench.written, bench.delivered().await), (0, 1000));
    bench.push_many(10);
    bench.queue.link_failed();
    bench.work_all();
    bench.push_many(10);
    bench.work_all();
    assert_eq!((bench.written, bench.delivered().await, bench.queue.unsafe_len()), (20, 1020, 0));
    bench.deliver_all();
    bench.push_many(10);
    bench.work_all();
    bench.deliver_all();
    assert_eq!((bench.written, bench.got.len()), (20, 1030));
    assert_eq!(bench.got, numbers(0..1030));
}

#[tokio::test(start_paused = true)]
async fn spill_does_not_trust_a_link_that_is_silent() {
    let mut bench = Bench::new(Buffer { store: Store::Spill, ..disk() });
    bench.push_many(3);
    assert_eq!(bench.shown(9).len(), 3);
    bench.work_all();
    assert_eq!(bench.written, 0);
    advance(SUSPECT_AFTER + Duration::from_millis(1)).await;
    bench.work_all();
    assert_eq!((bench.written, bench.delivered().await), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_broken_disk_blocks_and_what_is_in_memory_still_goes_out() {
    let mut bench = Bench::new(disk());
    bench.is_broken = true;
    while bench.push() {
        bench.work();
    }
    assert_eq!(bench.delivered().await, 0);
    let pushed = bench.pushed;
    assert!(pushed > 1000);
    bench.deliver_all();
    assert_eq!(bench.got, numbers(0..pushed));
    assert_eq!(bench.delivered().await as u64, pushed);
}

#[tokio::test(start_paused = true)]
async fn a_broken_disk_drops_the_oldest_when_asked_to() {
    let mut bench = Bench::new(Buffer { when_full: WhenFull::DropOldest, ..disk() });
    bench.is_broken = true;
    bench.push_many(20_000);
    bench.deliver_all();
    assert!(bench.got.len() < 10_000);
    assert_eq!(bench.got.last(), Some(&19_999));
    assert_eq!(bench.delivered().await, 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_that_cannot_be_read_does_not_stop_what_comes_now() {
    let mut bench = Bench::new(disk());
    bench.queue.link_failed();
    bench.push_many(6000);
    bench.work_all();
    (bench.is_broken, bench.is_unreadable) = (true, true);
    bench.queue.link_works();
    let last = bench.pushed;
    bench.push_many(1000);
    for _ in 0..1000 {
        bench.work_all();
        bench.deliver(100);
    }
    assert!(bench.got.ends_with(&numbers(last..last + 1000)), "what is in memory goes on");
    assert!(bench.got.len() < 7000 && bench.queue.len() == 7000 - bench.got.len());
    (bench.is_broken, bench.is_unreadable) = (false, false);
    advance(Duration::from_secs(5)).await;
    bench.deliver_all();
    bench.got.sort_unstable();
    assert_eq!(bench.got, numbers(0..7000));
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_write_left_in_the_log_does_not_come_once_more() {
    let mut bench = Bench::new(disk());
    bench.push_many(3);
    let Due::Now(job) = bench.queue.due(false) else { panic!("it is due") };
    // It was appended, and the sync failed.
    assert_eq!(job.write.len(), 3);
    let failed = Some(std::io::Error::other("a sync failed"));
    bench.queue.done(Done { write_failed: failed, ..Done::default() });
    bench.deliver(3);
    advance(Duration::from_secs(5)).await;
    let Due::Now(job) = bench.queue.due(false) else { panic!("the log is to be told") };
    assert_eq!(job.acknowledged.into_iter().flatten().collect::<Vec<_>>(), numbers(0..3));
}

#[tokio::test(start_paused = true)]
async fn a_full_log_blocks_until_something_was_delivered() {
    let mut bench = Bench::new(Buffer { max_bytes: 1 << 20, ..disk() });
    while bench.push() {
        bench.work_all();
    }
    assert!(bench.log.len() > 5000);
    assert_eq!(bench.deliver(300), 300);
    bench.work_all();
    assert!(bench.push());
}

#[tokio::test(start_paused = true)]
async fn what_the_log_dropped_is_not_sent() {
    let mut bench = Bench::new(disk());
    bench.push_many(20);
    bench.work_all();
    assert_eq!(bench.shown(5).len(), 5);
    bench.log = bench.log.split_off(&10);
    let mut done = Done { dropped_messages: 10, stored_messages: 10, ..Done::default() };
    done.dropped.push(0..10);
    bench.queue.done(done);
    // The five that were being written go on; they may be through already.
    let batch: Vec<u64> =
        bench.queue.lanes.entries(Lane::Live).map(|entry| number(&entry.message)).collect();
    assert_eq!(batch, [numbers(0..5), numbers(10..20)].concat());
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_dropped() {
    let max_age = Some(Duration::from_secs(60));
    let mut bench = Bench::new(Buffer { max_age, ..Buffer::default() });
    bench.push_many(3);
    advance(Duration::from_secs(40)).await;
    bench.push_many(3);
    advance(Duration::from_secs(40)).await;
    assert_eq!(bench.queue.drop_expired(), 3);
    bench.deliver_all();
    assert_eq!((bench.got.clone(), bench.delivered().await), (numbers(3..6), 6));

    let expires_after = Some(Duration::from_secs(60));
    let mut bench = Bench::new(Buffer { expires_after, ..disk() });
    let now = Timestamp::now().unix_nanos();
    for (number, age_seconds) in [(0, 3600), (1, 10), (2, 61)] {
        let mut message = Message::new("n", json!(number));
        message.time = Timestamp::from_unix_nanos(now - age_seconds * 1_000_000_000);
        bench.queue.push(Envelope::new(message, None), &"n".into());
        assert_eq!(bench.queue.drop_expired(), usize::from(number != 1));
        bench.deliver_all();
    }
    assert_eq!(bench.got, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_router_two_weeks_behind_loses_no_good_message_when_its_clock_is_set() {
    const WEEKS: i64 = 14 * 86_400_000_000_000;
    let now = 1_795_251_600_123_000_000;
    let memory = Memory::before_clock_is_set(now - WEEKS);
    let _entered = memory.enter();
    let expires_after = Some(Duration::from_secs(60));
    let mut bench = Bench::new(Buffer { expires_after, ..disk() });
    let push = |bench: &mut Bench, number: u64| {
        let mut message = Message::new("n", json!(number));
        message.payload = json!({ "at": message.time.unix_millis() }).into();
        message.note_own_time(message.time);
        bench.queue.push(Envelope::new(message, None), &"n".into());
    };
    push(&mut bench, 0);
    advance(Duration::from_secs(40)).await;
    push(&mut bench, 1);
    advance(Duration::from_secs(30)).await;
    assert_eq!(bench.queue.drop_expired(), 1, "old by the clock that was not set");
    memory.set_wall(now);
    assert_eq!(bench.queue.drop_expired(), 0, "30 seconds old");
    let Turn::Write(batch) = bench.queue.turn(9) else { panic!("it is to be written") };
    let real = Timestamp::from_unix_nanos(now - 30_000_000_000);
    assert_eq!(batch[0].time, real);
    assert_eq!(batch[0].payload.value(), Ok(&json!({ "at": real.unix_millis() })));
    advance(Duration::from_secs(31)).await;
    bench.queue.link_failed();
    assert_eq!(bench.queue.drop_expired(), 1, "61 seconds old");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_changed_to_memory_sends_what_is_on_disk_first() {
    let mut bench = Bench::new(disk());
    bench.push_many(8000);
    bench.work_all();
    bench.queue.set_limits(Buffer::default());
    bench.push_many(100);
    bench.deliver_all();
    bench.push_many(100);
    let written = bench.written;
    bench.deliver_all();
    assert_eq!(bench.got, numbers(0..8200));
    assert_eq!(bench.written, written);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_leaves_to_the_next_start_what_is_on_disk() {
    let mut bench = Bench::new(disk());
    bench.push_many(3);
    bench.queue.close();
    assert_eq!(bench.deliver(2), 2);
    bench.queue.link_failed();
    assert!(matches!(bench.queue.turn(9), Turn::End));
    while let Due::Now(job) = bench.queue.due(true) {
        bench.written += job.write.len();
        bench.queue.done(Done::default());
    }
    assert!(matches!(bench.queue.due(true), Due::Finished));
    assert_eq!((bench.queue.unsafe_len(), bench.delivered().await), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_each_message_goes_out_once_and_every_promise_is_kept() {
    for seed in 1..=150 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let store = [Store::Memory, Store::Disk, Store::Spill][dice.usize(..3)];
        let order = [Order::Fifo, Order::LiveFirst][dice.usize(..2)];
        let sync = [SyncPolicy::Always, SyncPolicy::Never][dice.usize(..2)];
        let drain_every = (dice.u64(..3) == 0).then_some(Duration::from_millis(1));
        let limits = Buffer { store, order, sync, drain_every, ..disk() };
        let mut bench = Bench::new(limits);
        for _ in 0..dice.u64(..200) {
            match dice.u64(..9) {
                0 | 1 => drop(bench.push_up_to(dice.usize(..20))),
                2 if dice.u64(..30) == 0 => drop(bench.push_up_to(6000)),
                3 | 4 => drop(bench.deliver(dice.usize(1..31))),
                5 => {
                    let _ = bench.shown(5);
                    bench.queue.link_failed();
                }
                6 => {
                    bench.is_broken = dice.u64(..3) == 0;
                    bench.is_unreadable = dice.u64(..3) == 0;
                }
                7 => advance(Duration::from_millis(dice.u64(..3000))).await,
                _ => drop(bench.work()),
            }
        }
        (bench.is_broken, bench.is_unreadable) = (false, false);
        for _ in 0..100_000 {
            advance(Duration::from_millis(10)).await;
            bench.work_all();
            let delivered = bench.deliver(1000);
            if delivered + bench.queue.len() == 0 {
                break;
            }
        }
        advance(Duration::from_secs(5)).await;
        bench.work_all();
        let pushed = bench.pushed;
        // What the disk did not give back for a while comes later.
        bench.got.sort_unstable();
        assert!(bench.got == numbers(0..pushed), "seed {seed}: {limits:?}: {:?}", bench.got);
        assert_eq!(bench.delivered().await as u64, pushed, "seed {seed}");
        assert!(bench.log.is_empty(), "seed {seed}: {:?}", bench.log.keys());
    }
}
