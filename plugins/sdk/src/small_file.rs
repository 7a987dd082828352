//! Small files in the data folder, for what must survive a restart.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

const LARGEST_FILE: u64 = 1 << 20;

/// Writes a file of a folder so that a power cut leaves the old or the new one. The folder is made if
/// need be; both are ours alone to read. Blocks until the disk has it.
///
/// # Errors
///
/// What the system says: a full or read-only disk, no rights.
pub fn replace_file(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    replace_file_by(folder, name, |file| file.write_all(bytes))
}

/// The same for what is never in memory as a whole.
///
/// # Errors
///
/// What the system says, or `write`.
pub fn replace_file_by(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (place, fresh) = (folder.join(name), folder.join(format!("{name}.new")));
    let mut file = open_anew(&fresh)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(&fresh, &place)?;
    File::open(folder)?.sync_all()
}

/// What [`replace_json`] wrote.
///
/// # Errors
///
/// What the system says; that it is larger than any that we write, or holds something else.
pub fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<T> {
    let place = folder.join(name);
    if fs::symlink_metadata(&place)?.len() > LARGEST_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&fs::read(place)?)?)
}

/// Writes a value as [`replace_file`] does. How many bytes it is.
///
/// # Errors
///
/// What the system says.
pub fn replace_json(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<u64> {
    let bytes = serde_json::to_vec(value)?;
    replace_file(folder, name, &bytes)?;
    Ok(bytes.len() as u64)
}

/// Never by way of a link that somebody put there.
fn open_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_remembered_is_ours_alone_and_written_by_way_of_no_link() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("not/yet/there");
        replace_file(&folder, "state", b"old").unwrap();
        let theirs = place.path().join("theirs");
        fs::write(&theirs, "untouched").unwrap();
        symlink(&theirs, folder.join("state.new")).unwrap();
        replace_file(&folder, "state", b"new").unwrap();
        assert_eq!(fs::read(folder.join("state")).unwrap(), b"new");
        assert_eq!(fs::read(&theirs).unwrap(), b"untouched");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("state"))), (0o700, 0o600));
    }

    #[test]
    fn what_was_written_is_read_and_what_another_wrote_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let read = || read_json::<Vec<u32>>(folder, "state").map_err(|error| error.kind());
        assert_eq!(read(), Err(io::ErrorKind::NotFound));
        replace_json(folder, "state", &[1, 2]).unwrap();
        assert_eq!(read(), Ok(vec![1, 2]));
        fs::write(folder.join("state"), "[1, ").unwrap();
        assert_eq!(read(), Err(io::ErrorKind::UnexpectedEof));
        fs::write(folder.join("state"), " ".repeat(2 << 20)).unwrap();
        assert_eq!(read(), Err(io::ErrorKind::FileTooLarge));
    }
}
