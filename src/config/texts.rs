//! The files that were read, so that a finding can show them.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use forebay_sdk::{Finding, Span};

use super::{
    filled, folder,
    secrets::{self, Known},
};

/// The files of one load. A [`forebay_sdk::Span`] names one of them by its number.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    files: Vec<(String, Arc<str>)>,
    /// Where they are.
    below: PathBuf,
    /// Those that are compiled in, and of no folder.
    native: BTreeSet<u32>,
    secrets: Vec<Span>,
    /// Those that could not be read as YAML.
    not_read: BTreeSet<u32>,
    /// What looks secret in each file, from when it is first shown.
    suspicious: Vec<OnceLock<Vec<Range<usize>>>>,
}

impl Texts {
    /// Keeps a file; returns its number.
    pub fn add(&mut self, path: String, text: String) -> u32 {
        self.files.push((path, text.into()));
        self.suspicious.push(OnceLock::new());
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The number of a file that is kept already.
    pub fn find(&self, path: &str) -> Option<u32> {
        (0..).zip(&self.files).find(|(_, (other, _))| other == path).map(|(file, _)| file)
    }

    /// Keeps a text that is compiled in; returns its number.
    pub fn add_native(&mut self, path: String, text: &str) -> u32 {
        let file = self.add(path, text.to_owned());
        self.native.insert(file);
        file
    }

    /// How many files there are. Their numbers are below it.
    pub fn count(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX)
    }

    /// The path of a file as users know it, relative to the folder.
    pub fn path(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |(path, _)| path)
    }

    /// Shows the files below this folder, as it is called from where the user stands.
    pub fn see_from(&mut self, folder: &Path) {
        self.below = folder.to_owned();
    }

    /// The path of a file from where the user stands.
    pub fn seen(&self, file: u32) -> String {
        let path = Path::new(self.path(file));
        if self.native.contains(&file) || [".", "./"].map(Path::new).contains(&&*self.below) {
            return path.display().to_string();
        }
        let whole = self.below.join(path);
        // From inside of the folder, the way goes out of it and back.
        let inside = || {
            let here = std::env::current_dir().ok()?;
            Some(folder::whole(&whole).strip_prefix(here).ok()?.to_owned())
        };
        let is_beside = self.below.starts_with("..");
        let shown = inside().filter(|_| is_beside).unwrap_or(whole);
        shown.display().to_string()
    }

    /// The text of a file.
    pub fn text(&self, file: u32) -> Arc<str> {
        self.files.get(file as usize).map_or_else(|| "".into(), |(_, text)| Arc::clone(text))
    }

    /// Never shows what stands there, nor what belongs to it in the same line: a tag, an anchor, a
    /// comment that was perhaps meant as the value.
    pub fn hide(&mut self, secret: Span) {
        let text = self.text(secret.file);
        let range = secret.range();
        let Some(before) = text.get(..range.start) else { return };
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        let of_value = before[line..].rfind([' ', '[', '{', ',']).map_or(0, |at| at + 1);
        let begin = match before[line + of_value..].starts_with(['!', '&']) {
            true => line + of_value,
            false => match before[line..].trim_end().rfind(['!', '&']) {
                Some(sign) if !before[line + sign..].contains(':') => line + sign,
                _ => range.start,
            },
        };
        let behind = text.get(range.end..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        // Where nothing stands, what was meant may be a comment or an anchor.
        let is_comment = behind.starts_with([' ', '\t']) && behind.trim_start().starts_with('#');
        let end = match range.is_empty() || is_comment {
            true => range.end + behind.len(),
            false => range.end,
        };
        self.secrets.push(Span::new(secret.file, begin..end));
    }

    /// Takes note that a file is no YAML, so that nothing but its words tells of secrets.
    pub fn not_read(&mut self, file: u32) {
        self.not_read.insert(file);
    }

    /// Never shows the second value of a key either, when the first may be secret.
    pub fn hide_second(&mut self, first: Span, second: Span) {
        let text = self.text(second.file);
        let line = lines_of(&text, first.range());
        let key = text.get(second.range()).unwrap_or_default();
        let is_secret = secrets::names_url(key)
            || self.hidden(first.file).iter().any(|secret| line.contains(&secret.start));
        if is_secret {
            let end = second.range().end;
            self.hide(Span::new(second.file, end..end));
        }
    }

    /// Takes secrets out of what a finding says: those that stand in the lines that it speaks of.
    pub fn hide_in(&self, finding: &mut Finding) {
        let context = finding.context.iter().map(|(span, _)| *span);
        let edited = finding.edit.as_ref().map(|edit| edit.span);
        let spans: BTreeSet<Span> = finding.span.into_iter().chain(context).chain(edited).collect();
        for span in spans {
            let text = self.text(span.file);
            let lines = lines_of(&text, span.range());
            let overlaps =
                |secret: &Range<usize>| secret.start < lines.end && lines.start < secret.end;
            for secret in self.hidden(span.file).into_iter().filter(overlaps) {
                finding.edit.take_if(|edit| {
                    let edited = edit.span.range();
                    edited.start < secret.end && secret.start < edited.end
                });
                for secret in text.get(secret).unwrap_or_default().lines() {
                    // Where a whole line is secret, so is what stands behind its key.
                    let behind = secret.split_once(": ").map_or("", |(_, behind)| behind);
                    filled::replace_in(finding, bare(secret), "***");
                    filled::replace_in(finding, bare(behind), "***");
                    // A sign in front of it had a part taken for something else.
                    let is_signed = |word: &&str| word.starts_with(['*', '&', '!']);
                    for word in secret.split([' ', ',', '{', '}', '[', ']']).filter(is_signed) {
                        filled::replace_in(finding, bare(word), "***");
                    }
                }
            }
        }
    }

    /// What is never shown of a file.
    fn hidden(&self, file: u32) -> Vec<Range<usize>> {
        let text = self.text(file);
        let known = match self.not_read.contains(&file) {
            true => Known::Words,
            false => Known::Yaml,
        };
        let suspicious = self.suspicious.get(file as usize);
        let suspicious = suspicious.map(|all| all.get_or_init(|| secrets::places(&text, known)));
        let secrets = self.secrets.iter().filter(|secret| secret.file == file);
        let secrets = secrets.map(|secret| secret.range());
        secrets.chain(suspicious.into_iter().flatten().cloned()).collect()
    }

    /// The text of a file as it may be shown: each byte of a secret is a star, so that every place
    /// stays where it is.
    pub fn shown(&self, file: u32) -> String {
        let text = self.text(file);
        let mut bytes = text.as_bytes().to_vec();
        for secret in self.hidden(file) {
            let hidden = bytes.get_mut(secret).into_iter().flatten();
            hidden.filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
        }
        // Spans hold whole characters, so what is left is text.
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// The line and column of a byte, both from 1. Columns count characters.
    pub fn line_column(&self, file: u32, at: usize) -> (usize, usize) {
        line_column(&self.text(file), at)
    }

    /// All files that are not compiled in, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = (0..).zip(&self.files).filter(|(file, _)| !self.native.contains(file));
        files.map(|(_, (path, text))| (path.as_str(), &**text))
    }
}

/// The line and column of a byte, both from 1. Columns count characters.
pub fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The lines that hold a range.
fn lines_of(text: &str, range: Range<usize>) -> Range<usize> {
    let start = text.get(..range.start).unwrap_or_default();
    let start = start.rfind('\n').map_or(0, |newline| newline + 1);
    let rest = text.get(range.end..).unwrap_or_default();
    start..range.end + rest.find('\n').unwrap_or(rest.len())
}

/// A value without its quotes, and without a sign that was taken for something else.
fn bare(written: &str) -> &str {
    written
        .trim()
        .trim_matches(['"', '\''])
        .trim_start_matches(['!', '&', '*', '|', '>', '@', '%', '`', '#', ' '])
}
