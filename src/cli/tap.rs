//! `forebay tap`: the messages of a node as they pass.

use anyhow::bail;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    folder::DataFolder,
    output::{Ending, Format, Printed, is_reader_gone, print},
    runtime::block_on,
    status::nobody_there,
};
use crate::{api::listen, lint::report::printable};

/// Show the messages of a node as they pass, without slowing it.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The node, such as `boiler-room/meter`, or one of its outputs: `boiler-room/route.high`,
    /// `boiler-room/plant.errors`.
    node: String,
    /// What the node reads, not what comes out of it. Of a sink, that is what there is to see.
    #[arg(long = "in")]
    is_in: bool,
    /// The most messages a second. What is left out is counted.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// End after so many.
    #[arg(long)]
    count: Option<u64>,
    /// Fields that are shown as `***`, wherever in the payload they are.
    #[arg(long, value_delimiter = ',')]
    mask: Vec<String>,
    #[command(flatten)]
    data: DataFolder,
    #[command(flatten)]
    printed: Printed,
}

pub(super) fn tap(arguments: Arguments) -> anyhow::Result<Ending> {
    block_on(async move {
        let data = arguments.data.path(None);
        let mut left = arguments.count;
        if left == Some(0) {
            return Ok(Ending::Fine);
        }
        let question = question(&arguments)?;
        let is_there = listen(&data, &question, |line| {
            let mut message: Value = serde_json::from_str(line)?;
            if let Some(payload) = message.get_mut("payload") {
                mask(payload, &arguments.mask);
            }
            match arguments.printed.format() {
                Format::Json => print(&format!("{message}\n"))?,
                Format::Text => print(&as_text(&message))?,
            }
            left = left.map(|left| left - 1);
            Ok(left != Some(0) && !is_reader_gone())
        });
        if !is_there.await? {
            return Err(nobody_there(&data));
        }
        if left.is_none_or(|left| left > 0) && !is_reader_gone() {
            bail!("{} is gone, or the program that runs it", arguments.node);
        }
        Ok(Ending::Fine)
    })
}

fn question(arguments: &Arguments) -> anyhow::Result<String> {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    // A name has no dot in it, so what stands behind one is an output.
    let (node, output) = match arguments.node.split_once('.') {
        Some((node, output)) => (node, Some(output)),
        None => (arguments.node.as_str(), None),
    };
    let side = match (output, arguments.is_in) {
        (Some(output), true) => {
            bail!("`--in` shows what {node} reads; `.{output}` is what leaves it")
        }
        (Some(output), false) => format!("&output={}", escaped(output)),
        (None, true) => "&in".to_owned(),
        (None, false) => String::new(),
    };
    Ok(format!("/tap?node={}{side}&per_second={}", escaped(node), arguments.rate))
}

/// Hides fields of these names.
fn mask(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if names.contains(name) {
                    *value = "***".into();
                } else {
                    mask(value, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, names)),
        _ => (),
    }
}

/// `12:00:00.123  boiler/meter  site/meter  {"power":3}`.
fn as_text(message: &Value) -> String {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let payload = match (&message["payload"], text("payload_base64")) {
        (Value::Null, bytes) if !bytes.is_empty() => format!("{bytes} (base64)"),
        (payload, _) => payload.to_string(),
    };
    let left_out = match message["left_out"].as_u64() {
        Some(left_out) => format!("... {left_out} left out\n"),
        None => String::new(),
    };
    let meta = message.get("meta").map(|meta| format!("  {meta}")).unwrap_or_default();
    let line = format!("{}  {}  {}  {payload}{meta}", text("time"), text("output"), text("topic"));
    format!("{left_out}{}\n", printable(&line))
}
