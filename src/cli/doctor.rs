//! `forebay doctor`: says why a connection fails, step by step.

use std::{
    any::Any,
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use forebay_sdk::{
    Configured, Examination, Level, Links, Site, Step, Timestamp, Voice, World,
    examination::Outcome,
};
use serde_json::json;

use super::{
    folder::{DEFAULT_FOLDER, data_folder, process_environment, types},
    lock,
    output::{Ending, Format, Printed, print, use_color},
    runtime::block_on,
};
use crate::{
    config::{self, Draft, Name, Part},
    lint::{
        self,
        report::{self, printable, render},
    },
};

/// Say why a connection fails, step by step, with what to change.
///
/// Looks up the name, connects to each address, shakes hands, and talks as the running program does. An
/// `mqtt` connection logs in by its own client id: whoever is connected by it is thrown out, and connects
/// again. What its sources subscribe to is tried, and a test message is sent and read back; nothing of it
/// stays at the broker. A device on `modbus` is asked for nothing but an answer, a web service for `HEAD`, and a `router` for what its nodes read: it is told to do nothing.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// A connection, or a node that has one of its own, such as an `http` sink: `cloud`, `site/upload`.
    name: String,
    /// The folder.
    #[arg(default_value = DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Where the test message goes, on a connection that has topics. `forebay/doctor/ID` when left out.
    #[arg(long)]
    topic: Option<String>,
    /// The data folder of the runtime, to see whether it runs.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    printed: Printed,
}

pub(super) fn doctor(arguments: Arguments) -> anyhow::Result<Ending> {
    let draft = config::load(&arguments.folder, types(), &process_environment)?;
    let part = find(&draft, &arguments.name)?;
    let Some(configured) = part.configured.clone() else { return cannot_run(draft, &arguments) };
    let (name, title) = (Arc::clone(&part.name), part.title());
    let users: Vec<(String, Arc<dyn Configured>)> = users(&draft, part);
    let users: Vec<(&str, &dyn Any)> =
        users.iter().map(|(name, user)| (name.as_str(), &**user as &dyn Any)).collect();

    let format = arguments.printed.format();
    let is_wrong = Cell::new(false);
    let tell = |step: Step| {
        is_wrong.set(is_wrong.get() || step.outcome == Outcome::Wrong);
        let shown = match format {
            Format::Text => as_text(&step, use_color(&std::io::stdout())),
            Format::Json => as_json(&name, &step),
        };
        // Without a reader there is only the exit code to give.
        let _ = print(&shown);
    };
    if format == Format::Text {
        print(&format!("{}\n", printable(&title)))?;
    }
    let asked = Examination {
        site: site(&name, &arguments.folder),
        users: &users,
        topic: arguments.topic.as_deref(),
        tell: &tell,
    };
    let data = data_folder(arguments.data.clone(), draft.runtime.data.clone());
    if let Some(holder) = lock::holder(&data) {
        let help = "a broker lets in one client of a name, many devices one at all: stop it when what \
                    follows says that somebody else is there";
        asked.doubt(
            "runtime",
            format!("{holder} runs on {} and uses the connection", data.display()),
            help,
        );
    }
    if !Timestamp::now().clock_was_set() {
        let now = Timestamp::now().to_rfc3339();
        let help = "certificates and tokens are checked by it: wait for the time, or set it";
        asked.doubt("clock", format!("the clock here may not be set: it says {now}"), help);
    }
    for node in draft.parts.iter().filter(|part| uses(part, &name) && part.configured.is_none()) {
        let seen = format!("`{}` uses it and cannot run, so it is left out", node.name);
        asked.doubt("nodes", seen, "`forebay lint` says what is wrong with it");
    }
    let Some(examination) = configured.examine(&asked) else {
        bail!("there is nothing to look at: {title} connects to nobody");
    };
    block_on(async {
        examination.await;
        Ok(if is_wrong.get() { Ending::Findings } else { Ending::Fine })
    })
}

/// What a name stands for. A node that uses a connection stands for that.
fn find<'a>(draft: &'a Draft, name: &str) -> anyhow::Result<&'a Part> {
    let is_called = |part: &&Part| *part.name == *name || part.short == name;
    let mut found = draft.parts.iter().filter(is_called);
    // A whole name goes before a short one.
    let whole = draft.parts.iter().find(|part| *part.name == *name);
    let part = match (whole, found.next(), found.next()) {
        (Some(part), ..) | (None, Some(part), None) => part,
        (None, Some(one), Some(other)) => {
            bail!("`{name}` may be `{}` or `{}`: write the whole name", one.name, other.name)
        }
        (None, None, _) => bail!(nobody(draft, name)),
    };
    let used = part
        .uses
        .as_ref()
        .and_then(|uses| draft.parts.iter().find(|other| other.name == uses.connection));
    Ok(used.unwrap_or(part))
}

fn nobody(draft: &Draft, name: &str) -> String {
    let connections = draft.parts.iter().filter(|part| part.role == forebay_sdk::Role::Connection);
    let known: Vec<String> = connections.map(|part| format!("`{}`", part.name)).collect();
    match known.is_empty() {
        true => format!("nothing is called `{name}`, and there is no connection"),
        false => format!("nothing is called `{name}`; the connections are {}", known.join(", ")),
    }
}

/// The nodes that use a connection, as far as they are right.
fn users(draft: &Draft, connection: &Part) -> Vec<(String, Arc<dyn Configured>)> {
    let users = draft.parts.iter().filter(|part| uses(part, &connection.name));
    users.filter_map(|part| Some((part.name.to_string(), part.configured.clone()?))).collect()
}

fn uses(part: &Part, connection: &Name) -> bool {
    part.uses.as_ref().is_some_and(|uses| uses.connection == *connection)
}

/// Settings that cannot be used have findings, and nobody is called.
fn cannot_run(draft: Draft, arguments: &Arguments) -> anyhow::Result<Ending> {
    let mut checked = lint::lint(draft);
    checked.findings.retain(|finding| finding.level == Level::Error);
    let (format, color) = match arguments.printed.format() {
        Format::Text => (report::Format::Full, use_color(&std::io::stdout())),
        Format::Json => (report::Format::Json, false),
    };
    print(&render(&checked.findings, &checked.texts, format, color))?;
    Ok(Ending::Findings)
}

fn site(name: &Arc<str>, folder: &Path) -> Site {
    Site {
        name: Arc::clone(name),
        folder: folder.into(),
        // Nothing is written.
        data: Path::new("").into(),
        connection: None,
        inputs: Arc::new([]),
        memory: None,
        world: World::system(),
        voice: Voice::unheard(),
        links: Links::default(),
    }
}

fn as_text(step: &Step, color: bool) -> String {
    let (word, paint) = match step.outcome {
        Outcome::Fine => ("ok", "\x1b[32m"),
        Outcome::Doubtful => ("look", "\x1b[33m"),
        Outcome::Wrong => ("WRONG", "\x1b[1;31m"),
    };
    let word = format!("{word:<5}");
    let word = if color { format!("{paint}{word}\x1b[0m") } else { word };
    let mut text = format!("  {word}  {:<12}  {}\n", step.what, printable(&step.seen));
    if !step.help.is_empty() {
        text += &format!("  {:<5}  {:<12}  -> {}\n", "", "", printable(&step.help));
    }
    text
}

fn as_json(name: &str, step: &Step) -> String {
    let outcome = match step.outcome {
        Outcome::Fine => "fine",
        Outcome::Doubtful => "doubtful",
        Outcome::Wrong => "wrong",
    };
    let help = (!step.help.is_empty()).then_some(&step.help);
    let step = json!({
        "connection": name, "step": step.what, "outcome": outcome, "message": step.seen, "help": help,
    });
    format!("{step}\n")
}
