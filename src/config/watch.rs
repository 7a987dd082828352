//! Tells when a folder may have changed.
//!
//! Folders are watched, never files: an editor that renames, or a swapped link, gives a file a new
//! inode, and a watch on the old one is silent for good. Where the system reports nothing (network
//! file systems, a bind mount of a single file), a slow poll does. It compares a [`Stamp`] of the files,
//! so that a folder at rest is not read again and again.

mod stamp;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use self::stamp::Stamp;

/// Changes that follow each other this closely are one change.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that never comes to rest is read anyway.
const LONGEST_GATHERING: Duration = Duration::from_secs(2);
/// Where the system tells of changes, the poll is only the second line.
const SLOW_POLL: Duration = Duration::from_secs(15);
/// Where it does not, the poll is all there is.
const FAST_POLL: Duration = Duration::from_secs(2);
/// A file system may show a change in none of the things that a stamp compares.
const LONGEST_UNREAD: Duration = Duration::from_secs(300);

/// Watches folders. Spurious reports are expected: whoever listens compares contents.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    /// Each folder with its device and inode.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    poll: Duration,
    /// What [`Watch::set`] was given.
    folders: BTreeSet<PathBuf>,
    /// What was there just before whoever listens read it, and when that was.
    read: Option<(Stamp, Instant)>,
    clock: fn() -> SystemTime,
}

impl Watch {
    /// Watches nothing yet. With `system` false only the poll is used.
    pub fn new(system: bool) -> Watch {
        // One waiting event says all there is to say.
        let (sender, events) = mpsc::channel(1);
        let report = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too; it must not cause the next reading.
            let is_change = event.map_or(true, |event| !event.kind.is_access());
            if is_change {
                let _ = sender.try_send(());
            }
        };
        let watcher = match system {
            true => notify::recommended_watcher(report)
                .inspect_err(
                    |error| warn!(%error, "the system reports no changes; polling instead"),
                )
                .ok(),
            false => None,
        };
        let poll = if watcher.is_some() { SLOW_POLL } else { FAST_POLL };
        Watch {
            watcher,
            events,
            watched: BTreeMap::new(),
            poll,
            folders: BTreeSet::new(),
            read: None,
            clock: SystemTime::now,
        }
    }

    /// Watches these folders and no others. One that stays is watched without a gap; one that was
    /// replaced is watched anew.
    pub fn set(&mut self, folders: &BTreeSet<PathBuf>) {
        self.folders.clone_from(folders);
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = identities(folders);
        for (gone, identity) in &self.watched {
            if wanted.get(gone) != Some(identity) {
                let _ = watcher.unwatch(gone);
            }
        }
        self.poll = SLOW_POLL;
        for (folder, identity) in &wanted {
            if self.watched.get(folder) == Some(identity) {
                continue;
            }
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                let folder = folder.display();
                warn!(%folder, %error, "the system reports no changes here; polling instead");
                self.poll = FAST_POLL;
            }
        }
        self.watched = wanted;
    }

    /// What was there could not be read: the next look is not compared with it.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Resolves when something may have changed and has come to rest. Then all should be read.
    pub async fn changed(&mut self) {
        loop {
            let poll = Instant::now() + self.poll;
            let told = tokio::select! {
                event = self.events.recv(), if self.watcher.is_some() => {
                    debug!(?event, "the folder changed");
                    true
                }
                () = sleep_until(poll) => false,
            };
            if told {
                self.come_to_rest().await;
            }
            // Before it is read: what changes while it is read makes the next stamp another.
            let Some(fresh) = self.stamp().await else { return };
            let is_known = self.read.as_ref().is_some_and(|(stamp, at)| {
                *stamp == fresh && stamp.is_at_rest() && at.elapsed() < LONGEST_UNREAD
            });
            if told || !is_known {
                self.read = Some((fresh, Instant::now()));
                return;
            }
        }
    }

    async fn come_to_rest(&mut self) {
        let latest = Instant::now() + LONGEST_GATHERING;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            tokio::select! {
                Some(()) = self.events.recv() => (),
                () = sleep_until(quiet) => return,
            }
            if Instant::now() >= latest {
                return;
            }
        }
    }

    /// A network file system may take its time; the nodes go on meanwhile.
    async fn stamp(&self) -> Option<Stamp> {
        let (folders, now) = (self.folders.clone(), (self.clock)());
        spawn_blocking(move || Stamp::of(&folders, now)).await.ok()
    }
}

/// The folders that are there, each with its device and inode. A link is followed to where the
/// files are; the folder in which it stands tells when it is swapped.
fn identities(folders: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, (u64, u64)> {
    let links = folders.iter().filter(|folder| folder.is_symlink());
    let parents = links.filter_map(|link| link.parent().map(Path::to_owned));
    let identity = |folder: PathBuf| {
        let folder = folder.canonicalize().ok()?;
        let meta = folder.metadata().ok()?;
        Some((folder, (meta.dev(), meta.ino())))
    };
    folders.iter().cloned().chain(parents).filter_map(identity).collect()
}
