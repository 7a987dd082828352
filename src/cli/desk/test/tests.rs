//! The plugins that are compiled in do what their tests say.

#![cfg(feature = "forebay-script")]

use std::path::Path;

use super::run;
use crate::{
    config::Texts,
    lint::report::{Format, render},
    plugins,
};

#[test]
fn the_standard_plugins_do_what_their_tests_say() {
    let types = plugins::types();
    for plugin in plugins::STANDARD {
        let shown = format!("plugins/{}/tests.yaml", plugin.name);
        let (mut texts, mut findings) = (Texts::default(), Vec::new());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&shown);
        let tests = std::fs::read_to_string(path).expect("each has tests");
        let outcomes = run(plugin.name, &shown, tests, &types, &mut texts, &mut findings);
        let said = render(&findings, &texts, Format::Full, false);
        assert!(findings.is_empty(), "{said}");
        assert!(!outcomes.is_empty(), "{} has no tests", plugin.name);
        for outcome in outcomes {
            let (name, test, failures) = (plugin.name, outcome.test, outcome.failures);
            assert!(failures.is_empty(), "{name}: {test}\n{}", failures.join("\n"));
        }
    }
}
