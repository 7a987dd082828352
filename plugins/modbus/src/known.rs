//! What a node has learnt of its device: the registers that it refuses. Kept in the node's data folder,
//! so that a restart does not ask for them again.

use std::{
    io,
    path::{Path, PathBuf},
};

use forebay_sdk::{beside, read_json, replace_json};
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::plan::Refused;

/// More than any device has; the file stays small.
const MOST_REFUSED: usize = 1000;

/// What a device refuses.
pub struct Known {
    unit: u8,
    folder: PathBuf,
    refused: Vec<Refused>,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Of which device it is known: of another one it says nothing.
    device: String,
    refused: Vec<Refused>,
}

impl Known {
    /// Nothing yet. `data` is the folder of the node.
    pub fn of(unit: u8, data: &Path) -> Known {
        Known { unit, folder: data.to_owned(), refused: Vec::new() }
    }

    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    pub fn add(&mut self, refused: impl IntoIterator<Item = Refused>) {
        self.refused.extend(refused);
        self.refused.sort_unstable();
        self.refused.dedup();
        self.refused.truncate(MOST_REFUSED);
    }

    /// Reads what was known of the unit before a restart. A file that is not there or cannot be read
    /// costs a few requests, no more.
    pub async fn load(&mut self, place: &str) {
        let (folder, file, device) = (self.folder.clone(), self.file(), self.device(place));
        let read = beside(move || read_json::<Written>(&folder, &file)).await;
        match read {
            Ok(Ok(written)) if written.device == device => self.add(written.refused),
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                debug!(%error, "cannot read what the device refuses");
            }
            _ => (),
        }
    }

    /// The name of the file.
    fn file(&self) -> String {
        format!("refused-{}.json", self.unit)
    }

    fn device(&self, place: &str) -> String {
        format!("unit {} at {place}", self.unit)
    }

    /// Writes it down.
    pub async fn save(&self, place: &str) {
        let written = Written { device: self.device(place), refused: self.refused.clone() };
        let (folder, file) = (self.folder.clone(), self.file());
        let write = move || replace_json(&folder, &file, &written);
        if let Ok(Err(error)) = beside(write).await {
            debug!(%error, "cannot write what the device refuses");
        }
    }
}
