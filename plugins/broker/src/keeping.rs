//! Writes what must survive a restart, some of it at a time: each write costs the flash of a router a little.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use forebay_sdk::{Figure, SyncPolicy, Voice, beside};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{
    house::House,
    journal::{Journal, Moment},
    log_file::LogFile,
    pace::{self, Pace},
    restored::Restored,
};

/// How long is waited for clients to acknowledge what then need not be written.
const PATIENCE: Duration = Duration::from_millis(20);
/// How much is made up for after a quiet time, in writes that come at once.
const BURST: Duration = Duration::from_secs(60);
/// The pause after a disk that did not take it.
const PAUSE: Duration = Duration::from_secs(5);
/// What cannot be done, in the status of the connection.
const WHAT: &str = "keeping sessions and retained messages over a restart";

/// What is kept, and where.
pub struct Keeping {
    file: Arc<Mutex<LogFile>>,
    sync: SyncPolicy,
    pub journal: Journal,
}

impl Keeping {
    /// In a folder, which need not be there.
    pub fn new(folder: &Path, sync: SyncPolicy) -> Keeping {
        let file = Arc::new(Mutex::new(LogFile::new(folder)));
        Keeping { file, sync, journal: Journal::default() }
    }

    /// What was kept. What cannot be read is told, and left out.
    pub async fn restore(&self, voice: &Voice) -> Restored {
        let read = self.on_disk(|file| {
            let mut restored = Restored::default();
            let lost = file.read(|record| restored.take(record))?;
            std::io::Result::Ok((restored, lost))
        });
        match read.await {
            Ok((restored, 0)) => restored,
            Ok((restored, lost)) => {
                self.journal.lose();
                voice.trouble(&anyhow::anyhow!(
                    "the last {lost} bytes of what the broker had kept are damaged, and are left out; \
                     a power cut leaves such"
                ));
                restored
            }
            Err(error) => {
                voice
                    .trouble(&error.context("reading what the broker had kept, which begins anew"));
                Restored::default()
            }
        }
    }

    /// Writes what happens, in the long run no more often than `sync` says. Runs as long as the broker does.
    pub async fn run(&self, house: &House, voice: &Voice) {
        let mut wants_rewriting = false;
        let between = match self.sync {
            SyncPolicy::Every(between) => Some(between),
            SyncPolicy::Always | SyncPolicy::Never => None,
        };
        let mut pace = Pace::new(between, BURST, Instant::now()).rested();
        loop {
            while self.journal.is_empty() {
                self.journal.changed().await;
            }
            tokio::select! {
                biased;
                () = sleep(PATIENCE.min(between.unwrap_or_default())) => (),
                () = self.journal.hurried() => (),
            }
            pace::keep([pace.count(1, Instant::now()), None]).await;
            match self.write(house, wants_rewriting).await {
                Ok((wants, bytes)) => {
                    voice.trouble_is_over(WHAT);
                    voice.count(Figure::BytesToDisk, bytes);
                    wants_rewriting = wants;
                }
                Err(error) => {
                    voice.trouble_lasts(WHAT, &error);
                    self.journal.lose();
                    wants_rewriting = true;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Writes once: what has happened, or all that is so. Whether the file wants to be written anew, and how many bytes
    /// were written.
    async fn write(&self, house: &House, wants_rewriting: bool) -> anyhow::Result<(bool, u64)> {
        let moment = Moment::of(Instant::now());
        let is_anew = wants_rewriting || self.journal.is_lost();
        // In one step, so that nothing is in both or in neither.
        let (changes, snapshot) =
            house.with(|broker| (self.journal.take(), is_anew.then(|| broker.snapshot())));
        let sync = self.sync;
        let written = self.on_disk(move |file| {
            // Who waits for the changes is told then.
            match snapshot {
                Some(all) => {
                    file.rewrite(|take| all.encode(moment, take).map(drop))?;
                    drop(changes);
                }
                None => drop(file.append(sync, |take| changes.encode(moment, take))?),
            }
            Ok((file.wants_rewriting(), file.take_written_bytes()))
        });
        written.await
    }

    /// Writes the rest, when the broker is gone.
    pub async fn finish(&self) {
        if self.journal.is_empty() || self.journal.is_lost() {
            return;
        }
        let (changes, moment) = (self.journal.take(), Moment::of(Instant::now()));
        let written = self.on_disk(move |file| {
            file.append(SyncPolicy::Always, |take| changes.encode(moment, take))
        });
        if let Err(error) = written.await {
            info!(error = format!("{error:#}"), "the last changes of sessions were not kept");
        }
    }

    /// Forgets all that was kept.
    pub async fn forget(&self) {
        // A file that cannot be removed is of no harm.
        let _ = self.on_disk(|file| file.remove()).await;
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LogFile) -> std::io::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let file = Arc::clone(&self.file);
        let work = move || work(&mut file.lock().unwrap_or_else(PoisonError::into_inner));
        beside(work).await?.context("the disk of the data folder")
    }
}
