//! Fills in `${env:NAME}`, `${env:NAME:-default}` and `${file:path}`.
//!
//! This happens after parsing, so a value can never change the structure of a file. Blocks of
//! lines are left alone: a script writes `${x}` for its own purposes.
//!
//! A variable that is empty is one that is not set, as in a shell: who wants an empty text writes
//! `${env:NAME:-}`. In quotes a value is text; without, it means what it would mean there.

use std::path::Path;

use forebay_sdk::{Finding, Span};
use forebay_yaml::{Scalar, Style, Yaml};

use super::{
    draft::Draft,
    folder::{self, Folder},
};
use crate::rules::UNSET_VARIABLE;

/// Looks up a variable of the environment.
pub type Environment<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// A secret is a line or a certificate, not a database.
const MOST_FILE_BYTES: usize = 64 * 1024;

pub(super) fn fill(
    tree: &mut Yaml,
    folder: &Folder,
    environment: Environment<'_>,
    draft: &mut Draft,
) {
    tree.each_scalar(&mut |scalar, span| {
        if scalar.text.contains("${") && matches!(scalar.style, Style::Plain | Style::Quoted) {
            fill_scalar(scalar, span, folder, environment, draft);
        }
    });
}

fn fill_scalar(
    scalar: &mut Scalar,
    span: Span,
    folder: &Folder,
    environment: Environment<'_>,
    draft: &mut Draft,
) {
    let template = scalar.text.clone();
    let mut filled = String::new();
    let mut rest = template.as_str();
    let mut is_template = false;
    while let Some(at) = rest.find("${") {
        // `$${` stands for the text `${`.
        if rest[..at].ends_with('$') {
            filled += &rest[..at - 1];
            filled += "${";
            rest = &rest[at + 2..];
            continue;
        }
        filled += &rest[..at];
        let Some(length) = rest[at..].find('}') else {
            let message = "a variable is not closed";
            draft.findings.push(Finding::error(&UNSET_VARIABLE, span, message, "expected a `}`"));
            scalar.template = Some(template);
            return;
        };
        let name = &rest[at + 2..at + length];
        rest = &rest[at + length + 1..];
        is_template = true;
        match value(name, folder, environment, draft) {
            Ok(value) => {
                filled += &value;
                draft.filled.note(span, name, value);
            }
            Err(finding) => {
                draft.findings.push(Finding { span: Some(span), ..*finding });
                scalar.template = Some(template);
                return;
            }
        }
    }
    filled += rest;
    scalar.text = filled;
    if is_template {
        scalar.template = Some(template);
    }
}

fn value(
    name: &str,
    folder: &Folder,
    environment: Environment<'_>,
    draft: &mut Draft,
) -> Result<String, Box<Finding>> {
    let unset =
        |message: String, label: String| Finding::error(&UNSET_VARIABLE, None, message, label);
    match name.split_once(':') {
        Some(("env", name)) => {
            let (name, default) = match name.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (name, None),
            };
            let value = environment(name);
            let state = if value.is_some() { "empty" } else { "not set" };
            value.filter(|value| !value.is_empty()).or(default.map(str::to_owned)).ok_or_else(
                || {
                    unset(format!("variable `{name}` is {state}"), String::new())
                        .help(format!("set it, or give a default: ${{env:{name}:-…}}"))
                        .into()
                },
            )
        }
        Some(("file", name)) => {
            let path = folder.files.join(name);
            draft.watched.file(&path);
            let shown = folder.shown(&path);
            let text = folder::read_text(&path, MOST_FILE_BYTES).map_err(|problem| {
                // Beside the reason, so that it is said in every format.
                let label = format!("{}; {}", problem.label, looked_for(name, &path, folder));
                unset(format!("file {shown} {}", problem.message), label)
            })?;
            draft.note_unshown(&text);
            if text.trim().is_empty() {
                return Err(unset(format!("file {shown} is empty"), String::new()).into());
            }
            Ok(text.trim_end_matches(['\n', '\r']).to_owned())
        }
        _ => {
            let bare = name.split(':').next_back().unwrap_or_default();
            let label = "expected `${env:NAME}` or `${file:path}`".to_owned();
            let help =
                format!("`${{env:{bare}}}` reads the environment; `$${{` writes the text `${{`");
            Err(unset(format!("`${{{name}}}` names no variable"), label).help(help).into())
        }
    }
}

/// Where a file was looked for, and where one of that name is. Names are relative to the folder that is
/// run, so that a pipeline can move.
fn looked_for(name: &str, path: &Path, folder: &Folder) -> String {
    let whole = folder::whole(path);
    let beside = folder.place.join(name);
    match beside != path && beside.is_file() {
        true => {
            format!("looked for {}; there is one in {}", whole.display(), folder.shown(&beside))
        }
        false => format!("looked for {}", whole.display()),
    }
}
