//! `forebay explain`: what a rule finds and why, with examples.

use anyhow::anyhow;

use super::{Ending, print};
use crate::lint::{
    report::level,
    rules::{RULES, Rule, find, near},
};

/// Say what a rule of lint finds and why; without a name, list the rules.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The rule's name, which stands in brackets in each finding.
    rule: Option<String>,
}

pub(super) fn explain(arguments: Arguments) -> anyhow::Result<Ending> {
    match arguments.rule {
        Some(name) => print(find(&name).ok_or_else(|| no_rule(&name))?.page)?,
        None => print(&list())?,
    }
    Ok(Ending::Fine)
}

/// The same words wherever a rule is asked for that is not there.
pub(super) fn no_rule(name: &str) -> anyhow::Error {
    match near(name) {
        Some(near) => anyhow!("there is no rule `{name}`; did you mean `{near}`?"),
        None => anyhow!("there is no rule `{name}`; `forebay explain` lists them"),
    }
}

fn list() -> String {
    let longest = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or_default();
    let line = |rule: &Rule| {
        format!("{:longest$}  {:7}  {}\n", rule.name, level(rule.level()), rule.summary())
    };
    RULES.iter().map(line).collect()
}
