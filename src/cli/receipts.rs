//! What came of each change of the files: kept in the data folder, for whoever asks later what runs, since
//! when, and what was tried.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    time::Duration,
};

use forebay_sdk::{Timestamp, replace_file};
use serde::{Deserialize, Serialize};

use super::output::summary;
use crate::{config::Texts, engine::Plan, lint::Checked};

/// The file's name.
const FILE: &str = "reloads.json";
/// So many are kept.
const MOST: usize = 50;
/// So many names of files are kept of each.
const MOST_FILES: usize = 20;

/// What came of the changes, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts {
    kept: VecDeque<Receipt>,
    /// Content of the files that were looked at last, by path.
    files: BTreeMap<String, u64>,
}

/// What came of one change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Goes up by one, also over restarts.
    pub(super) number: u64,
    pub(super) result: Result,
    /// When, as RFC 3339 writes it.
    pub(super) at: String,
    /// Another one for each content of the files.
    pub(super) content: String,
    /// Files that are new, gone or changed. Empty at a start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) changed: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) more_changed: usize,
    /// What was done to the nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) did: Option<String>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// `no findings in 2 pipelines`.
    pub(super) findings: String,
    /// How long going over to it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) took_ms: Option<u64>,
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Result {
    /// The program began with it.
    Started,
    /// The program began with what ran before, because the folder could not run.
    LastGood,
    Reloaded,
    /// What ran before goes on.
    Refused,
    /// The files are again what runs.
    Back,
}

impl Result {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Result::Started => "started",
            Result::LastGood => "started with the last good",
            Result::Reloaded => "reloaded",
            Result::Refused => "refused",
            Result::Back => "back to what runs",
        }
    }
}

impl Receipt {
    pub(super) fn of(result: Result, checked: &Checked) -> Receipt {
        Receipt {
            number: 0,
            result,
            at: Timestamp::now().to_rfc3339(),
            content: format!("{:016x}", checked.content_hash),
            changed: Vec::new(),
            more_changed: 0,
            did: None,
            why: None,
            findings: summary(checked),
            took_ms: None,
        }
    }

    pub(super) fn because(self, why: &str) -> Receipt {
        Receipt { why: Some(why.to_owned()), ..self }
    }

    pub(super) fn did(self, plan: &Plan) -> Receipt {
        Receipt { did: Some(plan.to_string()), ..self }
    }

    pub(super) fn took(self, time: Duration) -> Receipt {
        Receipt { took_ms: u64::try_from(time.as_millis()).ok(), ..self }
    }
}

impl Receipts {
    /// Those of earlier runs. None when they cannot be read: they are only for showing.
    pub(super) fn read(data: &Path) -> Receipts {
        let read = || serde_json::from_slice(&fs::read(data.join(FILE)).ok()?).ok();
        Receipts { kept: read().unwrap_or_default(), files: BTreeMap::new() }
    }

    /// Blocks until the disk has them.
    pub(super) fn write(&self, data: &Path) -> io::Result<()> {
        replace_file(data, FILE, &serde_json::to_vec_pretty(&self.kept)?)
    }

    /// The next one, with the texts that it is about.
    pub(super) fn add(&mut self, mut receipt: Receipt, texts: &Texts) {
        let files: BTreeMap<String, u64> =
            texts.iter().map(|(path, text)| (path.to_owned(), hash(text))).collect();
        if !self.files.is_empty() {
            let all =
                files.keys().chain(self.files.keys().filter(|path| !files.contains_key(*path)));
            let mut changed = all.filter(|path| files.get(*path) != self.files.get(*path));
            receipt.changed = changed.by_ref().take(MOST_FILES).cloned().collect();
            receipt.more_changed = changed.count();
        }
        self.files = files;
        receipt.number = self.kept.back().map_or(1, |last| last.number + 1);
        if self.kept.len() == MOST {
            self.kept.pop_front();
        }
        self.kept.push_back(receipt);
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Receipt> {
        self.kept.iter().rev()
    }

    /// That of what runs.
    pub(super) fn running(&self) -> Option<&Receipt> {
        let runs = [Result::Started, Result::LastGood, Result::Reloaded];
        self.newest_first().find(|receipt| runs.contains(&receipt.result))
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}
