//! `forebay explain`: what a rule finds and why, with examples, and what a line of the log means.

use anyhow::anyhow;
use forebay_sdk::Rule;
use serde_json::{Value, json};

use super::{
    folder::types,
    output::{Ending, Format, print},
};
use crate::{
    lint::report::level,
    warnings::{WARNINGS, Warning},
};

/// Say what a rule of lint finds and why, or what a warning of the log means and what to do; without a name, list both.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The name, which stands in brackets in each finding, and as `rule` in each warning of the log.
    rule: Option<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn explain(arguments: Arguments) -> anyhow::Result<Ending> {
    let warning = |name: &String| WARNINGS.iter().find(|warning| warning.name == *name);
    if let Some(warning) = arguments.rule.as_ref().and_then(warning) {
        match arguments.format {
            Format::Json => print(&format!("{}\n", json!([warning_as_json(warning)])))?,
            Format::Text => print(warning.page)?,
        }
        return Ok(Ending::Fine);
    }
    let rules: Vec<&Rule> = match &arguments.rule {
        Some(name) => vec![rule(name)?],
        None => types().rules().iter().collect(),
    };
    let warnings: &[&Warning] = if arguments.rule.is_some() { &[] } else { &WARNINGS };
    match (arguments.format, rules.as_slice()) {
        (Format::Json, rules) => {
            let rules = rules.iter().map(|rule| as_json(rule));
            let all: Value = rules.chain(warnings.iter().map(|it| warning_as_json(it))).collect();
            print(&format!("{all}\n"))?;
        }
        (Format::Text, [rule]) => print(rule.page)?,
        (Format::Text, rules) => print(&list(rules, warnings))?,
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

fn list(rules: &[&Rule], warnings: &[&Warning]) -> String {
    let rules = rules.iter().map(|rule| (rule.name, level(rule.level()), rule.summary()));
    let all = rules.chain(warnings.iter().map(|it| (it.name, IN_LOG, it.summary())));
    let longest = all.clone().map(|(name, ..)| name.len()).max().unwrap_or_default();
    all.map(|(name, level, summary)| format!("{name:longest$}  {level:7}  {summary}\n")).collect()
}

/// Where those stand that are no rules of lint.
const IN_LOG: &str = "log";

fn warning_as_json(warning: &Warning) -> Value {
    let Warning { name, page } = warning;
    json!({ "rule": name, "level": IN_LOG, "can_be_allowed": false, "summary": warning.summary(), "page": page })
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
