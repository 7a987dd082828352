//! A real folder on a disk that breaks as a test tells it.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::disk::{Disk, DiskFile, Folder, LOCK};

/// How a disk is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// What is there can be read, and nothing is written.
    TakesNothing,
    /// Nothing can be read either.
    Gone,
}

/// What is below these folders is broken.
static BROKEN: Mutex<BTreeMap<PathBuf, Breakage>> = Mutex::new(BTreeMap::new());

/// From now on everything below a folder is broken, or works again.
pub fn set_breakage(below: &Path, breakage: Option<Breakage>) {
    match breakage {
        Some(breakage) => broken().insert(below.to_owned(), breakage),
        None => broken().remove(below),
    };
}

fn broken() -> MutexGuard<'static, BTreeMap<PathBuf, Breakage>> {
    BROKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that may be on such a disk.
#[derive(Clone)]
pub struct Breakable(Folder);

/// A file in one.
pub struct BreakableFile {
    file: File,
    folder: Breakable,
}

impl Breakable {
    pub fn new(path: impl Into<PathBuf>) -> Breakable {
        Breakable(Folder::new(path))
    }

    fn breakage(&self) -> Option<Breakage> {
        let broken = broken();
        let mut above = broken.iter().filter(|(below, _)| self.0.path().starts_with(below));
        above.next().map(|(_, breakage)| *breakage)
    }

    fn reads(&self) -> io::Result<()> {
        match self.breakage() {
            Some(Breakage::Gone) => Err(io::Error::from_raw_os_error(libc::EIO)),
            Some(Breakage::TakesNothing) | None => Ok(()),
        }
    }

    fn writes(&self) -> io::Result<()> {
        match self.breakage() {
            Some(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
            None => Ok(()),
        }
    }

    fn file(&self, file: io::Result<File>) -> io::Result<BreakableFile> {
        Ok(BreakableFile { file: file?, folder: self.clone() })
    }
}

impl Disk for Breakable {
    type File = BreakableFile;
    type Lock = File;

    fn make(&self) -> io::Result<()> {
        if self.0.path().exists() {
            self.reads()?
        } else {
            self.writes()?
        }
        self.0.make()
    }

    fn lock(&self) -> io::Result<File> {
        if self.0.path().join(LOCK).exists() {
            self.reads()?
        } else {
            self.writes()?
        }
        self.0.lock()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.reads()?;
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<BreakableFile> {
        self.reads()?;
        self.file(self.0.open(name))
    }

    fn open_to_write(&self, name: &str) -> io::Result<BreakableFile> {
        self.writes()?;
        self.file(self.0.open_to_write(name))
    }

    fn create(&self, name: &str) -> io::Result<BreakableFile> {
        self.writes()?;
        self.file(self.0.create(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.writes()?;
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.writes()?;
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.writes()?;
        self.0.sync()
    }
}

impl DiskFile for BreakableFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.folder.reads()?;
        DiskFile::read_at(&self.file, bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.folder.writes()?;
        DiskFile::write_at(&self.file, bytes, at)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        self.folder.reads()?;
        self.file.size_bytes()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.folder.writes()?;
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.folder.writes()?;
        DiskFile::sync(&self.file)
    }

    fn has_name(&self) -> bool {
        self.file.has_name()
    }

    fn again(&self) -> io::Result<BreakableFile> {
        self.folder.file(self.file.again())
    }
}
