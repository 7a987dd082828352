//! Text to graph: a folder of files becomes a [`Draft`], and a draft without errors a [`Graph`].
//! Every key and value keeps its place.

pub mod buffer;
pub mod draft;
pub mod folder;
pub mod graph;
mod inside;
mod overlooked;
pub mod pipeline;
pub mod runtime;
mod secrets;
#[cfg(test)]
pub(crate) mod tests;
pub mod texts;
pub mod types;
pub mod variables;
pub mod watch;

use std::path::Path;

use forebay_sdk::{
    Finding, Span,
    yaml::{self, Limits},
};

pub use self::{
    buffer::{Batch, Buffer, Order, Store, WhenFull},
    draft::{Draft, Input, Part, Pipeline, Uses},
    folder::Folder,
    graph::{ConnectionSpec, Graph, Name, NodeSpec, Output},
    runtime::Runtime,
    texts::Texts,
    types::{NodeTypeEntry, Types},
    variables::Environment,
};

/// Reads a folder. What is wrong with its files is among the draft's findings; a folder that cannot
/// be read is an error. `${file:path}` is relative to `files`, which is the folder itself but for
/// a copy of it.
pub fn load(
    root: &Path,
    files: &Path,
    types: &Types,
    environment: Environment<'_>,
) -> anyhow::Result<Draft> {
    let folder = Folder::open(root, files)?;
    let mut draft = Draft::new();
    runtime::read(&folder, environment, &mut draft);
    for path in &folder.pipelines {
        read_pipeline(path, &folder, types, environment, &mut draft);
    }
    draft.findings.extend(folder.overlooked());
    draft.watched.extend(folder.watched);
    draft.findings.extend(folder.findings);
    Ok(draft)
}

/// Reads a pipeline that stands in a larger text, such as an example in Markdown: `text` is what
/// is shown, and `yaml` the same with blanks for all that is no part of the pipeline. Names of
/// files are relative to `beside`.
pub fn load_part(
    shown: &str,
    text: &str,
    yaml: &str,
    beside: &Path,
    types: &Types,
    environment: Environment<'_>,
) -> Draft {
    let folder = Folder::empty(beside);
    let mut draft = Draft::new();
    let file = draft.texts.add(shown.to_owned(), text.to_owned());
    // The whole text may be longer than a pipeline, and each part of it is read by itself.
    let limits =
        Limits { size_bytes: yaml.len().max(Limits::default().size_bytes), ..Limits::default() };
    if let Some(mut tree) = yaml::parse(yaml, file, limits, &mut draft.findings) {
        variables::fill(&mut tree, &folder, environment, &mut draft);
        pipeline::read(tree, file, &beside.join("example.yaml"), &folder, types, &mut draft);
    }
    draft
}

fn read_pipeline(
    path: &Path,
    folder: &Folder,
    types: &Types,
    environment: Environment<'_>,
    draft: &mut Draft,
) {
    let Some((file, tree)) = read_tree(path, folder, environment, draft) else { return };
    pipeline::read(tree, file, path, folder, types, draft);
}

/// Reads one file as a tree and fills in its variables.
fn read_tree(
    path: &Path,
    folder: &Folder,
    environment: Environment<'_>,
    draft: &mut Draft,
) -> Option<(u32, yaml::Yaml)> {
    let limits = Limits::default();
    let shown = folder.shown(path);
    let text = match folder::read_text(path, limits.size_bytes) {
        Ok(text) => text,
        Err(problem) => {
            let file = draft.texts.add(shown.clone(), String::new());
            let message = format!("{shown} {}", problem.message);
            let nowhere = Span::new(file, 0..0);
            draft.findings.push(Finding::error(problem.rule, nowhere, message, problem.label));
            return None;
        }
    };
    let file = draft.texts.add(shown, text);
    let text = draft.texts.text(file);
    let mut tree = yaml::parse(&text, file, limits, &mut draft.findings)?;
    variables::fill(&mut tree, folder, environment, draft);
    Some((file, tree))
}
