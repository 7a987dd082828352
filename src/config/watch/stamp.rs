//! What can be seen of files without reading them.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::super::watched::Watched;

/// File systems count time in steps of up to two seconds (FAT). A file that changed so recently may
/// change again and look the same.
const COARSEST_STEP: Duration = Duration::from_secs(3);

/// The entries of some folders: names, and what the system knows about each. Equal stamps mean that
/// nothing changed in between, when the first one was at rest.
#[derive(Debug)]
pub(super) struct Stamp {
    entries: BTreeMap<PathBuf, Option<Seen>>,
    is_at_rest: bool,
}

/// An entry itself, and what it leads to when it is a link. Times are of contents and of anything
/// at all, in nanoseconds; the latter cannot be set by a program.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    link: (u64, u64),
    file: (u64, u64),
    size_bytes: u64,
    times: [i128; 2],
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        self.entries == other.entries
    }
}

impl Stamp {
    /// Looks at the folders and at what is in them, but not further down, and not at files that nobody
    /// reads.
    pub(super) fn of(watched: &Watched, now: SystemTime) -> Stamp {
        let mut entries = BTreeMap::new();
        for folder in &watched.folders {
            let links = |seen: Seen| Seen { times: [0; 2], size_bytes: 0, ..seen };
            // Its times change with any file in it.
            entries.insert(folder.clone(), seen(folder).map(links));
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file());
                if is_plain && !watched.concerns(&path) {
                    continue;
                }
                let seen = seen(&path);
                entries.insert(path, seen);
            }
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rested = now.saturating_sub(COARSEST_STEP).as_nanos();
        let rested = i128::try_from(rested).unwrap_or(i128::MAX);
        // A time in the future says nothing: the clock of a router jumps.
        let times = entries.values().flatten().flat_map(|seen| seen.times);
        let is_at_rest = times.max().is_none_or(|latest| latest < rested);
        Stamp { entries, is_at_rest }
    }

    /// Whether everything was long enough ago that the next change must show.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_at_rest
    }
}

fn seen(path: &std::path::Path) -> Option<Seen> {
    let link = fs::symlink_metadata(path).ok()?;
    // A link that leads nowhere is itself what there is to see.
    let file = fs::metadata(path).unwrap_or_else(|_| link.clone());
    let identity = |of: &Metadata| (of.dev(), of.ino());
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Some(Seen {
        link: identity(&link),
        file: identity(&file),
        size_bytes: file.size(),
        times: [
            nanoseconds(file.mtime(), file.mtime_nsec()),
            nanoseconds(file.ctime(), file.ctime_nsec()),
        ],
    })
}
