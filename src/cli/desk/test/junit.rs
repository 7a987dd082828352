//! What came of tests as JUnit XML.

use forebay_sdk::Finding;

use super::results::{Outcome, Results};
use crate::{
    config::Texts,
    lint::report::{Format, escaped, render},
};

/// One test for each, and one that failed for each finding. Ends in a line break.
pub(super) fn junit(results: &Results) -> String {
    let found = results
        .findings
        .iter()
        .flat_map(|(findings, texts)| findings.iter().map(move |finding| (finding, texts)));
    let found: Vec<String> = found.map(|(finding, texts)| of_finding(finding, texts)).collect();
    let (tests, failures) =
        (results.outcomes.len() + found.len(), results.failed().count() + found.len());
    let cases: String = results.outcomes.iter().map(of_outcome).chain(found).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites>\n  \
         <testsuite name=\"forebay test\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n\
         {cases}  </testsuite>\n</testsuites>\n"
    )
}

fn of_outcome(outcome: &Outcome) -> String {
    let Outcome { whose, test, place, failures } = outcome;
    let (class, name) = (escaped(whose.name()), escaped(test));
    let case = format!("    <testcase classname=\"{class}\" name=\"{name}\"");
    match failures.first() {
        None => case + "/>\n",
        Some(first) => {
            let (first, all) = (escaped(first), escaped(&failures.join("\n")));
            let place = escaped(place);
            format!(
                "{case}>\n      <failure type=\"failure\" message=\"{first}\">{place}\n{all}</failure>\n    </testcase>\n"
            )
        }
    }
}

fn of_finding(finding: &Finding, texts: &Texts) -> String {
    let text = render(std::slice::from_ref(finding), texts, Format::Short, false);
    let (rule, message, text) = (finding.rule, escaped(&finding.message), escaped(&text));
    format!(
        "    <testcase classname=\"forebay lint\" name=\"{message}\">\n      \
         <failure type=\"{rule}\" message=\"{message}\">{text}</failure>\n    </testcase>\n"
    )
}
