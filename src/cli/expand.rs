//! `forebay plan --expand`: what stands for several nodes, as the nodes that it is taken apart into.

use std::path::Path;

use forebay_sdk::{Role, Value};
use forebay_yaml::Yaml;

use super::folder::{process_environment, types};
use crate::config::{self, Part};

/// The nodes and connections of a folder that were not written as they are, as YAML.
pub(super) fn expanded(folder: &Path) -> anyhow::Result<String> {
    let mut draft = config::load(folder, types(), &process_environment)?;
    draft.texts.see_from(folder);
    let mut text = String::new();
    for pipeline in &draft.pipelines {
        let made =
            draft.parts.iter().filter(|it| it.origin.is_some() && it.pipeline == pipeline.name);
        let made: Vec<&Part> = made.collect();
        if made.is_empty() {
            continue;
        }
        text += &format!("# {}\n", draft.texts.path(pipeline.file));
        for role in Role::ALL {
            let mut parts = made.iter().filter(|part| part.role == role).peekable();
            if parts.peek().is_some() {
                text += &format!("{}:\n", role.section());
            }
            for part in parts {
                text += &format!("  {}: {}\n", part.short, written(part));
            }
        }
    }
    if text.is_empty() {
        text += "all nodes are written as they are\n";
    }
    Ok(text)
}

/// All settings of a part in one line. Those of a connection stand where the whole is written, and some of
/// them are secret.
fn written(part: &Part) -> String {
    if part.role == Role::Connection {
        return format!("{{ type: {} }}   # with the settings that stand there", part.type_name);
    }
    let keys = |yaml: &Yaml| {
        let entries = yaml.entries().unwrap_or_default().iter();
        entries.map(|entry| (entry.key.clone(), shown(&entry.value))).collect::<Vec<_>>()
    };
    let mut all = keys(&part.common_settings);
    all.extend(keys(&part.settings));
    let all = all.into_iter().map(|(key, value)| format!("{key}: {value}"));
    format!("{{ {} }}", all.collect::<Vec<_>>().join(", "))
}

/// A value, with variables as they are written.
fn shown(yaml: &Yaml) -> String {
    let mut yaml = yaml.clone();
    yaml.each_scalar(&mut |scalar, _| {
        if let Some(template) = scalar.template.take() {
            scalar.text = template;
        }
    });
    flow(&yaml.to_value())
}

fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
