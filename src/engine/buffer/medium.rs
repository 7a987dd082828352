//! Where the files of buffers are: on the disk of the system, or on one in memory, which a test can fill up and
//! cut the power of.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    disk::{Disk, DiskFile},
    memory::{Faults, MemoryDisk, MemoryFile, MemoryLock},
};

#[cfg(test)]
use super::breakable::Breakable as Real;
#[cfg(not(test))]
use super::disk::Folder as Real;

/// All disks. Cloning shares them.
#[derive(Clone, Default)]
pub struct Disks(Option<Arc<Mutex<InMemory>>>);

#[derive(Default)]
struct InMemory {
    folders: BTreeMap<PathBuf, MemoryDisk>,
    /// Also of those that come later.
    faults: Faults,
}

impl Disks {
    /// Those in memory, without a file yet.
    pub fn in_memory() -> Disks {
        Disks(Some(Arc::default()))
    }

    /// The folder of a buffer.
    pub(crate) fn folder(&self, path: PathBuf) -> Medium {
        let Some(mut disks) = self.state() else { return Medium::Folder(Real::new(path)) };
        let InMemory { folders, faults } = &mut *disks;
        let new = || {
            let disk = MemoryDisk::default();
            disk.set(|of_it| *of_it = faults.clone());
            disk
        };
        Medium::Memory(folders.entry(path).or_insert_with(new).clone())
    }

    /// Whether there is a folder of a buffer.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.state().map_or_else(|| path.is_dir(), |disks| disks.folders.contains_key(path))
    }

    /// What goes wrong in memory from now on. Nothing else changes with the disks of the system.
    pub fn set(&self, change: impl Fn(&mut Faults)) {
        let Some(mut disks) = self.state() else { return };
        change(&mut disks.faults);
        disks.folders.values().for_each(|disk| disk.set(&change));
    }

    /// The power is gone: whoever has a file open writes no more, and what was not synced is there or not, as chance
    /// has it.
    pub fn cut_power(&self, chance: &mut fastrand::Rng) {
        let Some(mut disks) = self.state() else { return };
        let InMemory { folders, faults } = &mut *disks;
        for disk in folders.values_mut() {
            let after = disk.after_power_cut(chance);
            disk.set(|faults| faults.gone = true);
            after.set(|of_it| *of_it = faults.clone());
            *disk = after;
        }
    }

    fn state(&self) -> Option<MutexGuard<'_, InMemory>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The folder of one buffer.
#[derive(Clone)]
pub enum Medium {
    Folder(Real),
    Memory(MemoryDisk),
}

/// A file in it.
pub enum MediumFile {
    Folder(<Real as Disk>::File),
    Memory(MemoryFile),
}

/// What is held while it is written to.
#[expect(dead_code, reason = "held, and never looked at")]
pub enum MediumLock {
    Folder(<Real as Disk>::Lock),
    Memory(MemoryLock),
}

impl Disk for Medium {
    type File = MediumFile;
    type Lock = MediumLock;

    fn make(&self) -> io::Result<()> {
        match self {
            Medium::Folder(folder) => folder.make(),
            Medium::Memory(disk) => disk.make(),
        }
    }

    fn lock(&self) -> io::Result<MediumLock> {
        match self {
            Medium::Folder(folder) => folder.lock().map(MediumLock::Folder),
            Medium::Memory(disk) => disk.lock().map(MediumLock::Memory),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        match self {
            Medium::Folder(folder) => folder.list(),
            Medium::Memory(disk) => disk.list(),
        }
    }

    fn open(&self, name: &str) -> io::Result<MediumFile> {
        match self {
            Medium::Folder(folder) => folder.open(name).map(MediumFile::Folder),
            Medium::Memory(disk) => disk.open(name).map(MediumFile::Memory),
        }
    }

    fn open_to_write(&self, name: &str) -> io::Result<MediumFile> {
        match self {
            Medium::Folder(folder) => folder.open_to_write(name).map(MediumFile::Folder),
            Medium::Memory(disk) => disk.open_to_write(name).map(MediumFile::Memory),
        }
    }

    fn create(&self, name: &str) -> io::Result<MediumFile> {
        match self {
            Medium::Folder(folder) => folder.create(name).map(MediumFile::Folder),
            Medium::Memory(disk) => disk.create(name).map(MediumFile::Memory),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match self {
            Medium::Folder(folder) => folder.rename(from, to),
            Medium::Memory(disk) => disk.rename(from, to),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self {
            Medium::Folder(folder) => folder.remove(name),
            Medium::Memory(disk) => disk.remove(name),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Medium::Folder(folder) => folder.sync(),
            Medium::Memory(disk) => disk.sync(),
        }
    }
}

impl DiskFile for MediumFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            MediumFile::Folder(file) => DiskFile::read_at(file, bytes, at),
            MediumFile::Memory(file) => file.read_at(bytes, at),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            MediumFile::Folder(file) => DiskFile::write_at(file, bytes, at),
            MediumFile::Memory(file) => file.write_at(bytes, at),
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        match self {
            MediumFile::Folder(file) => file.size_bytes(),
            MediumFile::Memory(file) => file.size_bytes(),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        match self {
            MediumFile::Folder(file) => DiskFile::truncate(file, len),
            MediumFile::Memory(file) => file.truncate(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            MediumFile::Folder(file) => DiskFile::sync(file),
            MediumFile::Memory(file) => file.sync(),
        }
    }

    fn has_name(&self) -> bool {
        match self {
            MediumFile::Folder(file) => file.has_name(),
            MediumFile::Memory(file) => file.has_name(),
        }
    }

    fn again(&self) -> io::Result<MediumFile> {
        match self {
            MediumFile::Folder(file) => file.again().map(MediumFile::Folder),
            MediumFile::Memory(file) => file.again().map(MediumFile::Memory),
        }
    }
}
