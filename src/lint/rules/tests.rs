//! Every page shows what its rule finds. `UPDATE=1` writes the findings anew.

use std::{fs, path::Path};

use forebay_sdk::{Finding, Level, Links, Native, Node, Period, Plugin, Role, Settings};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{RULES, Rule, find, near};
use crate::{
    config::{self, Types, tests::folder_of},
    lint::{
        Checked, lint,
        report::{Format, render},
    },
    plugins,
};

/// A source with a setting that was once called otherwise.
static EXAMPLE: Plugin =
    Plugin { name: "example", types: &[&EXAMPLE_SOURCE], readme: "", sample: "", devices: &[] };

static EXAMPLE_SOURCE: Native<Example> = Native::new(Role::Source, "example", "For a page.");

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Example {
    #[serde(alias = "interval")]
    #[schemars(extend("x-forebay-was" = ["interval"]))]
    #[expect(dead_code, reason = "only read")]
    every: Period,
}

impl Settings for Example {
    fn build(self, _: Links) -> Node {
        unreachable!("nothing runs here")
    }
}

/// Lints files, written as `folder_of` takes them.
fn checked(files: &str) -> Checked {
    let folder = folder_of(files);
    let mut plugins = plugins::all();
    plugins.push(&EXAMPLE);
    let types = Types::new(&plugins);
    lint(config::load(folder.path(), folder.path(), &types, &|_| None).unwrap())
}

/// An example of a page, as `folder_of` takes it.
fn example(rule: &Rule, heading: &str) -> String {
    let files = rule.files(heading);
    assert!(!files.is_empty(), "{}.md: nothing below `## {heading}`", rule.name);
    files.iter().map(|(path, text)| format!("=== {path}\n{text}")).collect()
}

#[test]
fn every_page_shows_what_its_rule_finds() {
    for rule in &RULES {
        let name = rule.name;
        let first: Vec<&str> = rule.page.lines().take(5).collect();
        assert_eq!(first[0], format!("# {name}"));
        assert!(first[2].starts_with("Level: "), "{name}.md: no level");
        assert!(rule.summary().ends_with('.'), "{name}.md: no sentence below the level");
        let why = rule.section("Why").unwrap_or_default();
        assert!(!why.trim().is_empty(), "{name}.md: no reason");

        let bad = checked(&example(rule, "Bad"));
        let of_rule = |finding: &&Finding| finding.rule == name;
        let found: Vec<Finding> = bad.findings.iter().filter(of_rule).cloned().collect();
        assert!(!found.is_empty(), "{name}.md: nothing is found in the bad example");
        for finding in &found {
            assert_eq!(finding.level, rule.level(), "{name}.md: another level");
        }
        let output = render(&found, &bad.texts, Format::Full, false);
        let page = with_output(rule, output.trim_end());
        if std::env::var_os("UPDATE").is_some() && page != rule.page {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lint/rules");
            fs::write(folder.join(format!("{name}.md")), page).unwrap();
        } else {
            assert_eq!(rule.page, page, "{name}.md is stale; UPDATE=1 rewrites it");
        }

        let good = checked(&example(rule, "Good"));
        let shown = render(&good.findings, &good.texts, Format::Full, false);
        assert!(!good.findings.iter().any(|f| f.rule == name), "{name}.md: not good:\n{shown}");
        assert_eq!(good.count(Level::Error), 0, "{name}.md: not good:\n{shown}");
    }
}

/// The page with the findings as they should be.
fn with_output(rule: &Rule, output: &str) -> String {
    let old = rule.section("Output").unwrap_or_else(|| panic!("{}.md: no output", rule.name));
    let fresh = format!("\n## Output\n\n```text\n{output}\n```\n");
    rule.page.replacen(&format!("\n## Output\n{old}"), &fresh, 1)
}

#[test]
fn rules_are_found_by_name() {
    assert!(RULES.is_sorted_by_key(|rule| rule.name), "the list is in the order of the alphabet");
    assert_eq!(find("cycle").unwrap().level(), Level::Error);
    assert_eq!(find("unread-node").unwrap().level(), Level::Warning);
    assert!(find("no-such-rule").is_none());
    assert_eq!(near("unread-nod"), Some("unread-node"));
}
