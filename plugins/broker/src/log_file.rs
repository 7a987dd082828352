//! The file of what must survive a restart. All of it blocks on the disk.
//!
//! Changes are appended, and the file is written anew, with what is still so, once most of it is past. What a power cut
//! leaves half written at its end is cut off.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use forebay_sdk::{SyncPolicy, replace_file_by};

use crate::records::{HEAD_BYTES, LONGEST, Record, checksum, head, read};

/// What it is called in the folder of the connection.
const NAME: &str = "kept";
/// What it begins with: what it is, and the version of that.
const MAGIC: &[u8; 8] = b"fbbroke2";
/// A file up to this size is not written anew, in bytes.
const SMALL: u64 = 1 << 20;

/// What takes a piece of what is to be written.
pub type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// The file.
#[derive(Debug)]
pub struct LogFile {
    folder: PathBuf,
    /// None until it was written as a whole.
    file: Option<File>,
    bytes: u64,
    /// How large it was when it was last written anew.
    fresh_bytes: u64,
    /// All that was written since somebody asked.
    written_bytes: u64,
}

impl LogFile {
    /// That of a folder, which need not be there.
    pub fn new(folder: &Path) -> LogFile {
        LogFile {
            folder: folder.to_owned(),
            file: None,
            bytes: 0,
            fresh_bytes: 0,
            written_bytes: 0,
        }
    }

    /// Gives each record to `take`, as long as they are whole. How many bytes at the end were none; when there are
    /// none such, it goes on behind them.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read, or is none of ours.
    pub fn read(&mut self, mut take: impl FnMut(Record)) -> io::Result<u64> {
        let file = match File::open(self.folder.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        let whole = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|found| found.len()))?;
        let Some(file) = file.filter(|_| whole > 0) else {
            // What is wrong with the disk is told with the first change.
            let _ = self.rewrite(|_| Ok(()));
            return Ok(0);
        };
        let mut from = BufReader::new(file);
        let mut magic = [0; MAGIC.len()];
        if from.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Ok(whole);
        }
        let mut good = MAGIC.len() as u64;
        let mut body = Vec::new();
        loop {
            let mut bytes = [0; HEAD_BYTES];
            if from.read_exact(&mut bytes).is_err() {
                break;
            }
            let (length, sum) = head(bytes);
            if length > LONGEST || length as u64 > whole - good {
                break;
            }
            body.resize(length, 0);
            if from.read_exact(&mut body).is_err() || checksum(&body) != sum {
                break;
            }
            let Some(record) = read(&body) else { break };
            take(record);
            good += (HEAD_BYTES + length) as u64;
        }
        if good == whole {
            self.go_on(whole)?;
        }
        Ok(whole - good)
    }

    /// Appends from now on to what is there.
    fn go_on(&mut self, bytes: u64) -> io::Result<()> {
        self.file = Some(OpenOptions::new().append(true).open(self.folder.join(NAME))?);
        (self.bytes, self.fresh_bytes) = (bytes, bytes);
        Ok(())
    }

    /// Writes the file anew, with what `write` passes on. A power cut leaves the old one or the new one.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn rewrite(&mut self, write: impl FnOnce(Take<'_>) -> io::Result<()>) -> io::Result<()> {
        self.file = None;
        let mut bytes = MAGIC.len() as u64;
        replace_file_by(&self.folder, NAME, |file| {
            file.write_all(MAGIC)?;
            write(&mut |piece| {
                bytes += piece.len() as u64;
                file.write_all(piece)
            })
        })?;
        self.written_bytes += bytes;
        self.go_on(bytes)
    }

    /// Appends what `write` passes on. It is safe from a crash when this returns, and from a power cut as far as `sync` says.
    ///
    /// # Errors
    ///
    /// What the system says. Then the file is to be written anew.
    pub fn append<T>(
        &mut self,
        sync: SyncPolicy,
        write: impl FnOnce(Take<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        // Until all of it is there.
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = 0;
        let result = write(&mut |piece| {
            bytes += piece.len() as u64;
            file.write_all(piece)
        })?;
        match sync {
            SyncPolicy::Never => (),
            SyncPolicy::Always | SyncPolicy::Every(_) => file.sync_data()?,
        }
        self.bytes += bytes;
        self.written_bytes += bytes;
        self.file = Some(file);
        Ok(result)
    }

    /// Whether it is time to write it anew: it never was, or most of it is past.
    pub fn wants_rewriting(&self) -> bool {
        self.file.is_none() || self.bytes > SMALL.max(2 * self.fresh_bytes)
    }

    /// How many bytes were written since the last call.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }

    /// Nothing is to be kept there any more.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
