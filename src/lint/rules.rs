//! The rules by name. A rule's page is its explanation, its documentation and its test in one.

#[cfg(test)]
mod tests;

use forebay_sdk::{Level, finding::nearest};

/// A rule that findings name.
pub struct Rule {
    /// Names the problem in words, and reads well behind "allow".
    pub name: &'static str,
    /// The page as written: what is wrong, why, a bad example with its findings, a good one.
    pub page: &'static str,
}

/// All rules, by name.
pub const RULES: [Rule; 57] = [
    rule("bad-allow", include_str!("rules/bad-allow.md")),
    rule("bad-name", include_str!("rules/bad-name.md")),
    rule("bad-topic", include_str!("rules/bad-topic.md")),
    rule("claimed-twice", include_str!("rules/claimed-twice.md")),
    rule("cycle", include_str!("rules/cycle.md")),
    rule("deprecated-name", include_str!("rules/deprecated-name.md")),
    rule("drops-when-full", include_str!("rules/drops-when-full.md")),
    rule("duplicate-connection", include_str!("rules/duplicate-connection.md")),
    rule("duplicate-key", include_str!("rules/duplicate-key.md")),
    rule("duplicate-node", include_str!("rules/duplicate-node.md")),
    rule("duplicate-pipeline", include_str!("rules/duplicate-pipeline.md")),
    rule("empty-pipeline", include_str!("rules/empty-pipeline.md")),
    rule("empty-setting", include_str!("rules/empty-setting.md")),
    rule("ignored-file", include_str!("rules/ignored-file.md")),
    rule("literal-placeholder", include_str!("rules/literal-placeholder.md")),
    rule("lost-on-restart", include_str!("rules/lost-on-restart.md")),
    rule("lowered-qos", include_str!("rules/lowered-qos.md")),
    rule("missing-setting", include_str!("rules/missing-setting.md")),
    rule("never-receives", include_str!("rules/never-receives.md")),
    rule("no-input", include_str!("rules/no-input.md")),
    rule("one-based-address", include_str!("rules/one-based-address.md")),
    rule("open-broker", include_str!("rules/open-broker.md")),
    rule("overlapping-filters", include_str!("rules/overlapping-filters.md")),
    rule("plain-secret", include_str!("rules/plain-secret.md")),
    rule("polls-too-fast", include_str!("rules/polls-too-fast.md")),
    rule("port-mismatch", include_str!("rules/port-mismatch.md")),
    rule("register-overlap", include_str!("rules/register-overlap.md")),
    rule("relative-path", include_str!("rules/relative-path.md")),
    rule("repeated-filter", include_str!("rules/repeated-filter.md")),
    rule("reserved-topic", include_str!("rules/reserved-topic.md")),
    rule("script-missing", include_str!("rules/script-missing.md")),
    rule("script-syntax", include_str!("rules/script-syntax.md")),
    rule("session-without-id", include_str!("rules/session-without-id.md")),
    rule("setting-type", include_str!("rules/setting-type.md")),
    rule("setting-value", include_str!("rules/setting-value.md")),
    rule("unconfirmed-write", include_str!("rules/unconfirmed-write.md")),
    rule("undeclared-output", include_str!("rules/undeclared-output.md")),
    rule("unencrypted", include_str!("rules/unencrypted.md")),
    rule("unknown-connection", include_str!("rules/unknown-connection.md")),
    rule("unknown-field", include_str!("rules/unknown-field.md")),
    rule("unknown-function", include_str!("rules/unknown-function.md")),
    rule("unknown-node", include_str!("rules/unknown-node.md")),
    rule("unknown-output", include_str!("rules/unknown-output.md")),
    rule("unknown-rule", include_str!("rules/unknown-rule.md")),
    rule("unknown-section", include_str!("rules/unknown-section.md")),
    rule("unknown-setting", include_str!("rules/unknown-setting.md")),
    rule("unknown-type", include_str!("rules/unknown-type.md")),
    rule("unknown-variable", include_str!("rules/unknown-variable.md")),
    rule("unproduced-field", include_str!("rules/unproduced-field.md")),
    rule("unread-node", include_str!("rules/unread-node.md")),
    rule("unread-output", include_str!("rules/unread-output.md")),
    rule("unreadable-file", include_str!("rules/unreadable-file.md")),
    rule("unset-variable", include_str!("rules/unset-variable.md")),
    rule("unused-connection", include_str!("rules/unused-connection.md")),
    rule("useless-allow", include_str!("rules/useless-allow.md")),
    rule("yaml-syntax", include_str!("rules/yaml-syntax.md")),
    rule("yaml-too-big", include_str!("rules/yaml-too-big.md")),
];

const fn rule(name: &'static str, page: &'static str) -> Rule {
    Rule { name, page }
}

impl Rule {
    /// How bad its findings are.
    pub fn level(&self) -> Level {
        match self.header().0.starts_with("error") {
            true => Level::Error,
            false => Level::Warning,
        }
    }

    /// Whether the folder can run all the same, so that a comment may switch a finding off. An
    /// error that leaves nothing to run never can.
    pub fn can_be_allowed(&self) -> bool {
        self.level() == Level::Warning || self.header().0.contains("can be allowed")
    }

    /// What is wrong, in one sentence.
    pub fn summary(&self) -> &'static str {
        self.header().1
    }

    /// What stands below a heading of the page: `Why`, `Bad`, `Output` or `Good`.
    pub fn section(&self, heading: &str) -> Option<&'static str> {
        let sections = self.page.split("\n## ");
        let mut found = sections.filter_map(|section| section.split_once('\n'));
        found.find(|(title, _)| *title == heading).map(|(_, text)| text)
    }

    /// The files of an example, `Bad` or `Good`: path and text. A block is
    /// `pipelines/example.yaml` unless a path stands behind its language.
    pub fn files(&self, heading: &str) -> Vec<(&'static str, String)> {
        const FENCE: &str = "```";
        let mut files: Vec<(&str, String)> = Vec::new();
        let mut inside = false;
        for line in self.section(heading).unwrap_or_default().split_inclusive('\n') {
            match (line.strip_prefix(FENCE), inside) {
                (Some(words), false) => {
                    let path = words.trim().split_once(' ').map(|(_, path)| path);
                    files.push((path.unwrap_or("pipelines/example.yaml"), String::new()));
                    inside = true;
                }
                (Some(_), true) => inside = false,
                (None, true) => files.last_mut().into_iter().for_each(|(_, text)| *text += line),
                (None, false) => (),
            }
        }
        files
    }

    /// What stands behind `Level:`, and the sentence below it.
    fn header(&self) -> (&'static str, &'static str) {
        let mut lines = self.page.lines().filter(|line| !line.is_empty()).skip(1);
        let level = lines.next().unwrap_or_default();
        (level.trim_start_matches("Level: "), lines.next().unwrap_or_default())
    }
}

/// The rule of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// The rule that was probably meant.
pub fn near(name: &str) -> Option<&'static str> {
    nearest(name, RULES.iter().map(|rule| rule.name))
}
