//! `forebay demo`: the main job on defaults that are built in.
//!
//! A simulated meter and the embedded broker stand in for the plant; the example pipelines run
//! between them, and one more pipeline shows on the terminal what arrives at the broker.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use super::super::{
    folder::process_environment,
    init_log,
    output::{Ending, print},
    run,
    runtime::block_on,
};
use crate::plugins;

/// Run the example pipelines against a simulated meter and the embedded broker.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Put the example files here, and leave them there. [default: a folder that is removed at the end]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// The files under `pipelines/` of the repository.
const EXAMPLES: [(&str, &str); 9] = [
    ("power-meter.yaml", include_str!("../../../pipelines/power-meter.yaml")),
    ("scripts/load.rhai", include_str!("../../../pipelines/scripts/load.rhai")),
    ("load-by-phase.yaml", include_str!("../../../pipelines/load-by-phase.yaml")),
    ("plant-broker.yaml", include_str!("../../../pipelines/plant-broker.yaml")),
    ("bridge.yaml", include_str!("../../../pipelines/bridge.yaml")),
    ("heartbeat.yaml", include_str!("../../../pipelines/heartbeat.yaml")),
    ("modbus-on-request.yaml", include_str!("../../../pipelines/modbus-on-request.yaml")),
    ("scripts/rutos-request.rhai", include_str!("../../../pipelines/scripts/rutos-request.rhai")),
    ("scripts/rutos-answer.rhai", include_str!("../../../pipelines/scripts/rutos-answer.rhai")),
];

/// Subscribes like any other client, over TCP.
const VIEWER: &str = "\
description: Shows on the terminal what arrives at the broker.

connections:
  viewer: { type: mqtt, url: \"mqtt://${env:BROKER_LISTEN}\" }

sources:
  everything: { type: mqtt, connection: viewer, topics: ['#'], qos: 0 }

sinks:
  terminal: { type: log, from: everything }
";

pub(super) fn demo(arguments: Arguments) -> anyhow::Result<Ending> {
    let temporary = std::env::temp_dir().join(format!("forebay-demo-{}", std::process::id()));
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.clone());
    write_examples(&folder)?;
    let outcome = block_on(play(&folder));
    if arguments.folder.is_none() {
        fs::remove_dir_all(&temporary)
            .with_context(|| format!("removing {}", temporary.display()))?;
    }
    outcome
}

async fn play(folder: &Path) -> anyhow::Result<Ending> {
    const METER: &str = "sdm630";
    let devices = plugins::all().into_iter().flat_map(|plugin| plugin.devices);
    let device = devices.into_iter().find(|device| device.name == METER);
    let device = device.context("this build has no simulated meter")?;
    let meter = (device.start)().await.context("starting the simulated meter")?;
    let broker = format!("127.0.0.1:{}", free_port()?);
    print(&format!(
        "{}\n  meter   {}\n  broker  {broker}  (mosquitto_sub -p {} -t '#' -v shows the same)\n  files   {}  (edit one: it is reloaded)\nCtrl-C ends.\n\n",
        device.summary,
        meter.url,
        broker.trim_start_matches("127.0.0.1:"),
        folder.join("pipelines").display(),
    ))?;
    let (meter_url, data) = (meter.url.clone(), folder.join("data"));
    let environment = move |name: &str| match name {
        "METER_URL" => Some(meter_url.clone()),
        "BROKER_LISTEN" => Some(broker.clone()),
        // Under other topics on the same broker.
        "COMPANY_BROKER" => Some(format!("mqtt://{broker}")),
        _ => process_environment(name),
    };
    let arguments = run::Arguments { folder: folder.to_owned(), data: Some(data), poll: false };
    init_log::set(&crate::config::runtime::Log::default());
    tokio::select! {
        outcome = run::run_folder(arguments, Arc::new(environment)) => outcome,
        () = meter.serve => anyhow::bail!("the simulated meter stopped"),
    }
}

fn write_examples(folder: &Path) -> anyhow::Result<()> {
    for (name, text) in EXAMPLES.into_iter().chain([("viewer.yaml", VIEWER)]) {
        let path = folder.join("pipelines").join(name);
        let writing = || format!("writing {}", path.display());
        if path.exists() {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(writing)?;
        fs::write(&path, text).with_context(writing)?;
    }
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}
