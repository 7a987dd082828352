//! What a broker that keeps the session was asked for. It goes on sending that, so it is told when nobody asks any
//! more, also when the files were changed while nothing ran.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use forebay_sdk::{beside, replace_file};
use tracing::debug;

/// The file in which it is remembered: a topic filter in each line.
const FILE: &str = "subscriptions";

/// Of one session that the broker keeps.
pub struct Asked {
    folder: PathBuf,
    /// None until it was read.
    filters: Option<BTreeSet<String>>,
}

impl Asked {
    /// The folder is that of the connection.
    pub fn of(folder: &Path) -> Asked {
        Asked { folder: folder.to_owned(), filters: None }
    }

    /// All that the broker was asked for so far, and not told that it is over.
    pub async fn filters(&mut self) -> BTreeSet<String> {
        if let Some(filters) = &self.filters {
            return filters.clone();
        }
        let file = self.folder.join(FILE);
        let read = beside(move || fs::read_to_string(file)).await;
        let text = read.map_or(String::new(), Result::unwrap_or_default);
        let filters: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        self.filters = Some(filters.clone());
        filters
    }

    /// That is these from now on.
    pub async fn are(&mut self, filters: BTreeSet<String>) {
        if self.filters.as_ref() == Some(&filters) {
            return;
        }
        let text: String = filters.iter().map(|filter| format!("{filter}\n")).collect();
        self.filters = Some(filters);
        let folder = self.folder.clone();
        // Without it the broker sends for longer what nobody asks for.
        let write = move || replace_file(&folder, FILE, text.as_bytes());
        if let Ok(Err(error)) = beside(write).await {
            debug!(%error, "cannot note what the broker was asked for");
        }
    }
}
