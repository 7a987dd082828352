//! Where the scripts of a running node stand, to tell the place at which one failed.

use std::sync::Arc;

use forebay_sdk::{At, units::form};
use forebay_yaml::Yaml;
use serde_json::Value;

use super::{
    inside::{file_of, inside},
    texts::{Texts, line_column},
};

/// The scripts of a node as they were written. Cloning shares them.
#[derive(Clone, Default)]
pub struct Places(Arc<[Written]>);

struct Written {
    setting: String,
    value: Yaml,
    /// The file it stands in, relative to the folder, and the text of that file.
    path: String,
    text: Arc<str>,
}

impl Places {
    /// Those among the settings.
    pub(super) fn of(settings: &Yaml, schema: &Value, texts: &Texts) -> Places {
        let scripts =
            settings.entries().into_iter().flatten().filter(|entry| is_script(schema, &entry.key));
        let written = scripts.filter_map(|entry| {
            let file = file_of(&entry.value)?;
            Some(Written {
                setting: entry.key.clone(),
                value: entry.value.clone(),
                path: texts.path(file).to_owned(),
                text: texts.text(file),
            })
        });
        Places(written.collect())
    }

    /// A place in the text of a setting: `pipelines/boiler.yaml:23:9`. Inside the text when its lines are not
    /// those of a file: `line 2, column 9`.
    pub fn tell(&self, setting: &str, at: &At) -> String {
        let is_it = |written: &&Written| at.file.is_none() && written.setting == setting;
        let written = self.0.iter().find(is_it);
        let found = written.and_then(|written| {
            let span = inside(&written.value, at.inside, &written.text)?;
            let (line, column) = line_column(&written.text, span.range().start);
            Some(format!("{}:{line}:{column}", written.path))
        });
        found.unwrap_or_else(|| at.to_string())
    }
}

/// Whether a setting holds a script, by the schema of its type.
pub(super) fn is_script(schema: &Value, setting: &str) -> bool {
    let pointer = format!("/properties/{setting}/format");
    schema.pointer(&pointer).is_some_and(|format| format == form::SCRIPT)
}
