//! A copy of the files that `run` accepted last, for `plan` to compare with.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use anyhow::Context;

use crate::config::Texts;

/// The folder below the data folder that holds the copy.
pub(super) fn folder(data: &Path) -> PathBuf {
    data.join("last-good")
}

/// Replaces the copy. Secrets are not among the texts that were read.
pub(super) fn save(data: &Path, texts: &Texts) -> anyhow::Result<()> {
    let (wanted, fresh) = (folder(data), data.join("last-good.new"));
    let saving = || format!("keeping a copy of the accepted files in {}", wanted.display());
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(saving)?;
    }
    fs::create_dir_all(&fresh).with_context(saving)?;
    // A password may stand in a pipeline file.
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)).with_context(saving)?;
    for (path, text) in texts.iter().filter(|(path, _)| is_inside(Path::new(path))) {
        let copy = fresh.join(path);
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent).with_context(saving)?;
        }
        fs::write(copy, text).with_context(saving)?;
    }
    if wanted.exists() {
        fs::remove_dir_all(&wanted).with_context(saving)?;
    }
    fs::rename(&fresh, &wanted).with_context(saving)
}

/// A script may be read from outside the folder; it is not copied there.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}
