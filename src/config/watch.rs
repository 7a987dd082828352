//! Tells when a folder may have changed.
//!
//! Folders are watched, never files: an editor that renames, or a swapped link, gives a file a new
//! inode, and a watch on the old one is silent for good. Where the system reports nothing (network
//! file systems, a bind mount of a single file), a slow poll does.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

/// Changes that follow each other this closely are one change.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that never comes to rest is read anyway.
const LONGEST_GATHERING: Duration = Duration::from_secs(2);
/// Where the system tells of changes, the poll is only the second line.
const SLOW_POLL: Duration = Duration::from_secs(15);
/// Where it does not, the poll is all there is.
const FAST_POLL: Duration = Duration::from_secs(2);

/// Watches folders. Spurious reports are expected: whoever listens compares contents.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
    /// Each folder with its device and inode.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    poll: Duration,
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
        Watch { watcher, events, watched: BTreeMap::new(), poll }
    }

    /// Watches these folders and no others. One that stays is watched without a gap; one that was
    /// replaced is watched anew.
    pub fn set(&mut self, folders: &BTreeSet<PathBuf>) {
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

    /// Resolves when something may have changed and has come to rest.
    pub async fn changed(&mut self) {
        let poll = Instant::now() + self.poll;
        tokio::select! {
            event = self.events.recv(), if self.watcher.is_some() => {
                debug!(?event, "the folder changed");
            }
            () = sleep_until(poll) => return,
        }
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
