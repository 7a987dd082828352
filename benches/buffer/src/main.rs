//! Writes to a buffer on disk, or reads it, and prints one line of JSON about it. `run` measures
//! what reaches the device meanwhile.

#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use forebay::engine::buffer::{Batch, Folder, Limits, Log};
use forebay_sdk::{Format, Message, Payload, Timestamp};

/// The bytes of each payload.
const PAYLOAD_BYTES: usize = 200;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().context("a number was expected");
    match arguments[..] {
        ["commit", folder, per_commit, commits, acknowledged] => {
            let is_acknowledged = acknowledged == "acknowledged";
            commit(folder.as_ref(), number(per_commit)?, number(commits)?, is_acknowledged)
        }
        ["drain", folder, max_bytes] => drain(folder.as_ref(), number(max_bytes)?),
        _ => bail!("commit FOLDER PER_COMMIT COMMITS acknowledged|kept, or drain FOLDER MAX_BYTES"),
    }
}

/// Appends and syncs batches. With `acknowledged`, the other side has each batch when the next comes.
fn commit(folder: &Path, per_commit: u64, commits: u64, acknowledged: bool) -> anyhow::Result<()> {
    let limits = Limits { max_bytes: if acknowledged { 16 << 20 } else { u64::MAX } };
    let (mut log, _) = Log::open(Folder::new(folder), limits)?;
    let mut synced = Duration::ZERO;
    let began = Instant::now();
    for _ in 0..commits {
        let first = log.next_seq();
        let mut batch = Batch::new(first);
        for seq in first..first + per_commit {
            batch.push(&message(seq));
        }
        log.append(&batch)?;
        let now = Instant::now();
        log.sync()?;
        synced += now.elapsed();
        if acknowledged {
            log.ack(0..first);
            log.settle()?;
        }
    }
    let messages = per_commit * commits;
    let seconds = began.elapsed().as_secs_f64();
    let milliseconds = synced.as_secs_f64() * 1000.0 / commits as f64;
    println!(
        "{{\"payload_bytes\":{},\"seconds\":{seconds:.3},\"sync_ms\":{milliseconds:.3}}}",
        messages * PAYLOAD_BYTES as u64
    );
    Ok(())
}

/// A reading as it comes every 50 ms or so.
fn message(seq: u64) -> Message {
    let json = format!("{{\"n\":{seq},\"text\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES));
    let mut json = json.into_bytes();
    json.truncate(PAYLOAD_BYTES - 2);
    json.extend_from_slice(b"\"}");
    let mut message = Message::new("site/a/boiler", Payload::encoded(json, Format::Json));
    let jitter = (seq * 7_919) % 1_000_003;
    let nanos = 1_795_219_200_000_000_000 + seq * 50_000_000 + jitter;
    message.time = Timestamp::from_unix_nanos(nanos as i64);
    message.meta.source = Some("boiler-room/meter".into());
    message
}

/// Reads everything that is there and acknowledges it.
fn drain(folder: &Path, max_bytes: u64) -> anyhow::Result<()> {
    let idle = peak_bytes()?;
    let began = Instant::now();
    let (mut log, repairs) = Log::open(Folder::new(folder), Limits { max_bytes })?;
    let opened = began.elapsed();
    if !repairs.is_empty() {
        bail!("something is damaged: {repairs:?}");
    }
    let open_peak = peak_bytes()?;
    let (held, mut messages, mut from) = (log.bytes(), 0, 0);
    loop {
        let read = log.read(from, 500, 256 << 10)?;
        let Some(last) = read.last() else { break };
        messages += read.len();
        log.ack(from..last.seq + 1);
        log.settle()?;
        from = last.seq + 1;
    }
    println!(
        "{{\"held_bytes\":{held},\"messages\":{messages},\"open_ms\":{:.1},\"seconds\":{:.3},\
         \"idle_rss\":{idle},\"open_rss\":{open_peak},\"most_rss\":{}}}",
        opened.as_secs_f64() * 1000.0,
        began.elapsed().as_secs_f64(),
        peak_bytes()?
    );
    Ok(())
}

/// The most memory that was resident so far.
fn peak_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("VmHWM is there")?;
    Ok(kib.parse::<u64>()? * 1024)
}
