//! Plays back a recording through the pipelines of a folder.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use forebay_sdk::{Message, Role, finding::nearest};

use super::{
    case::{Expected, Test},
    recording::Recording,
    run::{How, run},
    scene::Scene,
};
use crate::{
    cli::{
        folder::{check, process_environment},
        output::{print, use_color},
    },
    config::Name,
    lint::{
        Checked,
        report::{Format, render},
    },
};

/// So long it goes on behind the last message.
const REST: Duration = Duration::from_secs(60);

/// A message that went into a sink.
pub struct Replayed {
    pub at: Duration,
    pub sink: Name,
    pub message: Message,
}

/// What goes into the sinks of a folder, in the order of time. None when the folder does not lint; then that is said.
pub fn replay(root: &Path, recording: &Path) -> anyhow::Result<Option<Vec<Replayed>>> {
    let reading = || format!("reading {}", recording.display());
    let recording = Recording::read(recording).with_context(reading)?;
    let Checked { graph, findings, texts, .. } = check(root, &process_environment)?;
    let Some(graph) = graph else {
        print(&render(&findings, &texts, Format::Full, use_color(&std::io::stdout())))?;
        return Ok(None);
    };
    let pipelines = graph.nodes.keys().filter_map(|name| name.split('/').next());
    let mut pipelines: Vec<String> = pipelines.map(str::to_owned).collect();
    pipelines.dedup();
    let mut scene = Scene::new(&graph, pipelines, None);
    let (mut replays, mut last) = (Vec::new(), Duration::ZERO);
    for (node, sent) in recording.nodes() {
        let Some(name) = scene.graph.nodes.get_key_value(node).map(|(name, _)| Arc::clone(name))
        else {
            let near = nearest(node, graph.nodes.keys().map(|name| &**name));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            bail!("{} has no node `{node}`{near}", root.display());
        };
        if scene.graph.nodes[&name].role != Role::Source {
            bail!("{node} is no source: record what sources emit");
        }
        last = last.max(sent.iter().map(|(at, ..)| *at).max().unwrap_or_default());
        replays.push((Arc::clone(&name), scene.played_back(&name, &sent)));
        scene.stand_in(&name, &Arc::default());
    }
    let test = Test {
        name: "replay".to_owned(),
        place: String::new(),
        beside: root.to_owned(),
        root: root.to_owned(),
        pipeline: String::new(),
        lasts: last + REST,
        scene,
        world: Vec::new(),
        steps: Vec::new(),
        replays,
        expected: Expected::default(),
    };
    let record = run(&test, How { seed: 1, updates: false, covers: false })?.record;
    let mut replayed = Vec::new();
    for (sink, entered) in record.entered {
        replayed.extend(entered.into_iter().map(|entered| Replayed {
            at: entered.at,
            sink: Arc::clone(&sink),
            message: entered.message,
        }));
    }
    replayed.sort_by_key(|one| one.at);
    Ok(Some(replayed))
}
