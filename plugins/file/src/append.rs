//! Appends lines to a file so that a line is there whole or not at all. Blocks; no async here.
//!
//! The file is opened for each batch. So one that was deleted, renamed or replaced meanwhile is
//! noticed, and nothing that was known about it can be out of date.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

#[derive(Clone)]
pub(crate) struct Appender {
    pub path: PathBuf,
    pub max_bytes: u64,
    pub keep: u8,
    pub sync: bool,
}

impl Appender {
    /// Appends lines, each with its line break. Without lines, makes sure that the file can be
    /// appended to.
    ///
    /// After an error none of the lines that were to go into the same file is there, or, when even
    /// that is impossible, a torn one stands on a line of its own. Lines that went into a file
    /// that was full before may be there.
    pub fn append(&self, lines: &[Vec<u8>]) -> anyhow::Result<()> {
        self.append_all(lines).with_context(|| format!("appending to {}", self.path.display()))
    }

    fn append_all(&self, lines: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut open = self.open()?;
        let mut rest = lines;
        while !rest.is_empty() {
            let fitting = self.fitting(open.length, rest);
            if fitting == 0 {
                self.rotate()?;
                open = self.open()?;
                continue;
            }
            if self.sync && open.length == 0 {
                self.sync_folders()?;
            }
            let (now, later) = rest.split_at(fitting);
            open.append(&now.concat())?;
            rest = later;
        }
        Ok(())
    }

    /// How many lines fit into a file of this length. An empty file takes one of any length.
    fn fitting(&self, length: u64, lines: &[Vec<u8>]) -> usize {
        let mut length_then = length;
        let fits = |line: &&Vec<u8>| {
            length_then = length_then.saturating_add(line.len() as u64);
            length_then <= self.max_bytes
        };
        let fitting = lines.iter().take_while(fits).count();
        if length == 0 { fitting.max(1) } else { fitting }
    }

    fn open(&self) -> anyhow::Result<OpenFile> {
        // To open a device can already do something, and a pipe forgets what nobody reads.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("not a regular file");
        }
        if let Some(folder) = folder_of(&self.path) {
            fs::create_dir_all(folder)
                .with_context(|| format!("making the folder {}", folder.display()))?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        let length = file.metadata()?.len();
        let is_torn = length > 0 && last_byte(&mut file)? != b'\n';
        Ok(OpenFile { file, length, is_torn, sync: self.sync })
    }

    /// Makes room at `path`, by renaming the files from the oldest on.
    fn rotate(&self) -> anyhow::Result<()> {
        let Some(oldest) = self.keep.checked_sub(1) else {
            return fs::remove_file(&self.path).context("deleting the full file");
        };
        // A gap in the numbers, as a power cut leaves it, takes up the rest of the row.
        let is_free = |number: &u8| !self.numbered(*number).exists();
        let last = (0..=oldest).find(|number| is_free(&(number + 1))).unwrap_or(oldest);
        for number in (0..=last).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            fs::rename(&from, &to)
                .with_context(|| format!("renaming {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }

    /// The file that was full `number` files ago.
    fn numbered(&self, number: u8) -> PathBuf {
        let mut path = OsString::from(&self.path);
        if number > 0 {
            path.push(format!(".{number}"));
        }
        path.into()
    }

    /// Until its folder is on the disk, a power cut can take a new file away, or a new name of an
    /// old one. The folders above may be new too.
    fn sync_folders(&self) -> anyhow::Result<()> {
        let mut here = self.path.as_path();
        while let Some(folder) = folder_of(here) {
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                Ok(()) => (),
                Err(error) if cannot_be_synced(error.kind()) => break,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("syncing the folder {}", folder.display()));
                }
            }
            here = folder;
        }
        Ok(())
    }
}

struct OpenFile {
    file: File,
    length: u64,
    /// The last line has no line break: the power went while it was written.
    is_torn: bool,
    /// What was appended must be on the disk.
    sync: bool,
}

impl OpenFile {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let line_break = if self.is_torn { &b"\n"[..] } else { &[] };
        let bytes = [line_break, lines].concat();
        let (written, mut result) = write_counted(&mut self.file, &bytes);
        if self.sync {
            result = result.and_then(|()| self.file.sync_data());
        }
        match result {
            Ok(()) => self.length += written,
            Err(_) => self.undo(written),
        }
        self.is_torn = false;
        result
    }

    /// Takes back what a failed write left behind, which will be written again.
    fn undo(&self, written: u64) {
        let length = self.file.metadata().map(|metadata| metadata.len());
        // Somebody else appended meanwhile when the length differs: theirs stays, and ours with it.
        // The next one to open the file sees whether its last line is torn.
        if length.is_ok_and(|length| length == self.length + written) {
            // When this fails too the line is torn, and the error at hand says why.
            let _ = self.file.set_len(self.length);
        }
    }
}

/// `write_all` that tells how far it came.
fn write_counted(out: &mut impl Write, bytes: &[u8]) -> (u64, io::Result<()>) {
    let mut rest = bytes;
    let result = loop {
        if rest.is_empty() {
            break Ok(());
        }
        match out.write(rest) {
            Ok(0) => break Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => break Err(error),
        }
    };
    ((bytes.len() - rest.len()) as u64, result)
}

/// Who may write into a folder need not be allowed to read the one above it, and a file system that
/// is never written to, as on a router, refuses to sync.
fn cannot_be_synced(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
            | ErrorKind::ReadOnlyFilesystem
    )
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// The folder of a path. `.` for a name alone; None for the root.
fn folder_of(path: &Path) -> Option<&Path> {
    match path.parent()? {
        folder if folder == Path::new("") && path != Path::new(".") => Some(Path::new(".")),
        folder if folder == Path::new("") => None,
        folder => Some(folder),
    }
}
