//! QoS 2 in a session that the broker keeps: account of what is under way is kept from one connection to the
//! next, from the first message of QoS 2 on.
//!
//! It is kept in memory: a write to the disk before each message would wear that out. So what was under way when the process
//! ended may come twice. That it is spoken is remembered in the folder of the connection, for the broker
//! remembers packet ids.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use forebay_sdk::{beside, replace_file};
use tokio::sync::OnceCell;
use tracing::debug;

use crate::client::Kept;

/// The file that says so.
const FILE: &str = "qos-2";

/// Of one session.
pub struct ExactlyOnce {
    folder: PathBuf,
    /// What is under way, for each address of the broker.
    kept: OnceCell<Vec<Arc<Kept>>>,
    addresses: usize,
    is_spoken: AtomicBool,
}

impl ExactlyOnce {
    /// Of a broker with so many addresses; the folder is that of the connection.
    pub fn of(folder: &Path, addresses: usize) -> ExactlyOnce {
        let is_spoken = AtomicBool::new(false);
        ExactlyOnce { folder: folder.to_owned(), kept: OnceCell::new(), addresses, is_spoken }
    }

    /// What is under way at the address at this place. None as long as QoS 2 is not spoken.
    pub async fn kept(&self, place: usize) -> Option<Arc<Kept>> {
        let kept = self.kept.get_or_init(|| self.read()).await;
        self.is_spoken.load(Ordering::Relaxed).then(|| Arc::clone(&kept[place]))
    }

    /// From now on QoS 2 is spoken, on new connections.
    pub async fn begin(&self) {
        if self.is_spoken.swap(true, Ordering::Relaxed) {
            return;
        }
        let folder = self.folder.clone();
        let write = move || replace_file(&folder, FILE, b"spoken\n");
        // Without it a message may be lost after the next start, when this one ends without notice.
        if let Ok(Err(error)) = beside(write).await {
            debug!(%error, "cannot note that QoS 2 is spoken");
        }
    }

    async fn read(&self) -> Vec<Arc<Kept>> {
        let file = self.folder.join(FILE);
        let was_spoken = beside(move || fs::exists(file)).await;
        let was_spoken = was_spoken.is_ok_and(|read| read.unwrap_or(false));
        self.is_spoken.fetch_or(was_spoken, Ordering::Relaxed);
        let kept = || if was_spoken { Kept::unknown() } else { Kept::default() };
        std::iter::repeat_with(|| Arc::new(kept())).take(self.addresses).collect()
    }
}
