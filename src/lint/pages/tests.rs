//! Every page shows what its rule finds. `UPDATE=1` writes the findings anew.

use std::{
    fs,
    path::{Path, PathBuf},
};

use forebay_sdk::{
    Configured, Finding, Level, Native, Node, Period, Plugin, Problem, Role, Rule, Settings, Site,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    config::{self, Types, tests::folder_of},
    lint::{
        Checked, lint,
        report::{Format, render},
    },
    plugins,
};

/// A source with a setting that was once called otherwise.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Example {
    #[serde(alias = "interval")]
    #[schemars(extend("x-forebay-was" = ["interval"]))]
    #[expect(dead_code, reason = "only read")]
    every: Period,
}

impl Settings for Example {
    fn resolve(self, _: &mut Vec<Problem>) -> Option<impl Configured> {
        Some(self)
    }
}

impl Configured for Example {
    fn build(&self, _: Site) -> Node {
        unreachable!("nothing runs here")
    }
}

/// The types of this build, and that one.
fn types() -> Types {
    let example = Native::<Example>::new(Role::Source, "example", "For a page.");
    let example = Plugin::new("example", "").offers(example);
    Types::new(plugins::all().into_iter().chain([example]).collect())
}

/// Lints files, written as `folder_of` takes them. Whole paths are shown as if they were below
/// `/etc/forebay`.
fn checked(files: &str, types: &Types) -> Checked {
    let folder = folder_of(files);
    let mut checked = lint(config::load(folder.path(), types, &|_| None).unwrap());
    let here = folder.path().display().to_string();
    for finding in &mut checked.findings {
        let shown = [Some(&mut finding.message), Some(&mut finding.label), finding.help.as_mut()];
        shown.into_iter().flatten().for_each(|text| *text = text.replace(&here, "/etc/forebay"));
    }
    checked
}

/// An example of a page, as `folder_of` takes it.
fn example(rule: &Rule, heading: &str) -> String {
    let files = rule.files(heading);
    assert!(!files.is_empty(), "{}.md: nothing below `## {heading}`", rule.name);
    files.iter().map(|(path, text)| format!("=== {path}\n{text}")).collect()
}

#[test]
fn every_page_shows_what_its_rule_finds() {
    let types = types();
    for rule in types.rules().iter() {
        let name = rule.name;
        let first: Vec<&str> = rule.page.lines().take(5).collect();
        assert_eq!(first[0], format!("# {name}"));
        assert!(first[2].starts_with("Level: "), "{name}.md: no level");
        assert!(rule.summary().ends_with('.'), "{name}.md: no sentence below the level");
        let why = rule.section("Why").unwrap_or_default();
        assert!(!why.trim().is_empty(), "{name}.md: no reason");

        let bad = checked(&example(rule, "Bad"), &types);
        let of_rule = |finding: &&Finding| finding.rule == rule;
        let found: Vec<Finding> = bad.findings.iter().filter(of_rule).cloned().collect();
        assert!(!found.is_empty(), "{name}.md: nothing is found in the bad example");
        for finding in &found {
            assert_eq!(finding.level, rule.level(), "{name}.md: another level");
        }
        let output = render(&found, &bad.texts, Format::Full, false);
        let page = with_output(rule, output.trim_end());
        if std::env::var_os("UPDATE").is_some() && page != rule.page {
            fs::write(place_of(rule), page).unwrap();
        } else {
            assert_eq!(rule.page, page, "{name}.md is stale; UPDATE=1 rewrites it");
        }

        let good = checked(&example(rule, "Good"), &types);
        let shown = render(&good.findings, &good.texts, Format::Full, false);
        assert!(!good.findings.iter().any(|f| f.rule == rule), "{name}.md: not good:\n{shown}");
        assert_eq!(good.count(Level::Error), 0, "{name}.md: not good:\n{shown}");
    }
}

/// The page with the findings as they should be.
fn with_output(rule: &Rule, output: &str) -> String {
    let old = rule.section("Output").unwrap_or_else(|| panic!("{}.md: no output", rule.name));
    let fresh = format!("\n## Output\n\n```text\n{output}\n```\n");
    rule.page.replacen(&format!("\n## Output\n{old}"), &fresh, 1)
}

/// A page stands with whoever declares the rule.
fn place_of(rule: &Rule) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plugins = fs::read_dir(root.join("plugins")).unwrap();
    let of_plugins = plugins.map(|plugin| plugin.unwrap().path().join("rules"));
    let mut places = of_plugins.chain([root.join("src/rules"), root.join("yaml/rules")]);
    let found = places.find_map(|folder| {
        let page = folder.join(format!("{rule}.md"));
        fs::read_to_string(&page).is_ok_and(|text| text == rule.page).then_some(page)
    });
    found.unwrap_or_else(|| panic!("{rule}.md: no folder has this page"))
}
