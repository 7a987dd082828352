//! Mistakes of the field, each in a folder of `tests/broken` with what lint says about it in
//! `lint.txt`. Read those as the person at the site would. `UPDATE=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::Path, process::Stdio};

use crate::support::program;

#[test]
fn every_mistake_reads_as_it_was_reviewed() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut stale = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(all).unwrap() {
        let folder = entry.unwrap().path();
        let said = lint(&folder);
        assert!(!said.contains("hunter2"), "{} shows a password", folder.display());
        assert!(!said.contains("no findings"), "{} has no mistake", folder.display());
        let expected = folder.join("lint.txt");
        count += 1;
        if fs::read_to_string(&expected).unwrap_or_default() == said {
            continue;
        }
        match std::env::var_os("UPDATE") {
            Some(_) => fs::write(&expected, said).unwrap(),
            None => stale.push(format!("{}:\n{said}", folder.display())),
        }
    }
    assert!(stale.is_empty(), "UPDATE=1 rewrites what has changed:\n{}", stale.join("\n"));
    assert!(count >= 30, "{count} are left");
}

/// What lint prints, and how it ends.
fn lint(folder: &Path) -> String {
    let mut command = program();
    command.args(["lint", "."]).current_dir(folder).stdin(Stdio::null());
    let output = command.env_remove("FOREBAY_BROKEN_SITE").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    // Wherever this is checked out.
    let said = said.replace(&folder.display().to_string(), "/etc/forebay");
    format!("{said}exit code {}\n", output.status.code().unwrap())
}
