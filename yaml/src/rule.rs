//! A rule that findings name. Its page is its explanation, its documentation and its test in one.

use std::{fmt, ptr};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The set of files is refused.
    Error,
    /// The set runs, and probably not as meant.
    Warning,
}

/// A rule: what a finding is an instance of.
///
/// Whoever finds it declares it, in a `static` beside its page.
pub struct Rule {
    /// Names the problem in words, and reads well behind "allow".
    pub name: &'static str,
    /// The page as written: `# name`, `Level: …`, one sentence, and below headings why, a bad
    /// example with its findings, and a good one.
    pub page: &'static str,
}

impl Rule {
    /// Declares a rule; put it in a `static`. The page is a file beside it, by `include_str!`.
    pub const fn new(name: &'static str, page: &'static str) -> Rule {
        Rule { name, page }
    }

    /// How bad its findings are.
    pub fn level(&self) -> Level {
        if self.header().0.starts_with("error") { Level::Error } else { Level::Warning }
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

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        ptr::eq(self, other) || self.name == other.name
    }
}

impl Eq for Rule {}

impl PartialOrd for Rule {
    fn partial_cmp(&self, other: &Rule) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rule {
    fn cmp(&self, other: &Rule) -> std::cmp::Ordering {
        self.name.cmp(other.name)
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
