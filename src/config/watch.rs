//! Tells when a folder may have changed, and when what changed is whole.
//!
//! Folders are watched, never files: an editor that renames, or a swapped link, gives a file a new
//! inode, and a watch on the old one is silent for good. Where the system reports nothing (network
//! file systems, a bind mount of a single file), a slow poll does. It compares a [`Stamp`] of the files,
//! so that a folder at rest is not read again and again.
//!
//! A file that is still being written is never read: half a script may well be one. The system tells when a
//! writer has closed it. A poll cannot know, and waits until nothing has changed for some seconds.

mod stamp;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use self::stamp::Stamp;
use super::watched::Watched;
use crate::warnings::POLLING_INSTEAD;

/// A file that was closed, and after which this much silence came, was saved by itself.
const QUIET: Duration = Duration::from_millis(200);
/// Several files are a checkout or a copy of a folder, and there may be more to come.
const QUIET_AFTER_SEVERAL: Duration = Duration::from_secs(1);
/// A folder that never comes to rest is read anyway, unless a file in it is just being written.
const LONGEST_GATHERING: Duration = Duration::from_secs(30);
/// Nobody who writes says nothing for so long. There are ways to change a file that nobody closes.
const LONGEST_WRITE: Duration = Duration::from_secs(300);
/// Who waits for a change wants to know why it does not come.
const SAY_SO_AFTER: Duration = Duration::from_secs(10);
/// What a poll sees twice in the same state, so far apart, is nobody writing.
const AT_REST: Duration = Duration::from_secs(3);
/// Where the system tells of changes, the poll is only the second line.
const SLOW_POLL: Duration = Duration::from_secs(15);
/// Where it does not, the poll is all there is.
const FAST_POLL: Duration = Duration::from_secs(2);
/// A file system may show a change in none of the things that a stamp compares.
const LONGEST_UNREAD: Duration = Duration::from_secs(300);
/// What the system tells, and nobody has heard yet. What is more than that only counts as a change.
const MOST_UNHEARD: usize = 1024;

/// Watches folders. Spurious reports are expected: whoever listens compares contents.
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<Told>,
    /// Keeps the other end open, also where no system tells anything.
    _teller: mpsc::Sender<Told>,
    /// Whether more was told than anybody could hear.
    lost: Arc<AtomicBool>,
    /// Each folder with its device and inode.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    poll: Duration,
    /// What [`Watch::set`] was given.
    watched: Watched,
    /// What changed since it was read.
    changed: BTreeSet<PathBuf>,
    /// What somebody is writing, and when he was last heard.
    writing: BTreeMap<PathBuf, Instant>,
    /// What was there just before whoever listens read it, and when that was.
    read: Option<(Stamp, Instant)>,
    wish: Option<Wish>,
    /// When to look without a change.
    again: Option<Instant>,
    /// Whether a file may have been written piece by piece, and not put in its place as a whole.
    is_pieced: bool,
    clock: fn() -> SystemTime,
}

/// What the system tells.
#[derive(Debug)]
enum Told {
    /// Somebody changed what a file holds, and has not closed it.
    Writing(PathBuf),
    /// A file is whole, or something that is no plain file changed, or is gone.
    Whole { path: PathBuf, is_plain: bool },
    /// It lost count.
    Much,
}

/// A look without a change.
#[derive(Clone, Copy, Debug)]
enum Wish {
    /// Somebody asked for it.
    Now,
    /// What was read changed meanwhile.
    Again,
}

impl Watch {
    /// Watches nothing yet. With `system` false only the poll is used.
    pub fn new(system: bool) -> Watch {
        let (teller, events) = mpsc::channel(MOST_UNHEARD);
        let lost = Arc::new(AtomicBool::new(false));
        let report = {
            let (teller, lost) = (teller.clone(), Arc::clone(&lost));
            move |event: notify::Result<Event>| {
                for told in told(event) {
                    if teller.try_send(told).is_err() {
                        lost.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        let watcher = match system {
            true => notify::recommended_watcher(report)
                .inspect_err(
                    |error| warn!(rule = %POLLING_INSTEAD, %error, "the system reports no changes; polling instead"),
                )
                .ok(),
            false => None,
        };
        let poll = if watcher.is_some() { SLOW_POLL } else { FAST_POLL };
        Watch {
            watcher,
            events,
            _teller: teller,
            lost,
            folders: BTreeMap::new(),
            poll,
            watched: Watched::default(),
            changed: BTreeSet::new(),
            writing: BTreeMap::new(),
            read: None,
            wish: None,
            again: None,
            is_pieced: false,
            clock: SystemTime::now,
        }
    }

    /// Watches these folders and no others. One that stays is watched without a gap; one that was
    /// replaced is watched anew.
    pub fn set(&mut self, watched: &Watched) {
        self.watched.clone_from(watched);
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = identities(&watched.folders);
        for (gone, identity) in &self.folders {
            if wanted.get(gone) != Some(identity) {
                let _ = watcher.unwatch(gone);
                self.writing.retain(|path, _| path.parent() != Some(gone));
            }
        }
        self.poll = SLOW_POLL;
        for (folder, identity) in &wanted {
            if self.folders.get(folder) == Some(identity) {
                continue;
            }
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                let folder = folder.display();
                warn!(rule = %POLLING_INSTEAD, %folder, %error, "the system reports no changes here; polling instead");
                self.poll = FAST_POLL;
            }
        }
        self.folders = wanted;
    }

    /// What was there could not be read: the next look is not compared with it.
    pub fn forget(&mut self) {
        self.read = None;
    }

    /// Has [`Watch::changed`] resolve as soon as nothing is being written.
    pub fn ask(&mut self) {
        self.wish = Some(Wish::Now);
    }

    /// Has [`Watch::changed`] resolve at that time, if nothing changes before.
    pub fn look_again_at(&mut self, time: Instant) {
        self.again = Some(time);
    }

    /// Whether a file may have been written piece by piece since this was asked before. One that was
    /// renamed or linked into its place is whole.
    pub fn take_pieced(&mut self) -> bool {
        std::mem::take(&mut self.is_pieced)
    }

    /// Resolves when something may have changed and has come to rest. Then all should be read. Dropping
    /// the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            self.wait().await;
            self.hear();
            let is_told = !self.changed.is_empty();
            if is_told {
                self.come_to_rest().await;
            }
            // Before it is read: what changes while it is read makes the next stamp another.
            let Some(mut fresh) = self.stamp().await else { return };
            let is_whole = match self.wish {
                Some(Wish::Now) => true,
                Some(Wish::Again) => false,
                None => is_told,
            };
            if !is_whole {
                let is_known = self.wish.is_none()
                    && self.read.as_ref().is_some_and(|(stamp, at)| {
                        *stamp == fresh && stamp.is_at_rest() && at.elapsed() < LONGEST_UNREAD
                    });
                if is_known {
                    continue;
                }
                fresh = self.at_rest(fresh).await;
                self.is_pieced = true;
            }
            self.changed.clear();
            self.wish = None;
            self.again = None;
            self.read = Some((fresh, Instant::now()));
            return;
        }
    }

    /// Whether nothing changed since [`Watch::changed`] resolved, so that what was read meanwhile is
    /// whole. Otherwise it should not be used: `changed` will resolve again.
    pub async fn is_undisturbed(&mut self) -> bool {
        self.hear();
        if !self.changed.is_empty() {
            return false;
        }
        let (Some((before, _)), Some(now)) = (&self.read, self.stamp().await) else { return true };
        if *before != now {
            self.read = None;
            self.wish = Some(Wish::Again);
            return false;
        }
        true
    }

    /// Until there is a reason to look.
    async fn wait(&mut self) {
        let poll = Instant::now() + self.poll;
        while self.changed.is_empty() && self.wish.is_none() {
            tokio::select! {
                Some(told) = self.events.recv() => { self.note(told); }
                () = sleep_until(self.again.unwrap_or(poll)), if self.again.is_some() => {
                    self.wish = Some(Wish::Now);
                }
                () = sleep_until(poll) => return,
            }
        }
        debug!(changed = ?self.changed, "the folder changed");
    }

    /// Takes note of what was told so far.
    fn hear(&mut self) {
        if self.lost.swap(false, Ordering::Relaxed) {
            self.note(Told::Much);
        }
        while let Ok(told) = self.events.try_recv() {
            self.note(told);
        }
    }

    /// Whether it matters.
    fn note(&mut self, told: Told) -> bool {
        match told {
            Told::Writing(path) if self.watched.concerns(&path) => {
                self.is_pieced = true;
                self.writing.insert(path.clone(), Instant::now());
                self.changed.insert(path);
            }
            Told::Whole { path, is_plain } if !is_plain || self.watched.concerns(&path) => {
                self.writing.remove(&path);
                self.changed.insert(path);
            }
            // Nobody can say any more what is whole, so time must.
            Told::Much => {
                self.is_pieced = true;
                self.writing.clear();
                self.wish = Some(Wish::Again);
                self.changed.insert(PathBuf::new());
            }
            Told::Writing(_) | Told::Whole { .. } => return false,
        }
        true
    }

    /// Waits until nobody writes any more, and no further file has changed for a moment.
    async fn come_to_rest(&mut self) {
        let begin = Instant::now();
        let mut heard = begin;
        let mut is_said = false;
        loop {
            let files = self.changed.iter().filter(|path| self.watched.concerns(path)).count();
            let quiet = if files > 1 { QUIET_AFTER_SEVERAL } else { QUIET };
            let rest = match self.writing.values().max() {
                Some(last) => *last + LONGEST_WRITE,
                None => (heard + quiet).min(begin + LONGEST_GATHERING),
            };
            tokio::select! {
                Some(told) = self.events.recv() => {
                    if self.note(told) {
                        heard = Instant::now();
                    }
                }
                () = sleep_until(begin + SAY_SO_AFTER), if !is_said && !self.writing.is_empty() => {
                    is_said = true;
                    let names: Vec<String> =
                        self.writing.keys().map(|path| path.display().to_string()).collect();
                    info!("waiting until {} is written and closed", names.join(", "));
                }
                () = sleep_until(rest) => {
                    self.writing.clear();
                    return;
                }
            }
        }
    }

    /// The stamp of before, once it stays what it is.
    async fn at_rest(&self, mut before: Stamp) -> Stamp {
        let latest = Instant::now() + LONGEST_GATHERING;
        loop {
            sleep(AT_REST).await;
            let Some(now) = self.stamp().await else { return before };
            if now == before || Instant::now() >= latest {
                return now;
            }
            before = now;
        }
    }

    /// A network file system may take its time; the nodes go on meanwhile.
    async fn stamp(&self) -> Option<Stamp> {
        let (watched, now) = (self.watched.clone(), (self.clock)());
        spawn_blocking(move || Stamp::of(&watched, now)).await.ok()
    }
}

/// What the system tells with an event. Reading a file is one too; it must not cause the next reading.
fn told(event: notify::Result<Event>) -> Vec<Told> {
    let Ok(event) = event else { return vec![Told::Much] };
    if event.need_rescan() {
        return vec![Told::Much];
    }
    let paths = event.paths.into_iter();
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            paths.map(|path| Told::Whole { path, is_plain: true }).collect()
        }
        EventKind::Access(_) => Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => paths.map(Told::Writing).collect(),
        EventKind::Create(CreateKind::File) => paths.map(created).collect(),
        _ => paths.map(other).collect(),
    }
}

/// Whoever makes an empty file is about to write into it. A second name for a file is never closed.
fn created(path: PathBuf) -> Told {
    let is_empty = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if is_empty { Told::Writing(path) } else { other(path) }
}

fn other(path: PathBuf) -> Told {
    let is_plain = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
    Told::Whole { path, is_plain }
}

/// The folders that are there, each with its device and inode. A link is followed to where the
/// files are; the folder in which it stands tells when it is swapped, and the nearest that is there, when
/// one comes that is not.
fn identities(folders: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, (u64, u64)> {
    let links = folders.iter().filter(|folder| folder.is_symlink());
    let parents = links.filter_map(|link| link.parent().map(Path::to_owned));
    let identity = |folder: PathBuf| {
        let or_here = |folder: &Path| {
            let here = Path::new(".");
            if folder.as_os_str().is_empty() { here.to_owned() } else { folder.to_owned() }
        };
        let there = folder.ancestors().map(or_here).find(|folder| folder.is_dir())?;
        let folder = there.canonicalize().ok()?;
        let meta = folder.metadata().ok()?;
        Some((folder, (meta.dev(), meta.ino())))
    };
    folders.iter().cloned().chain(parents).filter_map(identity).collect()
}
