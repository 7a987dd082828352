//! JUnit XML, which CI systems show as a list of tests.

use std::{collections::BTreeMap, fmt::Write};

use forebay_sdk::{Finding, Level};

use super::short::{Part, short};

/// One test for each file, and for each finding that fails: those of `least` level or worse. Other
/// findings are what the test of their file printed. Ends in a line break.
pub(super) fn junit(parts: &[Part<'_>], least: Level) -> String {
    let (mut tests, mut failures, mut cases) = (0, 0, String::new());
    for part in parts {
        let seen = |file| part.texts.seen(file);
        let mut files: BTreeMap<String, Vec<&Finding>> =
            (0..part.texts.count()).map(|file| (seen(file), Vec::new())).collect();
        for finding in part.findings {
            let path = finding.span.map_or_else(String::new, |span| seen(span.file));
            files.entry(path).or_default().push(finding);
        }
        for (path, findings) in files {
            let fails = |finding: &&Finding| finding.level <= least;
            let (failed, printed): (Vec<&Finding>, Vec<&Finding>) =
                findings.into_iter().partition(fails);
            let file = escaped(&path);
            if failed.is_empty() {
                let _ = write!(cases, "    <testcase classname=\"forebay\" name=\"{file}\"");
                let printed: String =
                    printed.iter().map(|finding| short(finding, part.texts) + "\n").collect();
                cases += &match printed.as_str() {
                    "" => "/>\n".to_owned(),
                    text => format!(
                        ">\n      <system-out>{}</system-out>\n    </testcase>\n",
                        escaped(text)
                    ),
                };
                tests += 1;
                continue;
            }
            for finding in failed.into_iter().chain(printed) {
                let text = short(finding, part.texts);
                let line = finding
                    .span
                    .map_or(0, |span| part.texts.line_column(span.file, span.range().start).0);
                let name = format!("{} in line {line}", finding.rule);
                let _ = write!(cases, "    <testcase classname=\"{file}\" name=\"{name}\"");
                let text = escaped(&text);
                cases += &match finding.level <= least {
                    true => {
                        failures += 1;
                        let (rule, message) = (finding.rule, escaped(&finding.message));
                        format!(
                            ">\n      <failure type=\"{rule}\" message=\"{message}\">{text}</failure>\n    </testcase>\n"
                        )
                    }
                    false => {
                        format!(">\n      <system-out>{text}</system-out>\n    </testcase>\n")
                    }
                };
                tests += 1;
            }
        }
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites>\n  \
         <testsuite name=\"forebay lint\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n\
         {cases}  </testsuite>\n</testsuites>\n"
    )
}

/// Characters that XML cannot hold at all become one that it can.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}
