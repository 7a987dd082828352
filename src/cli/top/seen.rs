//! What is known of what runs, as it was told last.

use std::{collections::BTreeMap, path::Path};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use crate::{
    api::{Answer, ask},
    cli::{
        report::Status,
        runtime::block_on,
        status::{WITHIN, ask_status},
    },
    engine::{Last, Values},
};

/// What is known of what runs.
pub(super) struct Seen {
    pub(super) status: Status,
    /// What nodes sent last, where there is room to show that.
    pub(super) last: BTreeMap<String, Last>,
    /// More of the chosen one.
    pub(super) values: Option<(String, Values)>,
    /// Why nothing newer is known.
    pub(super) away: Option<String>,
}

impl Seen {
    /// Asks for the first time. An error when nobody answers.
    pub(super) fn first(data: &Path) -> anyhow::Result<Seen> {
        let status = block_on(ask_status(data))?;
        Ok(Seen { status, last: BTreeMap::new(), values: None, away: None })
    }

    /// Asks how everything is. While nobody answers, what was known stays.
    pub(super) fn look(&mut self, data: &Path, with_last: bool) {
        match block_on(ask_status(data)) {
            Ok(status) => {
                self.status = status;
                self.away = None;
            }
            Err(error) => return self.away = Some(format!("{error:#}")),
        }
        self.last = match with_last {
            true => answer(data, "/history").unwrap_or_default(),
            false => BTreeMap::new(),
        };
        self.values = None;
    }

    /// Asks for more of one, unless that is known.
    pub(super) fn look_at(&mut self, data: &Path, name: Option<String>) {
        let known = self.values.as_ref().map(|(name, _)| name);
        if known == name.as_ref() || self.away.is_some() {
            return;
        }
        self.values = name.and_then(|name| {
            let escaped = utf8_percent_encode(&name, NON_ALPHANUMERIC);
            let values = answer(data, &format!("/history?node={escaped}"))?;
            Some((name, values))
        });
    }
}

/// What is answered. None where that is not to be had, such as of a node that is gone.
fn answer<T: DeserializeOwned>(data: &Path, path: &str) -> Option<T> {
    match block_on(ask(data, path, WITHIN)).ok()? {
        Answer::Said(said) => serde_json::from_value(said).ok(),
        Answer::Nobody => None,
    }
}
