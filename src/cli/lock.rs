//! A data folder is one program's: two that run the same nodes read every device twice, and throw each
//! other off the broker.
//!
//! The lock is the system's and ends with the process, however it ends, so none is ever left behind. What
//! stands in the file only says who has it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use crate::warnings::{DATA_FOLDER_NOT_LOCKED, DATA_FOLDER_NOT_WRITABLE};
use anyhow::{Context, bail};
use forebay_sdk::Timestamp;
use tokio::time::sleep;
use tracing::{error, warn};

/// Holds the data folder as long as it lives.
pub(super) struct Lock {
    _file: Option<File>,
}

const NAME: &str = "lock";
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Whoever ends just now, or only asks who holds the folder, is waited for: this often.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the data folder, or says who has it. One that cannot be locked is no reason not to run.
pub(super) async fn take(data: &Path) -> anyhow::Result<Lock> {
    for _ in 0..TRIES {
        match try_take(data) {
            Ok(file) => return Ok(Lock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            Err(TryLockError::Error(error)) => {
                match why_not(&error, data) {
                    Some(why) => {
                        error!(rule = %DATA_FOLDER_NOT_WRITABLE, "{why}: nothing survives a restart, and nobody can ask how it is")
                    }
                    None => {
                        let data = data.display();
                        warn!(rule = %DATA_FOLDER_NOT_LOCKED, %error, "cannot lock {data}; take care that no other forebay uses it");
                    }
                }
                return Ok(Lock { _file: None });
            }
        }
    }
    let holder = holder(data).unwrap_or_else(|| "another forebay".to_owned());
    bail!(
        "{} is in use: {holder} runs on it; stop that one, or give this one a data folder of its own (--data)",
        data.display()
    )
}

/// Why nothing can be written there, as whoever mounted it has to know. None when it is something else.
fn why_not(error: &io::Error, data: &Path) -> Option<String> {
    let shown = data.display();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Some(format!(
            "cannot write to {shown}, which is on a file system that is mounted read-only; \
             mount a folder or a volume there"
        )),
        io::ErrorKind::PermissionDenied => {
            // Where there is no such folder yet, the one that it would be made in.
            let owner = data.ancestors().find_map(|folder| fs::metadata(folder).ok())?.uid();
            let user = rustix::process::geteuid();
            Some(format!(
                "cannot write to {shown}, which belongs to user {owner} while this is user {user}; \
                 `chown {user}` it, or run as user {owner}"
            ))
        }
        _ => None,
    }
}

/// The same at once, for what must not be done while one runs on it.
pub(super) fn take_now(data: &Path) -> anyhow::Result<Lock> {
    match try_take(data) {
        Ok(file) => Ok(Lock { _file: Some(file) }),
        Err(TryLockError::WouldBlock) => {
            let holder = holder(data).unwrap_or_else(|| "another forebay".to_owned());
            bail!("{} is in use: {holder} runs on it; stop that one first", data.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("locking {}", data.display()))
        }
    }
}

/// Who holds the data folder. None when nobody does.
pub(super) fn holder(data: &Path) -> Option<String> {
    const MOST_BYTES: u64 = 200;
    let file = File::open(data.join(NAME)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut said = String::new();
    let read = file.take(MOST_BYTES).read_to_string(&mut said);
    let is_said = |c: &char| !c.is_control();
    let said: String = said.chars().filter(is_said).collect();
    Some(if read.is_err() || said.is_empty() { "another forebay".to_owned() } else { said })
}

fn try_take(data: &Path) -> Result<File, TryLockError> {
    let open = || -> io::Result<File> {
        make(data)?;
        let path = data.join(NAME);
        // It is written to, maybe as root.
        if path.is_symlink() {
            fs::remove_file(&path)?;
        }
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
    };
    let mut file = open().map_err(TryLockError::Error)?;
    file.try_lock()?;
    let mut say = || {
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(this_process().as_bytes())
    };
    // A full disk: the lock holds all the same, and only the name is missing.
    let _ = say();
    Ok(file)
}

/// Payloads and what was accepted are nobody else's to read. A folder that is there keeps the rights that
/// somebody gave it.
fn make(data: &Path) -> io::Result<()> {
    if let Some(parent) = data.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(data) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && data.is_dir() => Ok(()),
        made => made,
    }
}

/// This process, as one on the same machine or in the next container would look for it.
fn this_process() -> String {
    let pid = std::process::id();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let marks = ["/.dockerenv", "/run/.containerenv"];
    let is_contained = marks.into_iter().any(|mark| Path::new(mark).exists());
    let place = if is_contained { "in container" } else { "on" };
    let since = Timestamp::now().to_rfc3339();
    format!("process {pid} {place} {}, since {since},", host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_one_hears_who_has_the_folder() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(holder(data.path()), None);
        let lock = take(data.path()).await.unwrap();
        let said = format!("process {} ", std::process::id());
        assert!(holder(data.path()).unwrap().starts_with(&said));
        let refused = take(data.path()).await.err().unwrap().to_string();
        assert!(refused.contains(&format!("is in use: {said}")), "{refused}");
        drop(lock);
        assert_eq!(holder(data.path()), None);
        take(data.path()).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_power_cut_left_is_in_nobodys_way() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(NAME), "process 1 on old-name, since then, and more").unwrap();
        assert_eq!(holder(data.path()), None);
        let _lock = take(data.path()).await.unwrap();
        assert!(holder(data.path()).unwrap().ends_with("Z,"), "nothing of the old text is left");
    }

    #[tokio::test]
    async fn anybody_could_read_the_data_folder() {
        let data = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let fresh = data.path().join("more/data");
        let _lock = take(&fresh).await.unwrap();
        assert_eq!((mode(&fresh), mode(&fresh.join(NAME))), (0o700, 0o600));
        // As an older version left it.
        fs::write(data.path().join(NAME), "").unwrap();
        fs::set_permissions(data.path().join(NAME), Permissions::from_mode(0o644)).unwrap();
        let _lock = take(data.path()).await.unwrap();
        assert_eq!(mode(&data.path().join(NAME)), 0o600);
    }

    #[tokio::test]
    async fn a_link_in_its_place_is_not_followed() {
        let data = tempfile::tempdir().unwrap();
        let elsewhere = data.path().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.path().join(NAME)).unwrap();
        let _lock = take(data.path()).await.unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_locked_is_no_reason_not_to_run() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("file"), "").unwrap();
        take(&data.path().join("file/data")).await.unwrap();
    }
}
