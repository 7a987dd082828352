//! Pipelines that stand as examples in Markdown files.
//!
//! Each block of lines fenced as `yaml` that has a section of a pipeline is one pipeline. It is
//! checked in its place, so that findings point into the Markdown file.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::Context;
use forebay_sdk::{Finding, Role, Rule};

use crate::{
    cli::folder::{process_environment, types},
    config::{self, Draft, folder},
    lint::Checked,
    rules,
};

/// Documentation, not a database.
const MOST_FILE_BYTES: usize = 4 << 20;
/// At most this many files of a folder are read.
const MOST_FILES: usize = 10_000;
/// At most so many folders inside each other are looked through.
const DEEPEST: usize = 16;

/// What an example leaves to files that it does not show.
static ELSEWHERE: [&Rule; 6] = [
    &rules::UNSET_VARIABLE,
    &rules::SCRIPT_MISSING,
    &rules::UNKNOWN_CONNECTION,
    &rules::UNUSED_CONNECTION,
    &rules::UNREAD_NODE,
    &rules::UNREAD_OUTPUT,
];
/// What is said of comments, those of other examples included.
static COMMENTS: [&Rule; 3] = [&rules::BAD_ALLOW, &rules::UNKNOWN_RULE, &rules::USELESS_ALLOW];

pub(super) fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "md" || end == "markdown")
}

/// The Markdown files below a folder, sorted. Hidden folders are left out.
pub(super) fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut ahead = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = ahead.pop() {
        let reading = || format!("reading {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let (path, kind) = (entry.path(), entry.file_type().with_context(reading)?);
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && !is_hidden && depth < DEEPEST {
                ahead.push((path, depth + 1));
            } else if !kind.is_dir() && is_markdown(&path) {
                files.push(path);
            }
        }
        if files.len() > MOST_FILES {
            anyhow::bail!("{} holds more than {MOST_FILES} Markdown files", folder.display());
        }
    }
    files.sort();
    Ok(files)
}

/// Checks the examples of a file, each by itself.
pub(super) fn check(path: &Path, lint: impl Fn(Draft) -> Checked) -> anyhow::Result<Vec<Checked>> {
    let shown = path.display().to_string();
    let text = folder::read_text(path, MOST_FILE_BYTES)
        .map_err(|problem| anyhow::anyhow!("{shown} {}: {}", problem.message, problem.label))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let check = |block: Range<usize>| {
        let has_sources = has_section(&text[block.clone()], Role::Source.section());
        let yaml = blanked(&text, block.clone());
        let draft = config::load_part(&shown, &text, &yaml, beside, types(), &process_environment);
        let mut checked = lint(draft);
        checked.findings.retain(|finding| {
            let is_inside = finding.span.is_some_and(|span| block.contains(&span.range().start));
            let is_other = COMMENTS.contains(&finding.rule) && !is_inside;
            !is_elsewhere(finding, has_sources) && !is_other
        });
        checked
    };
    Ok(pipelines(&text).into_iter().map(check).collect())
}

fn is_elsewhere(finding: &Finding, has_sources: bool) -> bool {
    ELSEWHERE.contains(&finding.rule) || *finding.rule == rules::UNKNOWN_NODE && !has_sources
}

/// The blocks of lines that are pipelines, without their fences.
fn pipelines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // The fence that is open, whether its lines may be a pipeline, and where they begin.
    let mut open: Option<(&str, bool, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, end) = (at, at + line.len());
        at = end;
        let trimmed = line.trim();
        match open {
            Some((fence, is_yaml, inside)) => {
                let closes = trimmed.starts_with(fence)
                    && trimmed.trim_start_matches(&fence[..1]).is_empty();
                if closes {
                    found.extend(Some(inside..start).filter(|_| is_yaml));
                    open = None;
                }
            }
            None => {
                let Some(fence) = fence(trimmed) else { continue };
                let mut words = trimmed[fence.len()..].split([' ', ',', '{', '}', '.']);
                let mut words = words.by_ref().filter(|word| !word.is_empty());
                let is_yaml = words.next().is_some_and(|word| word == "yaml" || word == "yml");
                let is_ignored = words.any(|word| word == "ignore");
                open = Some((fence, is_yaml && !is_ignored, end));
            }
        }
    }
    found.retain(|block| {
        Role::ALL.iter().any(|role| has_section(&text[block.clone()], role.section()))
    });
    found
}

/// The ticks or tildes that a line begins with, when they open a block.
fn fence(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    (length >= 3).then(|| &line[..length])
}

/// Whether a key stands as far to the left as the first line that says something.
fn has_section(block: &str, section: &str) -> bool {
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let Some(first) = block.lines().find(says) else { return false };
    let indent = &first[..first.len() - first.trim_start().len()];
    block.lines().any(|line| {
        let key = line.strip_prefix(indent).and_then(|line| line.strip_prefix(section));
        key.is_some_and(|rest| rest.starts_with(':'))
    })
}

/// The text with blanks for everything outside of a range, so that every place stays where it is.
fn blanked(text: &str, keep: Range<usize>) -> String {
    let blanks = |text: &str| {
        let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
        text.bytes().map(blank).collect::<String>()
    };
    [blanks(&text[..keep.start]), text[keep.clone()].to_owned(), blanks(&text[keep.end..])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = pipelines(text).into_iter().map(|block| &text[block]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn blocks_that_look_like_a_pipeline_are_found() {
        check("# x\n```yaml\nsources:\n```\ntext\n", &["sources:\n"]);
        check("~~~~ yml title=x\n# first\nsinks: {}\n~~~\n~~~~~\n", &["# first\nsinks: {}\n~~~\n"]);
        check(
            "- item\n  ```yaml\n  connections:\n    a: 1\n  ```\n",
            &["  connections:\n    a: 1\n"],
        );
        check("```yaml\na:\n  sources:\n```\n", &[]);
        check("```json\nsources:\n```\n```yaml,ignore\nsources:\n```\n", &[]);
        // A fence inside another, and one that is never closed.
        check("````\n```yaml\nsources:\n```\n````\n", &[]);
        check("```yaml\nsources:\n", &[]);
    }

    #[test]
    fn what_is_left_out_leaves_every_place_where_it_is() {
        assert_eq!(blanked("aü\nb\nc\n", 4..6), "   \nb\n \n");
    }
}
