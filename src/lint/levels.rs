//! Who decides how bad a finding is: the rule, then `lint:` in `forebay.yaml`, then a comment
//! `# forebay: allow rule-name (reason)` at the line.

use forebay_sdk::{Finding, Level, Rule, Span};

use crate::{
    config::Draft,
    rules::{BAD_ALLOW, Rules, UNKNOWN_RULE, USELESS_ALLOW},
};

/// Takes out what comments allow, and gives the rest the levels that the folder asks for.
pub(super) fn apply(draft: &Draft, findings: &mut Vec<Finding>) {
    let rules = draft.types.rules();
    let mut added = Vec::new();
    for file in 0..draft.texts.count() {
        let text = draft.texts.text(file);
        let mut allows = read(&text, file, rules, &mut added);
        if allows.is_empty() {
            continue;
        }
        findings.retain(|finding| match allows.iter_mut().find(|allow| allow.fits(finding)) {
            Some(allow) => {
                allow.is_used = true;
                false
            }
            None => true,
        });
        added.extend(allows.iter().filter(|allow| !allow.is_used).map(useless));
    }
    // What an allow is there for may be what an error hides.
    if findings.iter().any(|finding| finding.level == Level::Error) {
        added.retain(|finding| finding.rule != &USELESS_ALLOW);
    }
    findings.append(&mut added);
    let asked = &draft.runtime.lint;
    report_unknown(draft, findings);
    for finding in findings {
        let lowered = asked.warn.iter().any(|name| name == finding.rule.name);
        let raised = asked.deny.iter().any(|name| name == finding.rule.name);
        match (lowered, raised) {
            (true, _) if finding.rule.can_be_allowed() => finding.level = Level::Warning,
            (false, true) => finding.level = Level::Error,
            _ => (),
        }
    }
}

/// A comment that allows a rule in one line.
struct Allow {
    /// The comment.
    span: Span,
    rule: &'static Rule,
    /// The line in which the rule is allowed.
    line: std::ops::Range<usize>,
    is_used: bool,
}

impl Allow {
    /// Whether the finding is of the rule, and in the line.
    fn fits(&self, finding: &Finding) -> bool {
        let line = self.line.start..=self.line.end;
        let is_here =
            |span: Span| span.file == self.span.file && line.contains(&span.range().start);
        self.rule == finding.rule && finding.span.is_some_and(is_here)
    }
}

fn useless(allow: &Allow) -> Finding {
    let message = format!("there is no `{}` to allow here", allow.rule);
    Finding::warning(&USELESS_ALLOW, allow.span, message, "allows nothing")
        .help("remove the comment")
}

/// The comments of a file that allow something; reports those that cannot.
fn read(text: &str, file: u32, rules: &Rules, findings: &mut Vec<Finding>) -> Vec<Allow> {
    const WORD: &str = "forebay:";
    let mut allows = Vec::new();
    if !text.contains(WORD) {
        return allows;
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        if let Some((at, words)) = comment(line, WORD) {
            let span = Span::new(file, start + at..start + line.trim_end().len());
            let alone = line[..at].trim().is_empty();
            match parse(words, span, rules) {
                Ok(rule) => {
                    let line = match alone {
                        true => next_line(text, end),
                        false => start..end - 1,
                    };
                    allows.push(Allow { span, rule, line, is_used: false });
                }
                Err(finding) => findings.push(*finding),
            }
        }
        start = end;
    }
    allows
}

/// Where a comment that speaks to us begins in a line, and what it says. `//` is for scripts.
fn comment<'a>(line: &'a str, word: &str) -> Option<(usize, &'a str)> {
    let at = line.find(word)?;
    let before = line[..at].trim_end();
    let marker = ["#", "//"].into_iter().find(|marker| before.ends_with(marker))?;
    let begin = before.len() - marker.len();
    let stands_apart = begin == 0 || line[..begin].ends_with(char::is_whitespace);
    stands_apart.then(|| (begin, line[at + word.len()..].trim()))
}

/// The next line that says something and is no comment.
fn next_line(text: &str, from: usize) -> std::ops::Range<usize> {
    let mut start = from;
    for line in text[from..].split_inclusive('\n') {
        let said = line.trim();
        if !said.is_empty() && !said.starts_with('#') && !said.starts_with("//") {
            return start..start + line.trim_end().len();
        }
        start += line.len();
    }
    start..start
}

/// Reads `allow rule-name (reason)`. `span` is the comment, which ends with these words.
fn parse(words: &str, span: Span, rules: &Rules) -> Result<&'static Rule, Box<Finding>> {
    let wrong = |message: String, label: String| {
        Box::new(Finding::warning(&BAD_ALLOW, span, message, label))
    };
    const EXPECTED: &str = "expected `forebay: allow rule-name (reason)`";
    let Some(rest) = words.strip_prefix("allow ").map(str::trim) else {
        let message = "a comment for forebay cannot be read".to_owned();
        return Err(wrong(message, EXPECTED.to_owned()));
    };
    let (name, reason) = rest.split_once([' ', '(']).unwrap_or((rest, ""));
    let Some(rule) = rules.find(name) else {
        let start = span.end as usize - rest.len();
        let span = Span::new(span.file, start..start + name.len());
        return Err(unknown(name, span, rules).into());
    };
    if !rule.can_be_allowed() {
        let message = format!("`{name}` cannot be allowed");
        let label = "nothing can run with it".to_owned();
        return Err(wrong(message, label));
    }
    let reason = reason.trim().trim_start_matches('(').trim_end_matches(')').trim();
    if reason.is_empty() {
        let message = format!("`{name}` is allowed without a reason");
        let label = format!("expected `allow {name} (why it is right here)`");
        return Err(wrong(message, label));
    }
    Ok(rule)
}

fn unknown(name: &str, span: Span, rules: &Rules) -> Finding {
    let message = format!("there is no rule `{name}`");
    let finding = Finding::warning(&UNKNOWN_RULE, span, message, "");
    match rules.near(name) {
        Some(near) => Finding { label: format!("did you mean `{near}`?"), ..finding },
        None => finding.help("`forebay explain` lists the rules"),
    }
}

/// Rules that `lint:` in `forebay.yaml` names and that are not there, or cannot be lowered.
fn report_unknown(draft: &Draft, findings: &mut Vec<Finding>) {
    let Some(written) = &draft.runtime_written else { return };
    let (rules, asked) = (draft.types.rules(), &draft.runtime.lint);
    let lists = [("deny", &asked.deny), ("warn", &asked.warn)];
    for (list, names) in lists {
        for (index, name) in names.iter().enumerate() {
            let span = written.at(&format!("lint.{list}[{index}]")).span;
            match rules.find(name) {
                None => findings.push(unknown(name, span, rules)),
                Some(rule) if list == "warn" && !rule.can_be_allowed() => {
                    let message = format!("`{name}` cannot be a warning");
                    let label = "nothing can run with it";
                    findings.push(Finding::warning(&BAD_ALLOW, span, message, label));
                }
                Some(_) => (),
            }
        }
    }
}
