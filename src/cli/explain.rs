//! `forebay explain`: what a rule finds and why, with examples.

use anyhow::anyhow;
use forebay_sdk::Rule;
use serde_json::{Value, json};

use super::{
    folder::types,
    output::{Ending, Format, print},
};
use crate::lint::report::level;

/// Say what a rule of lint finds and why; without a name, list the rules.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The rule's name, which stands in brackets in each finding.
    rule: Option<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn explain(arguments: Arguments) -> anyhow::Result<Ending> {
    let rules: Vec<&Rule> = match &arguments.rule {
        Some(name) => vec![rule(name)?],
        None => types().rules().iter().collect(),
    };
    match (arguments.format, rules.as_slice()) {
        (Format::Json, rules) => {
            let rules: Value = rules.iter().map(|rule| as_json(rule)).collect();
            print(&format!("{rules}\n"))?;
        }
        (Format::Text, [rule]) => print(rule.page)?,
        (Format::Text, rules) => print(&list(rules))?,
    }
    Ok(Ending::Fine)
}

/// The rule of that name. The same words wherever one is asked for that is not there.
pub(super) fn rule(name: &str) -> anyhow::Result<&'static Rule> {
    let rules = types().rules();
    rules.find(name).ok_or_else(|| match rules.near(name) {
        Some(near) => anyhow!("there is no rule `{name}`; did you mean `{near}`?"),
        None => anyhow!("there is no rule `{name}`; `forebay explain` lists them"),
    })
}

fn list(rules: &[&Rule]) -> String {
    let longest = rules.iter().map(|rule| rule.name.len()).max().unwrap_or_default();
    let line = |rule: &&Rule| {
        format!("{:longest$}  {:7}  {}\n", rule.name, level(rule.level()), rule.summary())
    };
    rules.iter().map(line).collect()
}

fn as_json(rule: &Rule) -> Value {
    json!({
        "rule": rule.name,
        "level": level(rule.level()),
        "can_be_allowed": rule.can_be_allowed(),
        "summary": rule.summary(),
        "page": rule.page,
    })
}
