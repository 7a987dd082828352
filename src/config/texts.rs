//! The files that were read, so that a finding can show them.

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use forebay_sdk::Span;

use super::secrets;

/// The files of one load. A [`forebay_sdk::Span`] names one of them by its number.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    files: Vec<(String, Arc<str>)>,
    secrets: Vec<Span>,
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

    /// How many files there are. Their numbers are below it.
    pub fn count(&self) -> u32 {
        u32::try_from(self.files.len()).unwrap_or(u32::MAX)
    }

    /// The path of a file as users know it, relative to the folder.
    pub fn path(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("", |(path, _)| path)
    }

    /// Shows the files as those of a folder, for whoever sees several.
    pub fn move_below(&mut self, folder: &Path) {
        for (path, _) in &mut self.files {
            *path = folder.join(&*path).display().to_string();
        }
    }

    /// The text of a file.
    pub fn text(&self, file: u32) -> Arc<str> {
        self.files.get(file as usize).map_or_else(|| "".into(), |(_, text)| Arc::clone(text))
    }

    /// Never shows what stands there.
    pub fn hide(&mut self, secret: Span) {
        self.secrets.push(secret);
    }

    /// The text of a file as it may be shown: each byte of a secret is a star, so that every place
    /// stays where it is.
    pub fn shown(&self, file: u32) -> String {
        let text = self.text(file);
        let mut bytes = text.as_bytes().to_vec();
        let known = self.secrets.iter().filter(|secret| secret.file == file);
        let suspicious = self.suspicious.get(file as usize);
        let suspicious = suspicious.map(|places| places.get_or_init(|| secrets::places(&text)));
        let suspicious = suspicious.into_iter().flatten().cloned();
        for secret in known.map(|secret| secret.range()).chain(suspicious) {
            let hidden = bytes.get_mut(secret).into_iter().flatten();
            hidden.filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
        }
        // Spans hold whole characters, so what is left is text.
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// The line and column of a byte, both from 1. Columns count characters.
    pub fn line_column(&self, file: u32, at: usize) -> (usize, usize) {
        let text = self.text(file);
        let before = text.get(..at).unwrap_or(&text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// All files, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), &**text))
    }
}
