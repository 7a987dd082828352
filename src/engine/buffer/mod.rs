//! A buffer on the disk: messages in a log until they are acknowledged.
//!
//! Our own, because the need is exactly a segmented log (append a batch, acknowledge by number, drop
//! the oldest part, one sync for many messages, a bound in bytes), and nothing else is that: redb,
//! fjall and SQLite write two to three times as much to flash for it, `queue-file` and
//! `segment-buffer` cannot drop the oldest part or sync each commit cheaply, and others are not kept
//! up. What is here is small enough to be tested at every byte.
//!
//! # Format, version 1
//!
//! A folder for each buffer, `DATA/buffers/PIPELINE/NODE/` (see [`folder_of`]), with
//!
//! - `lock`: empty; a process that writes holds a lock on it.
//! - `cursor`: what was acknowledged, in two slots of 4,096 bytes. The valid one with the higher
//!   generation counts. A slot: magic `FBCURSR` and the version, length (u16), checksum (u32), then
//!   generation, the floor below which everything is acknowledged, the number of ranges above it,
//!   for each its distance from the one before and its length, and the number below which all that
//!   was appended is safe: what is not there below it was lost.
//! - `doubt`, for sinks that must not repeat: see `doubt.rs`.
//! - `rescue`, at times: a segment that is not whole yet, to be ignored.
//! - segments, named `NUMBER-FIRST-SALT.log`: their number, the least sequence number in them and a
//!   random salt, the latter two in hexadecimal. The order of the numbers is the order of the
//!   messages. Sequence numbers from the `FIRST` of a later segment on are not valid in an earlier.
//!
//! Numbers are little-endian, or of variable length: seven bits a byte, the lowest first, the eighth
//! bit says that more follow. Signed ones have their sign in the lowest bit. Times are nanoseconds
//! since 1970, those of arrivals milliseconds. Checksums are CRC-32 (IEEE); in segments they are
//! XORed with the salt, so that what stood in a file before it was used anew, or what somebody hides
//! in a payload, is never valid.
//!
//! A segment is a header, then batches, then four zero bytes, then what happens to be there. The
//! header: magic `FOREBAY` and the version, length (u16), checksum, then the id of the boot (16
//! bytes) and when that boot was by a clock that was not set, then, of the segment before: its
//! number, length, whether it has a newest arrival and that, and its ranges of sequence numbers.
//!
//! A batch is what one append wrote: the mark `fb 62 61 79`, length (u16) and checksum of its
//! header; the header: first sequence number, how many were left out before it, number of records,
//! bytes of records, time of the first, time of arrival, then up to 64 topics and up to 64 sources
//! that its records share; then the records; and behind more than one, the header's mark, length,
//! checksum and content once more, with `7a` as the last byte of the mark.
//!
//! A record: one byte `101tsmkk`, length, checksum (of all but itself), place in the batch, time since the batch's
//! first, topic (unless `t`: it is the batch's first; else its place from 1, or 0 and the text), source
//! (unless `s`; else 1 for none, its place from 2, or 0 and the text), the other entries of `meta` as
//! JSON (if `m`), and the payload to the end; `kk` is 0 for JSON, 1 for text, 2 for bytes.
//!
//! So one damaged byte costs the record that it is in, and no more: a batch whose header is damaged
//! is read by the copy behind it. In a segment's header it costs the correction of times from before
//! the clock was set.
//!
//! Folders are of mode 0700 and files of mode 0600, and no link in place of a file is followed.

#[cfg(test)]
mod breakable;
mod cursor;
mod disk;
mod doubt;
mod log;
mod medium;
mod memory;
mod ranges;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[cfg(test)]
pub(super) use self::{
    breakable::{Breakage, set_breakage},
    memory::MemoryDisk,
};
pub use self::{
    disk::{Disk, DiskFile, Folder},
    log::{Limits, Log, Repairs, Stored},
    medium::Disks,
    memory::Faults,
    record::Batch,
};
pub(super) use self::{medium::Medium, ranges::Ranges};
use forebay_sdk::clock;

/// The messages of a buffer that perhaps another process writes. Takes no lock and changes nothing;
/// what is acknowledged meanwhile may be missing or shown.
pub struct Look<D: Disk = Folder>(Log<D>);

/// Looks into a buffer.
pub fn look<D: Disk>(disk: D) -> io::Result<Look<D>> {
    Ok(Look(Log::load(disk, Limits { max_bytes: u64::MAX }, clock::current())?))
}

impl<D: Disk> Look<D> {
    /// How many messages are not acknowledged.
    pub fn messages(&self) -> u64 {
        self.0.messages()
    }

    /// The bytes of all segments that hold a message that is not acknowledged.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// The sequence number of the oldest message.
    pub fn first(&self) -> Option<u64> {
        self.0.first()
    }

    /// The sequence number of the newest message.
    pub fn last(&self) -> Option<u64> {
        self.0.last()
    }

    /// Reads messages, see [`Log::read`].
    pub fn read(&mut self, from: u64, most: usize, max_bytes: usize) -> io::Result<Vec<Stored>> {
        self.0.read(from, most, max_bytes)
    }

    /// What was found damaged so far.
    pub fn take_repairs(&mut self) -> Repairs {
        self.0.take_repairs()
    }
}

/// Removes a buffer that holds nothing, and says whether it did: not one that a process has open, nor
/// one with damage that may be a message, or with files of somebody else.
pub fn remove_if_empty(path: &Path) -> io::Result<bool> {
    let folder = Folder::new(path);
    // Twice: a look at what is not ours makes no lock there, and a message may come before it.
    if !is_empty(&folder)? {
        return Ok(false);
    }
    let lock = match folder.lock() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        lock => lock?,
    };
    if !is_empty(&folder)? {
        return Ok(false);
    }
    fs::remove_dir_all(path)?;
    drop(lock);
    // The pipeline's folder, when this was its last buffer.
    if let Some(pipeline) = path.parent() {
        let _ = fs::remove_dir(pipeline);
    }
    Ok(true)
}

fn is_empty(folder: &Folder) -> io::Result<bool> {
    if !folder.list()?.iter().all(|name| log::is_file(name)) {
        return Ok(false);
    }
    let mut look = look(folder.clone())?;
    let Repairs { lost_records, lost_bytes, .. } = look.take_repairs();
    let is_whole = lost_records == 0 && lost_bytes == 0;
    Ok(look.messages() == 0 && is_whole && doubt::read(folder)?.is_none())
}

/// Where the buffers of a data folder are.
fn buffers(data: &Path) -> PathBuf {
    data.join("buffers")
}

/// The folder of a node's buffer: `DATA/buffers/PIPELINE/NODE`. A byte that is not a letter, a digit,
/// `-`, `_`, or a dot behind something else, stands as `%` and two hexadecimal digits.
pub fn folder_of(data: &Path, node: &str) -> PathBuf {
    folder_in(buffers(data), node)
}

/// The folder of a node below another one, which has one for each: `PIPELINE/NODE`, see [`folder_of`].
pub fn folder_in(mut all: PathBuf, node: &str) -> PathBuf {
    all.extend(node.splitn(2, '/').map(escape));
    all
}

/// The node whose buffer a folder is: the inverse of [`folder_of`]. None when it is nobody's.
pub fn node_of(data: &Path, folder: &Path) -> Option<String> {
    name_of(&buffers(data), folder)
}

/// The inverse of [`folder_in`].
fn name_of(all: &Path, folder: &Path) -> Option<String> {
    let parts = folder.strip_prefix(all).ok()?.components();
    let parts: Option<Vec<String>> =
        parts.map(|part| unescape(part.as_os_str().to_str()?)).collect();
    let name = parts?.join("/");
    (folder_in(all.to_owned(), &name) == folder).then_some(name)
}

/// All buffers of a data folder, by the names of their nodes.
pub fn list(data: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for pipeline in folders(&buffers(data))? {
        for folder in folders(&pipeline)? {
            found.extend(node_of(data, &folder).map(|node| (node, folder)));
        }
    }
    found.sort();
    Ok(found)
}

/// The folders that [`folder_in`] gave below another one, with whose they are: of names with one part
/// before those of two.
pub fn folders_in(all: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for first in folders(all)? {
        found.push(first.clone());
        found.extend(folders(&first)?);
    }
    found.sort();
    let named = |folder: PathBuf| Some((name_of(all, &folder)?, folder));
    Ok(found.into_iter().filter_map(named).collect())
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.filter(|path| path.as_ref().map_or(true, |path| path.is_dir())).collect()
}

fn escape(name: &str) -> String {
    let is_plain = |at: usize, byte: u8| match byte {
        b'.' => at > 0,
        byte => byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_',
    };
    let piece = |(at, byte): (usize, u8)| match is_plain(at, byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02x}"),
    };
    name.bytes().enumerate().map(piece).collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}
