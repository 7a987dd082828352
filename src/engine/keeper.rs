//! Keeps what a transform remembers: for its successor, for after a panic, and with `state: persist`
//! on disk.
//!
//! On disk the order matters. A message is acknowledged only once the state that has it in it is
//! safe; so its promise waits here until then, and so do those that the node holds, which the disk
//! takes over. To spare flash, states are written now and then, many messages at a time.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forebay_sdk::{Delivery, Held, Saved, beside, replace_file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    errors::ErrorKind,
    status::{Count, Status},
};

/// The most promises that wait for a state to be written. Then the node takes nothing more.
const MOST_OWED: usize = 10_000;
/// So many promises are worth a write before its time: about what a source has under way.
pub const WORTH_A_WRITE: usize = 500;
/// How soon a state is written when a source waits to hear of it. Sources have a window, and what is
/// in it waits.
const SOONEST: Duration = Duration::from_secs(1);
/// What a second is worth of flash, so that a large state is written less often.
const BYTES_A_SECOND: usize = 4 << 10;
/// The largest state that is written.
const MOST_BYTES: usize = 4 << 20;
/// The name of the file in a node's folder.
const FILE: &str = "state.json";

/// What one node remembers.
pub struct Keeper {
    status: Arc<Status>,
    kept: Mutex<Kept>,
    /// Told when a write ended.
    written: Notify,
}

#[derive(Default)]
struct Kept {
    latest: Option<Saved>,
    /// Promises of messages that are in the state, and that no disk has yet.
    owed: Vec<Delivery>,
    /// The node's folder, when its state is written.
    folder: Option<PathBuf>,
    is_writing: bool,
    /// What is on disk, so that nothing is written twice.
    on_disk: Option<(u32, Value)>,
    /// How long it was when it was written.
    bytes: usize,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    /// Of the node type.
    version: u32,
    state: Value,
}

impl Keeper {
    pub fn new(status: Arc<Status>) -> Keeper {
        Keeper { status, kept: Mutex::default(), written: Notify::new() }
    }

    /// What the node remembered last.
    pub fn remembered(&self) -> Option<Saved> {
        self.kept().latest.clone()
    }

    /// What the node remembers now. None when it remembers nothing, or when it must be asked.
    pub fn remember(&self, saved: Option<Saved>) {
        let before = std::mem::replace(&mut self.kept().latest, saved);
        // Promises that were dropped meanwhile break outside of the lock.
        drop(before);
    }

    /// Keeps the state in memory only. What waited for the disk waits no more.
    pub fn keep_in_memory(&self) {
        let mut kept = self.kept();
        kept.folder = None;
        let owed = std::mem::take(&mut kept.owed);
        drop(kept);
        Delivery::settle_all(owed);
    }

    /// Keeps the state in a file of this folder too, and reads what is there unless more is known.
    pub async fn keep_on_disk(&self, folder: &Path) {
        let is_new = self.kept().folder.replace(folder.to_owned()).is_none();
        if !is_new || self.kept().latest.is_some() {
            return;
        }
        let folder = folder.to_owned();
        let read = beside(move || read(&folder)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(Some(OnDisk { version, state })) => {
                let mut kept = self.kept();
                kept.on_disk = Some((version, state.clone()));
                kept.latest = Some(Saved { version, value: state, held: Vec::new() });
            }
            Ok(None) => (),
            Err(error) => self.status.trouble(&anyhow::Error::new(error).context(
                "reading what the node remembered; it begins anew, and the file is replaced",
            )),
        }
    }

    /// Whether it is written.
    pub fn is_on_disk(&self) -> bool {
        self.kept().folder.is_some()
    }

    /// Keeps a promise back until the state that has its message in it is safe.
    pub fn owe(&self, delivery: Option<Delivery>) {
        self.kept().owed.extend(delivery);
    }

    /// How long a source that waits for a write is to wait.
    pub fn pause(&self) -> Duration {
        let seconds = self.kept().bytes / BYTES_A_SECOND;
        SOONEST.max(Duration::from_secs(seconds as u64))
    }

    /// How many promises wait.
    pub fn owed(&self) -> usize {
        self.kept().owed.len()
    }

    /// Whether more may wait.
    pub fn has_room(&self) -> bool {
        self.owed() < MOST_OWED
    }

    /// Whether there is something that is not on disk, as far as is known.
    pub fn is_behind(&self) -> bool {
        let kept = self.kept();
        kept.is_writing || !kept.owed.is_empty()
    }

    /// Writes a state, beside the nodes. What is being written must have ended.
    pub fn write(self: &Arc<Self>, saved: Option<Saved>) {
        let mut kept = self.kept();
        debug_assert!(!kept.is_writing, "one write after the other");
        let owed = std::mem::take(&mut kept.owed);
        let (Some(folder), Some(saved)) = (kept.folder.clone(), saved) else {
            drop(kept);
            return Delivery::settle_all(owed);
        };
        kept.latest = Some(saved.clone());
        let is_known = kept
            .on_disk
            .as_ref()
            .is_some_and(|(version, value)| (*version, value) == (saved.version, &saved.value));
        if is_known {
            drop(kept);
            return settle(owed, saved.held);
        }
        kept.is_writing = true;
        drop(kept);
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            let (version, value) = (saved.version, saved.value.clone());
            let state = OnDisk { version, state: saved.value };
            let wrote = beside(move || write(&folder, &state)).await;
            let wrote = wrote.unwrap_or_else(|error| Err(io::Error::other(error)));
            keeper.wrote(wrote, (version, value), owed, saved.held);
        });
    }

    fn wrote(
        &self,
        wrote: io::Result<usize>,
        state: (u32, Value),
        owed: Vec<Delivery>,
        held: Vec<Held>,
    ) {
        let mut kept = self.kept();
        kept.is_writing = false;
        match wrote {
            Ok(bytes) => {
                kept.on_disk = Some(state);
                kept.bytes = bytes;
                drop(kept);
                self.status.add_many(Count::BytesToDisk, bytes as u64);
                self.status.disk_works();
                settle(owed, held);
            }
            // It will not do next time either, and sources must not wait for that.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let all = std::mem::take(&mut kept.owed);
                drop(kept);
                Delivery::settle_all(owed.into_iter().chain(all));
                let error = anyhow::Error::new(error).context(
                    "what the node remembers is not written, and a restart goes on with what was \
                     written last; have it remember less",
                );
                self.status.unheard(ErrorKind::Other, &error);
            }
            // It was switched back to memory meanwhile.
            Err(_) if kept.folder.is_none() => {
                drop(kept);
                Delivery::settle_all(owed);
            }
            Err(error) => {
                // Those that came meanwhile are younger.
                let younger = std::mem::replace(&mut kept.owed, owed);
                kept.owed.extend(younger);
                drop(kept);
                self.status.disk_failed(&format!("writing what the node remembers: {error}"));
            }
        }
        self.written.notify_waiters();
    }

    /// Writes what is there, once what is being written is done. Returns when it is safe, or when the
    /// disk has refused it.
    pub async fn finish(self: &Arc<Self>) {
        if !self.is_on_disk() {
            return;
        }
        self.rest().await;
        let latest = self.remembered();
        self.write(latest);
        self.rest().await;
    }

    /// Resolves when nothing is being written.
    pub async fn rest(&self) {
        loop {
            let mut told = std::pin::pin!(self.written.notified());
            told.as_mut().enable();
            if !self.kept().is_writing {
                return;
            }
            told.await;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change above leaves it whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state is safe: the disk answers for what is in it.
fn settle(owed: Vec<Delivery>, held: Vec<Held>) {
    Delivery::settle_all(owed);
    held.into_iter().for_each(Held::settle);
}

fn read(folder: &Path) -> io::Result<Option<OnDisk>> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(folder.join(FILE));
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// The old file is there until the new one is whole and safe. Returns its length.
fn write(folder: &Path, state: &OnDisk) -> io::Result<usize> {
    let bytes = serde_json::to_vec(state)?;
    if bytes.len() > MOST_BYTES {
        let size = bytes.len();
        let why = format!("{size} bytes are more than {MOST_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    replace_file(folder, FILE, &bytes)?;
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use forebay_sdk::Outcome;

    use super::*;

    /// Owes a message, and has the state written.
    async fn begin(folder: &Path, state: &str) -> (Arc<Keeper>, forebay_sdk::Receipt) {
        let keeper = Arc::new(Keeper::new(Arc::new(Status::new("a/count".into()))));
        keeper.keep_on_disk(folder).await;
        let (delivery, receipt) = Delivery::track();
        keeper.owe(Some(delivery));
        keeper.write(Some(Saved::of(1, &state).unwrap()));
        (keeper, receipt)
    }

    #[tokio::test]
    async fn a_state_that_is_too_large_to_be_written_does_not_hold_up_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, receipt) = begin(folder.path(), &"x".repeat(MOST_BYTES)).await;
        keeper.rest().await;
        assert!(!keeper.is_behind());
        assert_eq!(receipt.await, Outcome::Delivered);
    }

    #[tokio::test]
    async fn what_a_node_remembers_is_for_its_owner_alone_and_no_link_is_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("nodes/a/count");
        let (keeper, _receipt) = begin(&folder, "x").await;
        keeper.rest().await;
        for part in folder.ancestors().take(3) {
            let mode = fs::metadata(part).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", part.display());
        }
        let elsewhere = data.path().join("elsewhere");
        fs::rename(folder.join(FILE), &elsewhere).unwrap();
        symlink(&elsewhere, folder.join(FILE)).unwrap();
        let after = Keeper::new(Arc::new(Status::new("a/count".into())));
        after.keep_on_disk(&folder).await;
        assert!(after.remembered().is_none());
    }

    #[tokio::test]
    async fn a_write_that_fails_while_the_state_goes_back_to_memory_keeps_no_promise_open() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        fs::write(&in_the_way, "not a folder").unwrap();
        let (keeper, receipt) = begin(&in_the_way.join("count"), "x").await;
        keeper.keep_in_memory();
        keeper.rest().await;
        assert_eq!(receipt.await, Outcome::Delivered);
    }
}
