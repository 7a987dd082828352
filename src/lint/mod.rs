//! Graph to findings. Every static check is either here or in a settings type's `check`, and both
//! `lint` and `run` come through [`lint`].

mod busy;
mod checks;
mod delivery;
mod fields;
mod levels;
pub mod report;
pub mod rules;
mod sharing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::PathBuf};

use forebay_sdk::{Finding, Level, Span};

use crate::config::{Draft, Graph, Runtime, Texts};

/// What came of checking a folder.
pub struct Checked {
    /// None when there is an error.
    pub graph: Option<Graph>,
    /// The settings of the runtime.
    pub runtime: Runtime,
    /// In the order of files and lines.
    pub findings: Vec<Finding>,
    /// The files, for showing.
    pub texts: Texts,
    /// Folders in which a change matters.
    pub watched: BTreeSet<PathBuf>,
    /// Changes when anything that was read does.
    pub content_hash: u64,
    /// The number of pipeline files.
    pub pipelines: usize,
}

/// Checks what was read.
pub fn lint(mut draft: Draft) -> Checked {
    let mut findings = std::mem::take(&mut draft.findings);
    checks::check(&draft, &mut findings);
    drop_what_follows(&mut findings);
    levels::apply(&draft, &mut findings);
    findings.iter_mut().for_each(|finding| draft.filled.hide(finding));
    findings.sort_by_key(|finding| (finding.span, finding.level, finding.rule));
    findings.dedup();
    let content_hash = draft.content_hash();
    let refused = findings.iter().any(|finding| finding.level == Level::Error);
    let (texts, watched) = (draft.texts.clone(), draft.watched.clone());
    let (runtime, pipelines) = (draft.runtime.clone(), draft.pipelines.len());
    let graph = (!refused).then(|| draft.into_graph());
    Checked { graph, runtime, findings, texts, watched, content_hash, pipelines }
}

/// A value that could not be filled in is wrong in no other way that is known.
fn drop_what_follows(findings: &mut Vec<Finding>) {
    const RULE: &str = "unset-variable";
    let of_rule = findings.iter().filter(|finding| finding.rule == RULE);
    let unset: Vec<Span> = of_rule.filter_map(|finding| finding.span).collect();
    let follows = |span: Span| unset.iter().any(|unset| unset.holds(span));
    findings.retain(|finding| finding.rule == RULE || !finding.span.is_some_and(follows));
}

impl Checked {
    /// Whether there is nothing that could run, nor anything that was meant to.
    pub fn is_empty(&self) -> bool {
        self.pipelines == 0 && self.count(Level::Error) == 0
    }

    /// What a report shows.
    pub fn part(&self) -> report::Part<'_> {
        report::Part { findings: &self.findings, texts: &self.texts }
    }

    /// How many findings there are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}
