//! `forebay explain`: what a rule finds and why, with examples.

use anyhow::bail;

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
        Some(name) => print(page(&name)?)?,
        None => print(&list())?,
    }
    Ok(Ending::Fine)
}

fn page(name: &str) -> anyhow::Result<&'static str> {
    match (find(name), near(name)) {
        (Some(rule), _) => Ok(rule.page),
        (None, Some(near)) => bail!("there is no rule `{name}`; did you mean `{near}`?"),
        (None, None) => bail!("there is no rule `{name}`; `forebay explain` lists them"),
    }
}

fn list() -> String {
    let longest = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or_default();
    let line = |rule: &Rule| {
        format!("{:longest$}  {:7}  {}\n", rule.name, level(rule.level()), rule.summary())
    };
    RULES.iter().map(line).collect()
}
