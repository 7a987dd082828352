//! What came of the tests of a folder.

use forebay_sdk::Finding;
use serde::Serialize;

use crate::config::Texts;

/// What is tested.
pub(super) enum Whose {
    Plugin(String),
    /// The name of the file, without its ending.
    Pipeline(String),
}

/// What became of one test.
pub(super) struct Outcome {
    pub whose: Whose,
    pub test: String,
    /// Where it stands: `plugins/celsius/tests.yaml:2:5`.
    pub place: String,
    /// What is otherwise than expected. Empty when it passed.
    pub failures: Vec<String>,
}

impl Whose {
    pub fn name(&self) -> &str {
        match self {
            Whose::Plugin(name) | Whose::Pipeline(name) => name,
        }
    }
}

/// All that came of a folder.
#[derive(Default)]
pub(super) struct Results {
    pub outcomes: Vec<Outcome>,
    /// Plugins without tests.
    pub without: Vec<String>,
    /// What the tests of each file reached.
    pub coverage: Vec<(String, Report)>,
    /// How many schedules of faults broke nothing.
    pub tried: Option<usize>,
    /// What is wrong with what is tested, and with the tests.
    pub findings: Vec<(Vec<Finding>, Texts)>,
}

impl Results {
    /// Whether anything is wrong with what is tested.
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|(findings, _)| !findings.is_empty())
    }

    /// The tests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|one| !one.failures.is_empty())
    }
}

/// What the tests of a file reached.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many statements scripts have, and ways around a block.
    pub places: usize,
    /// How many of them were reached.
    pub reached: usize,
    /// Where the others stand.
    pub not_reached: Vec<String>,
    /// Outputs by which nothing left.
    pub outputs_not_taken: Vec<String>,
    /// Wires by which nothing went.
    pub wires_not_taken: Vec<String>,
}
