//! Keeps the log behind a sink's inbox: writes what waits, reads it back, drops what has no room.
//!
//! Files are touched on a thread beside the nodes, one job at a time. Nothing here ever ends the
//! program: a disk that is full, read-only or broken is reported and tried again, and memory does
//! what it can meanwhile.

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use forebay_sdk::{Message, SyncPolicy, Timestamp, beside, clock};
use tracing::{error, info};

use super::{
    buffer::{Batch, Disk, Disks, Limits, Log, Medium, Ranges, Repairs, Stored},
    inbox::Inbox,
    outbox::Outbox,
    queue::{Done, Job, Look, Opened},
    status::{Count, Status},
};
use crate::{
    config::{Buffer, Name, WhenFull},
    warnings::{BUFFER_DAMAGED, BUFFER_REMOVED},
};

/// How long a folder that could not be opened is left alone.
const OPEN_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Runs until the inbox is finished and everything is on disk.
pub async fn run_buffer(
    (disks, folder): (Disks, PathBuf),
    limits: Buffer,
    node: Name,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    status: Arc<Status>,
) {
    let opened = open((disks, folder), limits, &node, &inbox, &status).await;
    let Some((mut log, written)) = opened else { return };
    if let Some(message) = log.take_doubt() {
        outbox.post_in_doubt("the program ended meanwhile", &message);
    }
    while let Some((job, limits)) = inbox.disk_work().await {
        let did = beside(move || {
            let done = work(&mut log, job, limits);
            (log, done)
        });
        // A panic in there is a bug; the messages stay in memory.
        let Ok((same, done)) = did.await else { return inbox.open_failed() };
        log = same;
        status.add_many(Count::BytesToDisk, written.swap(0, Ordering::Relaxed));
        for (error, doing) in [(&done.write_failed, "writing"), (&done.read_failed, "reading")] {
            if let Some(error) = error {
                status.disk_failed(&format!("{doing} the buffer on disk: {error}"));
            }
        }
        report(&log.take_repairs(), &node);
        if done.write_failed.is_none() && done.read_failed.is_none() {
            status.disk_works();
        }
        inbox.disk_did(done);
    }
}

async fn open(
    (disks, folder): (Disks, PathBuf),
    limits: Buffer,
    node: &Name,
    inbox: &Inbox,
    status: &Status,
) -> Option<(Log<Medium>, Arc<AtomicU64>)> {
    loop {
        let (medium, clock) = (disks.folder(folder.clone()), clock::current());
        let written = medium.written();
        let limits = Limits { max_bytes: limits.max_bytes };
        let opening = beside(move || Log::open_at(medium, limits, clock));
        match opening.await.context("opening") {
            Ok(Ok((log, repairs))) => {
                report(&repairs, node);
                let opened = held(&log);
                if opened.messages > 0 {
                    info!(node = %node, messages = opened.messages, "going on with what is in the buffer on disk");
                }
                status.disk_works();
                inbox.opened(opened);
                return Some((log, written));
            }
            Ok(Err(error)) => {
                let text = format!("opening the buffer {}: {error}", folder.display());
                status.disk_failed(&text);
            }
            Err(error) => status.disk_failed(&format!("{error:#}")),
        }
        inbox.open_failed();
        if !inbox.pause_before_open(OPEN_AGAIN_AFTER).await {
            return None;
        }
    }
}

/// Says what was found damaged.
fn report(repairs: &Repairs, node: &Name) {
    let Repairs { lost_records, lost_bytes, cut, cut_records, was_removed, only_in_memory } =
        *repairs;
    if was_removed {
        error!(rule = %BUFFER_REMOVED, node = %node, lost_records, only_in_memory, "the buffer's files on disk were removed or are gone with their disk; its folder is made anew; the messages that were only there are lost, and those that memory has are written again");
    } else if lost_records > 0 || lost_bytes > 0 {
        error!(rule = %BUFFER_DAMAGED, node = %node, lost_records, lost_bytes, "the buffer on disk is damaged; what cannot be read was skipped");
    } else if cut {
        let left_out = (cut_records > 0).then_some(cut_records);
        info!(node = %node, left_out, "the buffer on disk ended in the middle of a write, as after a power cut; that write was left out");
    }
}

/// What a log holds.
fn held<D: Disk>(log: &Log<D>) -> Opened {
    let (first, next_seq) = (log.first(), log.next_seq());
    let only_in_lanes = Ranges::default();
    Opened { first, next_seq, messages: log.messages(), bytes: log.bytes(), only_in_lanes }
}

/// Does what is to be done, as far as the disk lets it.
fn work<D: Disk>(log: &mut Log<D>, job: Job, limits: Buffer) -> Done {
    let mut done = Done::default();
    log.set_limits(Limits { max_bytes: limits.max_bytes });
    job.acknowledged.iter().for_each(|seqs| log.ack(seqs.clone()));
    match reopen_if_broken(log, &job) {
        Ok(reopened) => {
            done.reopened = reopened;
            do_job(log, job, limits, &mut done);
        }
        Err(error) => {
            // The queue is told of both, so that it goes on with what memory has.
            done.read_failed = Some(io::Error::new(error.kind(), error.to_string()));
            done.write_failed = Some(error);
        }
    }
    log.failed(done.write_failed.iter().chain(&done.read_failed));
    (done.stored_bytes, done.stored_messages) = (log.bytes(), log.messages());
    done
}

/// A folder that was removed, or a disk that failed for long, is looked at anew.
fn reopen_if_broken<D: Disk>(log: &mut Log<D>, job: &Job) -> io::Result<Option<Opened>> {
    if !log.is_broken() {
        return Ok(None);
    }
    let only_in_lanes = log.reopen(job.in_memory, &job.in_lanes)?;
    Ok(Some(Opened { only_in_lanes, ..held(log) }))
}

fn do_job<D: Disk>(log: &mut Log<D>, job: Job, limits: Buffer, done: &mut Done) {
    if job.doubt_is_over {
        // What stays noted is told once more after a crash, which is no more than the truth.
        let _ = log.doubt_is_over();
    }
    // Who only reads need not wait for a disk that takes nothing, nor have it opened anew for that.
    let only_reads =
        job.write.is_empty() && job.drop_older.is_none() && job.acknowledged.is_empty();
    if !only_reads {
        done.write_failed = write(log, &job.write, job.drop_older, limits, done).err();
    }
    if let Some((seq, message)) = job.let_go {
        let noted = log.let_go(seq, &message).err();
        done.write_failed = done.write_failed.take().or(noted);
    }
    if let Some((from, bytes)) = job.fetch {
        match log.read(from, usize::MAX, bytes) {
            Ok(stored) => {
                let stored = stored.into_iter().map(|stored| (stored.seq, stored.message));
                done.fetched = Some((from, stored.collect()));
            }
            Err(error) => done.read_failed = Some(error),
        }
    }
    if let Some(Look { from, bytes, tell }) = job.look {
        let read = log.read(from, usize::MAX, bytes);
        let shown = |stored: Vec<Stored>| {
            stored.into_iter().map(|stored| (stored.seq, stored.message)).collect()
        };
        // Whoever asked may be gone.
        let _ = tell.send(read.map(shown));
    }
}

fn write<D: Disk>(
    log: &mut Log<D>,
    messages: &[(u64, Message)],
    drop_older: Option<Duration>,
    limits: Buffer,
    done: &mut Done,
) -> io::Result<()> {
    if let Some(age) = drop_older {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let before = log.now().unix_nanos().saturating_sub(age);
        let dropped = done.dropped_messages;
        drop_from(log, done, |log| log.drop_before(Timestamp::from_unix_nanos(before)))?;
        done.expired_messages += done.dropped_messages - dropped;
    }
    // A job that failed comes again, and part of it may be in the log by then.
    let appended = messages.partition_point(|(seq, _)| *seq < log.next_seq());
    for batch in batches(&messages[appended..]) {
        append(log, &batch, limits, done)?;
    }
    if !messages.is_empty() && limits.sync != SyncPolicy::Never && !breaks_promise() {
        log.sync()?;
    }
    log.settle()
}

/// Has this thread call messages safe before they are, so that tests of tests have something to find.
#[cfg(test)]
pub mod broken_promise {
    use std::cell::Cell;

    thread_local! {
        /// Whether it does.
        pub static IS_BROKEN: Cell<bool> = const { Cell::new(false) };
    }
}

fn breaks_promise() -> bool {
    #[cfg(test)]
    return broken_promise::IS_BROKEN.get();
    #[cfg(not(test))]
    false
}

/// Drops a part of the log, and takes note of it. False when there was nothing to drop.
fn drop_from<D: Disk>(
    log: &mut Log<D>,
    done: &mut Done,
    part: impl FnOnce(&mut Log<D>) -> io::Result<Option<Range<u64>>>,
) -> io::Result<bool> {
    let held = log.messages();
    let seqs = part(log)?;
    done.dropped_messages += held.saturating_sub(log.messages());
    let dropped_any = seqs.is_some();
    done.dropped.extend(seqs);
    Ok(dropped_any)
}

/// Messages with numbers in a row.
fn batches(messages: &[(u64, Message)]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (seq, message) in messages {
        match batches.last_mut() {
            Some(batch) if batch.first_seq() + batch.len() == *seq => batch.push(message),
            _ => {
                let mut batch = Batch::new(*seq);
                batch.push(message);
                batches.push(batch);
            }
        }
    }
    batches
}

/// Appends, and with `drop_oldest` makes room first: in the buffer, or on a disk that is full.
fn append<D: Disk>(
    log: &mut Log<D>,
    batch: &Batch,
    limits: Buffer,
    done: &mut Done,
) -> io::Result<()> {
    let makes_room = limits.when_full == WhenFull::DropOldest;
    while makes_room && log.bytes() + batch.bytes() as u64 > limits.max_bytes {
        if !drop_from(log, done, Log::drop_oldest)? {
            break;
        }
    }
    loop {
        match log.append(batch) {
            Err(error) if makes_room && is_full(&error) => {
                if !drop_from(log, done, Log::drop_oldest)? {
                    return Err(error);
                }
            }
            other => return other,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::buffer::MemoryDisk, *};
    use crate::config::Store;

    #[test]
    fn a_disk_that_takes_nothing_is_not_opened_anew_for_each_read() {
        let disk = MemoryDisk::default();
        let limits = Buffer { store: Store::Disk, sync: SyncPolicy::Always, ..Buffer::default() };
        let (mut log, _) = Log::open(disk.clone(), Limits { max_bytes: 1 << 20 }).unwrap();
        let write = (0..3).map(|seq| (seq, Message::new("n", json!(seq)))).collect();
        assert!(work(&mut log, Job { write, ..Job::default() }, limits).write_failed.is_none());
        disk.set(|faults| faults.failing_writes = u32::MAX);
        let told = |seq| Job {
            in_memory: 3,
            acknowledged: std::iter::once(seq..seq + 1).collect(),
            ..Job::default()
        };
        for seq in 0..2 {
            assert!(work(&mut log, told(seq), limits).write_failed.is_some());
        }
        let reads = || Job { in_memory: 3, fetch: Some((0, 9999)), ..Job::default() };
        let mut done = Vec::new();
        for _ in 0..3 {
            let Done { reopened, write_failed, fetched, .. } = work(&mut log, reads(), limits);
            assert_eq!(fetched.map(|(_, stored)| stored.len()), Some(1));
            done.push((reopened.is_some(), write_failed.is_some()));
        }
        assert_eq!(done, [(true, false), (false, false), (false, false)]);
    }

    #[test]
    fn a_sync_that_failed_does_not_keep_the_log_from_taking_the_same_again() {
        let disk = MemoryDisk::default();
        let limits = Buffer { store: Store::Disk, sync: SyncPolicy::Always, ..Buffer::default() };
        let (mut log, _) = Log::open(disk.clone(), Limits { max_bytes: 1 << 20 }).unwrap();
        let messages = |seqs: Range<u64>| seqs.map(|seq| (seq, Message::new("n", json!(seq))));
        let job = |seqs: Range<u64>| Job {
            in_memory: seqs.start,
            write: messages(seqs).collect(),
            ..Job::default()
        };
        assert!(work(&mut log, job(0..1), limits).write_failed.is_none());
        disk.set(|faults| faults.failing_syncs = 1);
        assert!(work(&mut log, job(1..3), limits).write_failed.is_some());
        let done = work(&mut log, job(1..5), limits);
        assert!(done.write_failed.is_none(), "{:?}", done.write_failed);
        assert_eq!((done.stored_messages, done.dropped_messages), (5, 0));
        let stored = log.read(0, 9, 9999).unwrap();
        assert_eq!(stored.iter().map(|stored| stored.seq).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
