//! The few operations on files that a buffer needs. Real files are one implementation; tests have
//! another, which can lose power.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A folder that holds the files of one buffer, and nothing else. Clones are the same folder.
pub trait Disk: Clone + Send + 'static {
    /// An open file of the folder.
    type File: DiskFile;
    /// Holds the folder for this process while it lives.
    type Lock: Send;

    /// Makes the folder, so that it survives a power cut.
    fn make(&self) -> io::Result<()>;
    /// Keeps other processes from writing here. [`io::ErrorKind::WouldBlock`] when one already does.
    fn lock(&self) -> io::Result<Self::Lock>;
    /// The names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file, for reading only.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to write into it.
    fn open_to_write(&self, name: &str) -> io::Result<Self::File>;
    /// Makes an empty file.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns once the names of the files would survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Reads what is there, up to the length of `bytes`. Less only at the end of the file.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// The length of the file in bytes.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Cuts the file.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Returns once the content would survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Whether it still has a name. Somebody may have removed it, and it would go on to take what is
    /// written to it.
    fn has_name(&self) -> bool;
    /// Another handle of the same file, which needs no name.
    fn again(&self) -> io::Result<Self>
    where
        Self: Sized;
}

/// A folder of real files.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path. It need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Folder {
        Folder(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What a process holds a lock on. It stays when the lock is given up.
pub const LOCK: &str = "lock";

impl Disk for Folder {
    type File = File;
    type Lock = File;

    fn make(&self) -> io::Result<()> {
        let missing = self.0.ancestors().take_while(|path| !path.exists());
        let parents: Vec<PathBuf> = missing.filter_map(|path| path.parent()).map(or_here).collect();
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.0)?;
        // One that was there may be open to all; that it cannot be closed is no reason not to use it.
        let _ = fs::set_permissions(&self.0, Permissions::from_mode(FOLDER_MODE));
        parents.iter().try_for_each(|parent| File::open(parent)?.sync_all())
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.0.join(LOCK);
        let file = no_links().create(true).truncate(false).write(true).open(&path);
        // On a file system that turned read-only, what is here can still be read and sent.
        let file = file.or_else(|error| no_links().read(true).open(&path).map_err(|_| error));
        let file = file.map_err(|error| plainly(error, LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let why = format!("another process has {} open", self.0.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string()));
        // No file of ours has a name that is not text.
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        no_links().read(true).open(self.0.join(name)).map_err(|error| plainly(error, name))
    }

    fn open_to_write(&self, name: &str) -> io::Result<File> {
        let file = no_links().read(true).write(true).open(self.0.join(name));
        file.map_err(|error| plainly(error, name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        no_links().read(true).write(true).create_new(true).open(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, mut bytes: &mut [u8], mut at: u64) -> io::Result<usize> {
        let wanted = bytes.len();
        while !bytes.is_empty() {
            match FileExt::read_at(self, bytes, at) {
                Ok(0) => break,
                Ok(count) => {
                    bytes = &mut bytes[count..];
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - bytes.len())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn has_name(&self) -> bool {
        // A disk that does not say has not said that it is gone.
        self.metadata().map_or(true, |found| found.nlink() > 0)
    }

    fn again(&self) -> io::Result<File> {
        self.try_clone()
    }
}

/// Messages are nobody's business but ours.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Whoever may write to the data folder must not have us write elsewhere by way of a link.
fn no_links() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE).custom_flags(libc::O_NOFOLLOW);
    options
}

/// The system calls a link that is not to be followed a loop.
fn plainly(error: io::Error, name: &str) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::other(format!(
            "`{name}` is a symbolic link, which is not followed; remove it"
        )),
        _ => error,
    }
}

fn or_here(parent: &Path) -> PathBuf {
    match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    }
}
