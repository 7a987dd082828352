//! What a run knows of the clock, kept in the data folder for the next one: a small file, written
//! when the clock is set, now and then, and at the end.

use std::{fs, io, path::Path, time::Duration};

use anyhow::Context;
use forebay_sdk::{
    clock::{self, Seen},
    replace_file,
};
use serde::{Deserialize, Serialize};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::debug;

/// The file's name.
const FILE: &str = "clock.json";
/// How often it is looked whether the clock was set.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often the time is written down. It spares flash, and an hour is little for a clock that was
/// not set.
const WRITE_EVERY_NANOS: i64 = 3_600_000_000_000;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    boot: String,
    booted_at_nanos: i64,
    latest_nanos: i64,
    is_set: bool,
}

/// What the last run knew. None when nobody wrote it down, or not so that it can be read.
pub(super) fn read(data: &Path) -> Option<Seen> {
    let OnDisk { boot, booted_at_nanos, latest_nanos, is_set } =
        serde_json::from_slice(&fs::read(data.join(FILE)).ok()?).ok()?;
    let boot = u128::from_str_radix(&boot, 16).ok()?;
    Some(Seen { boot, boot_nanos: booted_at_nanos, latest_nanos, is_set })
}

/// Writes it down, for as long as it is polled.
pub(super) async fn keep(data: &Path) {
    let mut written: Option<Seen> = None;
    loop {
        let seen = clock::seen();
        let is_news = written.is_none_or(|written| {
            let since = seen.latest_nanos.saturating_sub(written.latest_nanos);
            (written.boot, written.is_set) != (seen.boot, seen.is_set) || since > WRITE_EVERY_NANOS
        });
        if is_news {
            write_beside(data, seen).await;
            written = Some(seen);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Writes down what is known now. A disk that cannot be written is no reason to do less.
pub(super) async fn write_down(data: &Path) {
    write_beside(data, clock::seen()).await;
}

async fn write_beside(data: &Path, seen: Seen) {
    let data = data.to_owned();
    let wrote = spawn_blocking(move || write(&data, &seen)).await;
    if let Err(error) = wrote.map_err(io::Error::other).flatten().context("writing clock.json") {
        debug!("{error:#}");
    }
}

fn write(data: &Path, seen: &Seen) -> io::Result<()> {
    let Seen { boot, boot_nanos, latest_nanos, is_set } = *seen;
    let on_disk =
        OnDisk { boot: format!("{boot:032x}"), booted_at_nanos: boot_nanos, latest_nanos, is_set };
    replace_file(data, FILE, &serde_json::to_vec(&on_disk)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_reads_what_the_last_one_knew() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert_eq!(read(&data), None);
        let seen = Seen { boot: 0xab << 120, boot_nanos: -5, latest_nanos: 7, is_set: true };
        write(&data, &seen).unwrap();
        assert_eq!(read(&data), Some(seen));
        fs::write(data.join(FILE), "torn").unwrap();
        assert_eq!(read(&data), None);
    }
}
