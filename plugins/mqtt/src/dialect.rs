//! Which version of MQTT a broker speaks, where nobody has said so. It is remembered in the folder of
//! the connection, so that a restart costs no attempt in the wrong one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use forebay_sdk::{beside, replace_file};
use tracing::debug;

use crate::{address::Address, version::Version};

/// The file in which it is remembered.
const FILE: &str = "version";

/// What is known of a broker.
pub struct Dialect {
    /// Which version to try first.
    first: Version,
    /// Whether what is remembered is yet to be read.
    is_unread: bool,
    folder: PathBuf,
    file: String,
    /// Of which broker it is known: of another one it says nothing.
    broker: String,
    was_told: bool,
}

impl Dialect {
    /// What is known of each of the addresses of a broker.
    pub fn of_all<'a>(
        told: Option<Version>,
        addresses: impl Iterator<Item = &'a Address>,
        folder: &Path,
    ) -> Vec<Dialect> {
        let dialect = |(place, address): (usize, &Address)| {
            let dialect = Dialect::of(told, address, folder);
            match place {
                0 => dialect,
                place => Dialect { file: format!("{FILE}-{place}"), ..dialect },
            }
        };
        addresses.enumerate().map(dialect).collect()
    }

    /// `told` is what the settings say, `folder` that of the connection.
    fn of(told: Option<Version>, broker: &Address, folder: &Path) -> Dialect {
        Dialect {
            first: told.unwrap_or(Version::V5),
            is_unread: told.is_none(),
            folder: folder.to_owned(),
            file: FILE.to_owned(),
            broker: broker.to_string(),
            was_told: told.is_some(),
        }
    }

    /// Which version to try first: what we were told, what the broker understood last, or 5.
    pub async fn first(&mut self) -> Version {
        if std::mem::take(&mut self.is_unread) {
            let file = self.folder.join(&self.file);
            let old = note(Version::V4, &self.broker);
            let read = beside(move || fs::read_to_string(file)).await;
            if read.is_ok_and(|read| read.is_ok_and(|read| read == old)) {
                self.first = Version::V4;
            }
        }
        self.first
    }

    /// The broker let us in.
    pub async fn understood(&mut self, version: Version) {
        if self.was_told || self.first == version {
            return;
        }
        self.first = version;
        let (folder, file) = (self.folder.clone(), self.file.clone());
        let note = note(version, &self.broker);
        let write = move || replace_file(&folder, &file, note.as_bytes());
        // Without it the next start may try both again.
        if let Ok(Err(error)) = beside(write).await {
            debug!(%error, "cannot write what the broker speaks");
        }
    }
}

fn note(version: Version, broker: &str) -> String {
    format!("{version} at {broker}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_broker_speaks_is_remembered_for_that_broker() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("not/yet/there");
        let of = |url: &str| Dialect::of(None, &Address::parse(url).unwrap(), &folder);
        let mut dialect = of("mqtt://old");
        assert_eq!(dialect.first().await, Version::V5);
        dialect.understood(Version::V5).await;
        assert!(!folder.exists(), "nothing is written that would be guessed anyway");
        dialect.understood(Version::V4).await;
        assert_eq!(dialect.first().await, Version::V4);
        assert_eq!(of("mqtt://new").first().await, Version::V5);
        let mut again = of("mqtt://old");
        assert_eq!(again.first().await, Version::V4);
        again.understood(Version::V5).await;
        assert_eq!(of("mqtt://old").first().await, Version::V5);
    }

    #[tokio::test]
    async fn who_was_told_remembers_nothing() {
        let address = Address::parse("mqtt://b").unwrap();
        let mut dialect = Dialect::of(Some(Version::V4), &address, Path::new("/nonexistent"));
        dialect.understood(Version::V5).await;
        assert_eq!(dialect.first().await, Version::V4);
    }
}
