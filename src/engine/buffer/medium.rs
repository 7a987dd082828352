//! Where the files of buffers are: on the disk of the system, or on one in memory, which a test can fill up and
//! cut the power of.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
        let Some(mut disks) = self.state() else {
            return Medium::at(Place::Folder(Real::new(path)));
        };
        let InMemory { folders, faults } = &mut *disks;
        let new = || {
            let disk = MemoryDisk::default();
            disk.set(|of_it| *of_it = faults.clone());
            disk
        };
        Medium::at(Place::Memory(folders.entry(path).or_insert_with(new).clone()))
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
pub struct Medium {
    place: Place,
    written: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Place {
    Folder(Real),
    Memory(MemoryDisk),
}

impl Medium {
    fn at(place: Place) -> Medium {
        Medium { place, written: Arc::default() }
    }

    /// The bytes that were written into its files so far.
    pub fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn file(&self, file: AnyFile) -> MediumFile {
        MediumFile { file, written: Arc::clone(&self.written) }
    }
}

/// A file in it.
pub struct MediumFile {
    file: AnyFile,
    /// In all files of the folder.
    written: Arc<AtomicU64>,
}

enum AnyFile {
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
        match &self.place {
            Place::Folder(folder) => folder.make(),
            Place::Memory(disk) => disk.make(),
        }
    }

    fn lock(&self) -> io::Result<MediumLock> {
        match &self.place {
            Place::Folder(folder) => folder.lock().map(MediumLock::Folder),
            Place::Memory(disk) => disk.lock().map(MediumLock::Memory),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        match &self.place {
            Place::Folder(folder) => folder.list(),
            Place::Memory(disk) => disk.list(),
        }
    }

    fn open(&self, name: &str) -> io::Result<MediumFile> {
        Ok(self.file(match &self.place {
            Place::Folder(folder) => AnyFile::Folder(folder.open(name)?),
            Place::Memory(disk) => AnyFile::Memory(disk.open(name)?),
        }))
    }

    fn open_to_write(&self, name: &str) -> io::Result<MediumFile> {
        Ok(self.file(match &self.place {
            Place::Folder(folder) => AnyFile::Folder(folder.open_to_write(name)?),
            Place::Memory(disk) => AnyFile::Memory(disk.open_to_write(name)?),
        }))
    }

    fn create(&self, name: &str) -> io::Result<MediumFile> {
        Ok(self.file(match &self.place {
            Place::Folder(folder) => AnyFile::Folder(folder.create(name)?),
            Place::Memory(disk) => AnyFile::Memory(disk.create(name)?),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match &self.place {
            Place::Folder(folder) => folder.rename(from, to),
            Place::Memory(disk) => disk.rename(from, to),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match &self.place {
            Place::Folder(folder) => folder.remove(name),
            Place::Memory(disk) => disk.remove(name),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match &self.place {
            Place::Folder(folder) => folder.sync(),
            Place::Memory(disk) => disk.sync(),
        }
    }
}

impl DiskFile for MediumFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.file {
            AnyFile::Folder(file) => DiskFile::read_at(file, bytes, at),
            AnyFile::Memory(file) => file.read_at(bytes, at),
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match &self.file {
            AnyFile::Folder(file) => DiskFile::write_at(file, bytes, at),
            AnyFile::Memory(file) => file.write_at(bytes, at),
        }?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn size_bytes(&self) -> io::Result<u64> {
        match &self.file {
            AnyFile::Folder(file) => file.size_bytes(),
            AnyFile::Memory(file) => file.size_bytes(),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        match &self.file {
            AnyFile::Folder(file) => DiskFile::truncate(file, len),
            AnyFile::Memory(file) => file.truncate(len),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match &self.file {
            AnyFile::Folder(file) => DiskFile::sync(file),
            AnyFile::Memory(file) => file.sync(),
        }
    }

    fn has_name(&self) -> bool {
        match &self.file {
            AnyFile::Folder(file) => file.has_name(),
            AnyFile::Memory(file) => file.has_name(),
        }
    }

    fn again(&self) -> io::Result<MediumFile> {
        let file = match &self.file {
            AnyFile::Folder(file) => AnyFile::Folder(file.again()?),
            AnyFile::Memory(file) => AnyFile::Memory(file.again()?),
        };
        Ok(MediumFile { file, written: Arc::clone(&self.written) })
    }
}
