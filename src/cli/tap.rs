//! `forebay tap`: the messages of a node as they pass.

mod side_by_side;

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use anyhow::{Context, bail};
use crossterm::terminal;
use forebay_sdk::{Level, Role, Span, World};
use forebay_yaml::{self as yaml, Limits};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::side_by_side::{Marked, NARROWEST, side_by_side};
use super::{
    buffer::while_waits,
    folder::{DataFolder, types},
    lock,
    output::{self, Ending, Format, Printed, is_reader_gone, print, use_color},
    recorded,
    runtime::block_on,
    status::nobody_there,
    tried::Tried,
};
use crate::{api::listen, config::Texts, lint::report::printable};

/// Show the messages of a node as they pass, without slowing it.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The node, such as `boiler-room/meter`, or one of its outputs: `boiler-room/route.high`,
    /// `boiler-room/plant.errors`.
    node: String,
    /// What the node reads, not what comes out of it. Of a sink, that is what there is to see.
    #[arg(long = "in", conflicts_with = "both")]
    is_in: bool,
    /// What a transform reads, and beside it what it makes of that, with what differs marked. Below it where there is no
    /// room, and where nobody looks.
    #[arg(long)]
    both: bool,
    /// First what waits in front of the node, the oldest first; then what it reads. Of what waits on disk all is shown,
    /// of what is only in memory a hundred messages. When nothing runs, what is on disk.
    #[arg(long, value_enum, conflicts_with = "both")]
    since: Option<Since>,
    /// Only messages for which this holds, in the language of scripts: `msg.payload.power > 100`. With `--both`, of
    /// what the node reads.
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
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

/// What is shown before that which passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Since {
    /// What waits in front of the node.
    Buffer,
}

pub(super) fn tap(arguments: Arguments) -> anyhow::Result<Ending> {
    let question = question(&arguments)?;
    let mut sieve = match &arguments.condition {
        Some(condition) => Some(Sieve::new(condition, arguments.rate)?),
        None => None,
    };
    let mut left = arguments.count;
    if left == Some(0) {
        return Ok(Ending::Fine);
    }
    let marked = if use_color(&stdout()) { Marked::Bold } else { Marked::Plain };
    let room = room().filter(|_| arguments.both);
    // False after the last one.
    let mut show = |mut message: Value| {
        if let Some(sieve) = &mut sieve
            && !sieve.lets_through(&mut message)?
        {
            return Ok(!is_reader_gone());
        }
        mask(&mut message, &arguments.mask);
        for made in message["became"].as_array_mut().into_iter().flatten() {
            mask(made, &arguments.mask);
        }
        match arguments.printed.format() {
            Format::Json => print(&format!("{message}\n"))?,
            Format::Text => match room {
                Some(room) => print(&side_by_side(&message, room, marked))?,
                None => print(&as_text(&message))?,
            },
        }
        left = left.map(|left| left - 1);
        anyhow::Ok(left != Some(0) && !is_reader_gone())
    };
    let data = arguments.data.path(None);
    let mut is_enough = false;
    let is_there = block_on(listen(&data, &question, |line| {
        let goes_on = show(serde_json::from_str(line)?)?;
        is_enough = !goes_on;
        Ok(goes_on)
    }))?;
    match (is_there, arguments.since) {
        (true, _) if !is_enough => bail!("{} is gone, or the program that runs it", arguments.node),
        (true, _) => (),
        (false, Some(Since::Buffer)) if lock::holder(&data).is_none() => {
            if !while_waits(&data, &arguments.node, show)? {
                return Err(nobody_there(&data));
            }
            eprintln!("nothing runs on {}; that is what waits on disk", output::shown(&data));
        }
        (false, _) => return Err(nobody_there(&data)),
    }
    Ok(Ending::Fine)
}

/// How wide the terminal is, when there is one with room for two columns.
fn room() -> Option<usize> {
    if !stdout().is_terminal() {
        return None;
    }
    let (columns, _) = terminal::size().ok()?;
    Some(usize::from(columns)).filter(|columns| *columns >= NARROWEST)
}

fn question(arguments: &Arguments) -> anyhow::Result<String> {
    let (is_in, both) = (arguments.is_in || arguments.since.is_some(), arguments.both);
    let side = match (arguments.node.split_once('.'), is_in, both) {
        (Some((node, output)), true, _) => {
            bail!("`--in` and `--since` show what {node} reads; `.{output}` is what leaves it")
        }
        (Some((node, _)), _, true) => bail!("`--both` shows all outputs; say {node} alone"),
        (None, _, true) => "&both",
        (None, true, false) => "&in",
        (_, false, false) => "",
    };
    let waiting = if arguments.since.is_some() { "&waiting" } else { "" };
    let rate = if arguments.condition.is_some() { MOST_LOOKED_AT } else { arguments.rate };
    Ok(format!("{}{side}{waiting}&per_second={rate}", what_leaves(&arguments.node)))
}

/// Asks for what leaves a node, or one of its outputs.
pub(super) fn what_leaves(node: &str) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    // A name has no dot in it, so what stands behind one is an output.
    match node.split_once('.') {
        Some((node, output)) => format!("/tap?node={}&output={}", escaped(node), escaped(output)),
        None => format!("/tap?node={}", escaped(node)),
    }
}

/// With a condition, so many messages a second are looked at, and those for which it holds are shown at the rate that is
/// asked for. Here, not in the process that runs: it has other things to do.
const MOST_LOOKED_AT: f64 = 1000.0;

/// Lets through messages for which a condition holds: a `filter` on what was tapped.
struct Sieve {
    filter: Tried,
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
}

impl Sieve {
    fn new(condition: &str, per_second: f64) -> anyhow::Result<Sieve> {
        const TYPE: &str = "filter";
        let every = Duration::try_from_secs_f64(1.0 / per_second).ok();
        let every = every.context("`--rate` is a number above 0")?;
        let entry = types().get(Role::Transform, TYPE);
        let entry = entry.context("this build has no `filter`, by which messages are chosen")?;
        let file = Texts::default().add("--where".to_owned(), condition.to_owned());
        let (written, mut findings) = (json!({ "when": condition }).to_string(), Vec::new());
        let tree = yaml::parse(&written, file, Limits::default(), &mut findings);
        let tree = tree.context("the condition of `--where` is too long")?;
        let resolved = entry.node_type.configure(&tree, &mut findings);
        let problems = resolved.problems.into_iter();
        findings.extend(problems.map(|problem| problem.at(|_| Span::new(file, 0..0))));
        if let Some(wrong) = findings.iter().find(|finding| finding.level == Level::Error) {
            bail!("--where: {}: {}", wrong.message, wrong.label);
        }
        let configured = resolved.configured.context("the condition of `--where` says nothing")?;
        let filter = Tried::new("tap/where", &*configured, World::system());
        let filter = filter.context("`filter` is no transform in this build")?;
        Ok(Sieve { filter, every, next: None, left_out: 0 })
    }

    /// Whether a message is shown. One about which the condition says nothing, such as one without the field, is not.
    fn lets_through(&mut self, message: &mut Value) -> anyhow::Result<bool> {
        let made = self.filter.send(recorded::of_line(message, "")?);
        let holds = made.is_ok_and(|made| !made.is_empty());
        if !holds {
            return Ok(false);
        }
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) && message["waits"] != true {
            self.left_out += 1;
            return Ok(false);
        }
        self.next = Some(now + self.every);
        // Of those for which it holds; how many of the others passed is of no interest.
        match std::mem::take(&mut self.left_out) {
            0 => _ = message.as_object_mut().and_then(|line| line.remove("left_out")),
            left_out => message["left_out"] = left_out.into(),
        }
        Ok(true)
    }
}

/// Hides fields of these names in the payload of a message.
pub(super) fn mask(message: &mut Value, names: &[String]) {
    if let Some(payload) = message.get_mut("payload") {
        mask_fields(payload, names);
    }
}

fn mask_fields(value: &mut Value, names: &[String]) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if names.contains(name) {
                    *value = "***".into();
                } else {
                    mask_fields(value, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_fields(item, names)),
        _ => (),
    }
}

/// `12:00:00.123  boiler/meter  site/meter  {"power":3}`, and below it, each in a line, what became of it.
fn as_text(message: &Value) -> String {
    let left_out = match message["left_out"].as_u64() {
        Some(left_out) => format!("... {left_out} left out\n"),
        None => String::new(),
    };
    let waits = if message["waits"] == true { "waits  " } else { "" };
    let time = message["time"].as_str().unwrap_or_default();
    let mut text =
        format!("{left_out}{waits}{}\n", printable(&format!("{time}  {}", shown(message))));
    let nothing = if message["kept"] == true { "nothing yet: kept for later" } else { "nothing" };
    if let Some(became) = message["became"].as_array() {
        // Under what it was, so that what differs is seen.
        let indent = " ".repeat(time.chars().count().saturating_sub(2));
        let made = became.iter().map(shown);
        let made = if became.is_empty() { vec![nothing.to_owned()] } else { made.collect() };
        made.iter().for_each(|made| text += &format!("{indent}->  {}\n", printable(made)));
    }
    text
}

fn shown(message: &Value) -> String {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    let payload = match (&message["payload"], text("payload_base64")) {
        (Value::Null, bytes) if !bytes.is_empty() => format!("{bytes} (base64)"),
        (payload, _) => payload.to_string(),
    };
    let meta = message.get("meta").map(|meta| format!("  {meta}")).unwrap_or_default();
    format!("{}  {}  {payload}{meta}", text("output"), text("topic"))
}
