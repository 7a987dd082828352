//! A disk in memory, for tests: those of users, too. It loses power, fills up and breaks as it is told, and
//! remembers what a real disk would have: what was synced, and of the rest whatever chance decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::disk::{Disk, DiskFile, LOCK};

/// A handle; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Content>,
    safe_names: BTreeMap<String, u64>,
    /// What happened to the names since they were synced.
    pending_names: Vec<BTreeMap<String, u64>>,
    next_file: u64,
    is_locked: bool,
    faults: Faults,
    operations: u64,
}

#[derive(Clone, Default)]
struct Content {
    /// As programs see it.
    bytes: Vec<u8>,
    /// As it is after a power cut.
    safe: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// With the operation of this number the power is gone; it is not done, or by half.
    pub power_cut_at: Option<u64>,
    /// So many bytes fit in all files together.
    pub space: Option<usize>,
    /// So many syncs of files fail. As on Linux, what such a sync was to make safe never is, and the
    /// next one does not say so.
    pub failing_syncs: u32,
    /// So many writes fail, by half.
    pub failing_writes: u32,
    /// Nothing can be changed.
    pub read_only: bool,
    /// These blocks of 4,096 bytes of each file cannot be read.
    pub unreadable: BTreeSet<u64>,
    /// Nothing can be read.
    pub gone: bool,
}

pub struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
}

pub struct MemoryLock(MemoryDisk);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.state().is_locked = false;
    }
}

impl MemoryDisk {
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
    }

    /// The disk as it is found after the power was cut now.
    pub fn after_power_cut(&self, chance: &mut fastrand::Rng) -> MemoryDisk {
        let state = self.state();
        // Names are journaled: of what happened to them, a first part survives.
        let survived = chance.usize(..=state.pending_names.len());
        let names = match survived {
            0 => state.safe_names.clone(),
            survived => state.pending_names[survived - 1].clone(),
        };
        let unit = if chance.bool() { 512 } else { 4096 };
        let often = [0, 10, 50, 90, 100][chance.usize(..5)];
        let mut files = BTreeMap::new();
        for id in names.values() {
            let content = &state.files[id];
            let mut bytes = content.safe.clone();
            for change in &content.pending {
                change.apply_partly(&mut bytes, unit, || chance.u32(..100) < often);
            }
            files.insert(*id, Content { bytes: bytes.clone(), safe: bytes, pending: Vec::new() });
        }
        let next_file = state.next_file;
        let safe_names = names.clone();
        let state = State { names, files, safe_names, next_file, ..State::default() };
        MemoryDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation that changes something, or refuses it.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.check_alive()?;
        state.operations += 1;
        if state.faults.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(state)
    }

    fn file(&self, name: &str) -> io::Result<MemoryFile> {
        let state = self.state();
        state.check_alive()?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { disk: self.clone(), id })
    }
}

#[cfg(test)]
impl MemoryDisk {
    /// How many operations there were that change something.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The disk as a process finds it that starts after another was killed.
    pub fn after_kill(&self) -> MemoryDisk {
        let mut state = self.state().clone();
        (state.is_locked, state.faults, state.operations) = Default::default();
        MemoryDisk(Arc::new(Mutex::new(state)))
    }

    /// A copy of everything, so that a test can damage it and start again.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, id)| (name.clone(), state.files[id].bytes.clone())).collect()
    }

    /// A disk with these files.
    pub fn of(image: &BTreeMap<String, Vec<u8>>) -> MemoryDisk {
        let mut state = State::default();
        for (name, bytes) in image {
            let id = state.next_file;
            state.next_file += 1;
            state.names.insert(name.clone(), id);
            let content =
                Content { bytes: bytes.clone(), safe: bytes.clone(), pending: Vec::new() };
            state.files.insert(id, content);
        }
        state.safe_names = state.names.clone();
        MemoryDisk(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn is_dead(&self) -> bool {
        self.faults.power_cut_at.is_some_and(|at| self.operations >= at)
    }

    fn check_alive(&self) -> io::Result<()> {
        match self.is_dead() || self.faults.gone {
            true => Err(io::Error::other("the disk is gone")),
            false => Ok(()),
        }
    }

    fn rename(&mut self, change: impl FnOnce(&mut BTreeMap<String, u64>)) -> io::Result<()> {
        change(&mut self.names);
        self.pending_names.push(self.names.clone());
        self.check_alive()
    }
}

impl Change {
    /// Does what survived of it, in units of the disk.
    fn apply_partly(&self, file: &mut Vec<u8>, unit: usize, mut survives: impl FnMut() -> bool) {
        match self {
            Change::Truncate(len) => {
                if survives() {
                    file.truncate(*len);
                }
            }
            Change::Write { at, bytes } => {
                let mut done = 0;
                while done < bytes.len() {
                    let place = at + done;
                    let end = bytes.len().min(done + unit - place % unit);
                    if survives() {
                        write(file, place, &bytes[done..end]);
                    }
                    done = end;
                }
            }
        }
    }
}

fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn make(&self) -> io::Result<()> {
        self.state().check_alive()
    }

    fn lock(&self) -> io::Result<MemoryLock> {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        Ok(MemoryLock(self.clone()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        state.check_alive()?;
        Ok(state.names.keys().cloned().chain([LOCK.to_owned()]).collect())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.file(name)
    }

    fn open_to_write(&self, name: &str) -> io::Result<MemoryFile> {
        let read_only = self.state().faults.read_only;
        match read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => self.file(name),
        }
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut state = self.change()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, Content::default());
        state.rename(|names| _ = names.insert(name.to_owned(), id))?;
        Ok(MemoryFile { disk: self.clone(), id })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change()?;
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.rename(|names| {
            names.remove(from);
            names.insert(to.to_owned(), id);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.change()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(|names| _ = names.remove(name))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.change()?;
        state.check_alive()?;
        state.safe_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.disk.state();
        state.check_alive()?;
        let file = &state.files[&self.id].bytes;
        let rest = file.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        let blocks = at / 4096..(at + count as u64).div_ceil(4096);
        if blocks.into_iter().any(|block| state.faults.unreadable.contains(&block)) {
            return Err(io::Error::other("a block cannot be read"));
        }
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.change()?;
        let at = at as usize;
        let used: usize = state.names.values().map(|id| state.files[id].bytes.len()).sum();
        let grows = (at + bytes.len()).saturating_sub(state.files[&self.id].bytes.len());
        let mut outcome = Ok(());
        let mut count = bytes.len();
        if let Some(over) = state.faults.space.and_then(|space| (used + grows).checked_sub(space))
            && over > 0
            && grows > 0
        {
            count -= over.min(grows);
            outcome = Err(io::ErrorKind::StorageFull.into());
        }
        if state.faults.failing_writes > 0 {
            state.faults.failing_writes -= 1;
            count /= 2;
            outcome = Err(io::Error::other("a write failed"));
        }
        let bytes = bytes[..count].to_vec();
        let Some(content) = state.files.get_mut(&self.id) else { return outcome };
        write(&mut content.bytes, at, &bytes);
        content.pending.push(Change::Write { at, bytes });
        state.check_alive()?;
        outcome
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.check_alive()?;
        Ok(state.files[&self.id].bytes.len() as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.change()?;
        if let Some(content) = state.files.get_mut(&self.id) {
            content.bytes.truncate(len as usize);
            content.pending.push(Change::Truncate(len as usize));
        }
        state.check_alive()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.change()?;
        state.check_alive()?;
        let fails = state.faults.failing_syncs > 0;
        state.faults.failing_syncs = state.faults.failing_syncs.saturating_sub(1);
        let Some(content) = state.files.get_mut(&self.id) else { return Ok(()) };
        let pending = std::mem::take(&mut content.pending);
        let mut blocks = 0;
        for change in pending {
            change.apply_partly(&mut content.safe, 512, || {
                blocks += 1;
                !fails || blocks % 2 == 0
            });
        }
        match fails {
            true => Err(io::Error::other("a sync failed")),
            false => Ok(()),
        }
    }

    fn has_name(&self) -> bool {
        self.disk.state().names.values().any(|id| *id == self.id)
    }

    fn again(&self) -> io::Result<MemoryFile> {
        Ok(MemoryFile { disk: self.disk.clone(), id: self.id })
    }
}
