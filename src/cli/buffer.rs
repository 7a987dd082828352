//! `forebay buffer`: looks into the buffers on disk, also of a runtime that runs, gives the one of a
//! sink that was renamed to its new name, and deletes one that nobody needs.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Subcommand;
use forebay_sdk::{Format as PayloadFormat, Message, Role, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    columns,
    folder::{DataFolder, check, process_environment},
    lock,
    output::{Ending, Format, print},
};
use crate::{
    config::Graph,
    engine::buffer::{self, Disk, Folder, Look, Repairs, Stored},
};

/// List, show, export, move or delete the buffers on disk.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Ls(List),
    Show(Show),
    Export(Export),
    Move(Move),
    Drop(Drop),
}

/// List the buffers, and what is in them.
#[derive(clap::Args)]
struct List {
    /// The folder of pipelines, to say which buffers its sinks still use.
    folder: Option<PathBuf>,
    #[command(flatten)]
    data: DataFolder,
    /// How the list is printed; as JSON, one object a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Print the oldest messages of a buffer.
#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    node: Node,
    /// How many messages.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// How they are printed; as JSON, one object a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Print all messages of a buffer as JSON, one a line.
#[derive(clap::Args)]
struct Export {
    #[command(flatten)]
    node: Node,
}

/// Give the buffer of a sink that was renamed or removed to another one.
#[derive(clap::Args)]
struct Move {
    #[command(flatten)]
    node: Node,
    /// The sink that is to send what is in it, such as `boiler-room/cloud`.
    new: String,
}

/// Delete a buffer with everything that is in it.
#[derive(clap::Args)]
struct Drop {
    #[command(flatten)]
    node: Node,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
struct Node {
    /// The sink that the buffer is of, such as `boiler-room/plant`.
    node: String,
    #[command(flatten)]
    data: DataFolder,
}

pub(super) fn buffer(arguments: Arguments) -> anyhow::Result<Ending> {
    match arguments.action {
        Action::Ls(arguments) => list(&arguments)?,
        Action::Show(arguments) => show(&arguments)?,
        Action::Export(arguments) => export(&arguments)?,
        Action::Move(arguments) => move_buffer(&arguments)?,
        Action::Drop(arguments) => drop_buffer(&arguments)?,
    }
    Ok(Ending::Fine)
}

/// One line of the list.
struct Row {
    node: String,
    messages: u64,
    bytes: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    used: Option<bool>,
    error: Option<String>,
}

fn list(arguments: &List) -> anyhow::Result<()> {
    let graph = match &arguments.folder {
        Some(folder) => Some(graph(folder)?),
        None => None,
    };
    let data = arguments.data.path(arguments.folder.as_deref());
    let found = buffer::list(&data).with_context(|| format!("reading {}", data.display()))?;
    let rows = found.into_iter().map(|(node, folder)| row(node, folder, graph.as_ref()));
    match arguments.format {
        Format::Json => rows.into_iter().try_for_each(|row| print(&format!("{}\n", row.as_json()))),
        Format::Text => {
            let rows: Vec<Row> = rows.collect();
            if rows.is_empty() {
                return print(&format!("no buffer on disk below {}\n", data.display()));
            }
            print(&table(&rows))
        }
    }
}

fn graph(folder: &Path) -> anyhow::Result<Graph> {
    let checked = check(folder, &process_environment)?;
    checked.graph.with_context(|| {
        format!(
            "{0} does not lint, so nobody knows its sinks: see `forebay lint {0}`",
            folder.display()
        )
    })
}

fn row(node: String, folder: PathBuf, graph: Option<&Graph>) -> Row {
    let used = graph.map(|graph| {
        let spec = graph.nodes.get(node.as_str());
        // Also one whose buffer is in memory by now: it sends what is left on disk first.
        spec.is_some_and(|spec| spec.role == Role::Sink)
    });
    let mut row =
        Row { node, messages: 0, bytes: 0, oldest: None, newest: None, used, error: None };
    if let Err(error) = row.look(folder) {
        row.error = Some(error.to_string());
    }
    row
}

impl Row {
    fn look(&mut self, folder: PathBuf) -> io::Result<()> {
        let mut look = buffer::look(Folder::new(folder))?;
        (self.messages, self.bytes) = (look.messages(), look.bytes());
        let (first, last) = (look.first(), look.last());
        let mut time_of = |seq: Option<u64>| match seq {
            None => Ok(None),
            Some(seq) => look.read(seq, 1, 1).map(|read| Some(read.first()?.message.time)),
        };
        (self.oldest, self.newest) = (time_of(first)?, time_of(last)?);
        Ok(())
    }

    fn as_json(&self) -> Value {
        let time = |time: Option<Timestamp>| time.map(Timestamp::to_rfc3339);
        let mut object = json!({
            "node": self.node,
            "messages": self.messages,
            "bytes": self.bytes,
            "oldest": time(self.oldest),
            "newest": time(self.newest),
        });
        if let Some(used) = self.used {
            object["used"] = used.into();
        }
        if let Some(error) = &self.error {
            object["error"] = error.as_str().into();
        }
        object
    }
}

fn table(rows: &[Row]) -> String {
    let heads = ["node", "messages", "size", "oldest", "newest", ""].map(str::to_owned);
    let cells = |row: &Row| {
        let time = |time: Option<Timestamp>| time.map_or("-".to_owned(), Timestamp::to_rfc3339);
        let note = match (&row.error, row.used) {
            (Some(error), _) => format!("cannot be read: {error}"),
            (None, Some(false)) if row.messages == 0 => "no sink uses it".to_owned(),
            (None, Some(false)) => {
                let name = printable(&row.node);
                format!("no sink uses it: `forebay buffer move {name} NEW` gives it to another")
            }
            (None, _) => String::new(),
        };
        let (messages, size) = (row.messages.to_string(), size_text(row.bytes));
        [printable(&row.node), messages, size, time(row.oldest), time(row.newest), note]
    };
    let lines: Vec<[String; 6]> = [heads].into_iter().chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| columns::width(&line[column])).max();
    let widths: Vec<usize> = (0..6).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cell = |(column, cell): (usize, &String)| match column {
            1 | 2 => format!("{cell:>0$}", widths[column]),
            _ => columns::padded(cell, widths[column]),
        };
        let cells: Vec<String> = line.iter().enumerate().map(cell).collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

fn size_text(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

impl Node {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let data = self.data.path(None);
        let folder = buffer::folder_of(&data, &self.node);
        if folder.is_dir() {
            return Ok(folder);
        }
        let names: Vec<String> =
            buffer::list(&data).unwrap_or_default().into_iter().map(|(node, _)| node).collect();
        let known = if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        bail!("`{}` has no buffer below {}; {known}", self.node, data.display())
    }

    fn look(&self) -> anyhow::Result<Look> {
        let folder = self.folder()?;
        let reading = || format!("reading {}", folder.display());
        buffer::look(Folder::new(&folder)).with_context(reading)
    }
}

fn show(arguments: &Show) -> anyhow::Result<()> {
    let mut look = arguments.node.look()?;
    let (messages, bytes) = (look.messages(), look.bytes());
    if arguments.format == Format::Text {
        let (node, size) = (printable(&arguments.node.node), size_text(bytes));
        print(&format!("{node}: {messages} messages, {size}\n"))?;
    }
    let shown = each(&mut look, arguments.limit, |stored| match arguments.format {
        Format::Text => as_text(stored),
        Format::Json => as_json(stored),
    })?;
    if arguments.format == Format::Text && shown < look.messages() {
        print(&format!("{} more; --limit shows more of them\n", look.messages() - shown))?;
    }
    report(look.take_repairs());
    Ok(())
}

fn export(arguments: &Export) -> anyhow::Result<()> {
    let mut look = arguments.node.look()?;
    each(&mut look, usize::MAX, as_json)?;
    report(look.take_repairs());
    Ok(())
}

/// Prints the oldest messages; returns how many.
fn each(look: &mut Look, limit: usize, line: impl Fn(&Stored) -> String) -> anyhow::Result<u64> {
    let mut printed = 0;
    while_any(look, limit, |read| {
        printed += read.len() as u64;
        print(&read.iter().map(|stored| line(stored) + "\n").collect::<String>())?;
        Ok(true)
    })?;
    Ok(printed)
}

/// Reads messages, the oldest first, some at a time, until there are none or `take` says no.
fn while_any(
    look: &mut Look,
    limit: usize,
    mut take: impl FnMut(&[Stored]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    const AT_ONCE: usize = 500;
    const AT_ONCE_BYTES: usize = 256 << 10;
    let (mut from, mut left) = (0, limit);
    while left > 0 {
        let read = look.read(from, AT_ONCE.min(left), AT_ONCE_BYTES)?;
        let Some(last) = read.last() else { break };
        from = last.seq + 1;
        left -= read.len();
        if !take(&read)? {
            break;
        }
    }
    Ok(())
}

/// What is on disk of the buffer of a node that does not run, as what runs tells it, until `take` says no. False when it
/// has none.
pub(super) fn while_waits(
    data: &Path,
    node: &str,
    mut take: impl FnMut(Value) -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let folder = buffer::folder_of(data, node);
    if !folder.is_dir() {
        return Ok(false);
    }
    let reading = || format!("reading {}", folder.display());
    let mut look = buffer::look(Folder::new(&folder)).with_context(reading)?;
    while_any(&mut look, usize::MAX, |read| {
        for stored in read {
            let first = [("output".to_owned(), node.into()), ("waits".to_owned(), true.into())];
            let line = message_as_json(Map::from_iter(first), &stored.message);
            if !take(serde_json::from_str(&line)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    report(look.take_repairs());
    Ok(true)
}

/// What cannot be shown is said beside what can.
fn report(repairs: Repairs) {
    if repairs.lost_records > 0 || repairs.lost_bytes > 0 {
        eprintln!(
            "warning: {} messages are damaged and cannot be read ({} bytes)",
            repairs.lost_records, repairs.lost_bytes
        );
    }
}

fn as_text(stored: &Stored) -> String {
    const MOST_CHARS: usize = 1000;
    let Message { topic, time, payload, meta } = &stored.message;
    let mut said = match payload.to_json_line() {
        Ok(json) if is_text(&stored.message) => printable(&String::from_utf8_lossy(&json)),
        _ => {
            let bytes = payload.to_bytes(PayloadFormat::Bytes);
            format!("{} bytes: {}", bytes.len(), bytes.escape_ascii())
        }
    };
    if let Some((cut, _)) = said.char_indices().nth(MOST_CHARS) {
        said.truncate(cut);
        said += " ...";
    }
    let mut line = format!("{}  {}  {said}", time.to_rfc3339(), printable(topic));
    let source = meta.source.iter().map(|source| ("source", source.to_string()));
    let entries = meta.entries().map(|(name, value)| (name, value.to_string()));
    for (name, value) in source.chain(entries) {
        line += &format!("  {}={}", printable(name), printable(&value));
    }
    line
}

/// Whether the payload is what its format says, and not bytes.
fn is_text(message: &Message) -> bool {
    match message.payload.as_encoded() {
        None | Some((_, PayloadFormat::Json)) => true,
        Some((bytes, PayloadFormat::Text)) => std::str::from_utf8(bytes).is_ok(),
        Some((_, PayloadFormat::Bytes | PayloadFormat::Cbor | PayloadFormat::Msgpack)) => false,
    }
}

/// A text from outside must not move the cursor of a terminal, or worse.
pub(super) fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}

/// All of a message, with nothing lost. JSON stays as it came, but for line breaks; other bytes that
/// are not text are base64.
fn as_json(stored: &Stored) -> String {
    message_as_json(Map::from_iter([("seq".to_owned(), stored.seq.into())]), &stored.message)
}

/// The same, behind other members.
pub(super) fn message_as_json(mut object: Map<String, Value>, message: &Message) -> String {
    let Message { topic, time, payload, meta } = message;
    let format = payload.as_encoded().map_or(PayloadFormat::Json, |(_, format)| format);
    object.insert("time".to_owned(), time.to_rfc3339().into());
    object.insert("unix_nanos".to_owned(), time.unix_nanos().into());
    object.insert("topic".to_owned(), (&**topic).into());
    if let Some(source) = &meta.source {
        object.insert("source".to_owned(), (&**source).into());
    }
    if !meta.is_empty() {
        let entries = meta.entries().map(|(name, value)| (name.to_owned(), value.clone()));
        object.insert("meta".to_owned(), Value::Object(entries.collect()));
    }
    object.insert("format".to_owned(), json!(format));
    let mut line = Value::Object(object).to_string();
    line.pop();
    match payload.to_json_line() {
        Ok(json) if is_text(message) => {
            line += ",\"payload\":";
            line += &String::from_utf8_lossy(&json);
        }
        _ => {
            let bytes = payload.to_bytes(PayloadFormat::Bytes);
            line += &format!(",\"payload_base64\":\"{}\"", STANDARD.encode(bytes));
        }
    }
    line + "}"
}

fn drop_buffer(arguments: &Drop) -> anyhow::Result<()> {
    let Node { node, .. } = &arguments.node;
    let folder = arguments.node.folder()?;
    // Held until the folder is gone, so that no runtime begins to use it.
    let lock = lock_buffer(node, &folder)?;
    let held = held(&folder);
    if !arguments.yes && !asked(&format!("delete {held} of `{node}` for good?"))? {
        return print("nothing was deleted\n");
    }
    fs::remove_dir_all(&folder).with_context(|| format!("deleting {}", folder.display()))?;
    drop(lock);
    // The pipeline's folder, when this was its last buffer.
    if let Some(pipeline) = folder.parent() {
        let _ = fs::remove_dir(pipeline);
    }
    print(&format!("deleted {held} of `{node}`\n"))
}

/// Keeps a runtime from using the buffer.
fn lock_buffer(node: &str, folder: &Path) -> anyhow::Result<fs::File> {
    match Folder::new(folder).lock() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => bail!(
            "a running forebay has the buffer of `{node}` open; stop it first, or remove the sink from its files"
        ),
        lock => lock.with_context(|| format!("locking {}", folder.display())),
    }
}

/// What is in a buffer, in words.
fn held(folder: &Path) -> String {
    match buffer::look(Folder::new(folder)) {
        Ok(look) => counted(look.messages()),
        Err(error) => format!("what is there and cannot be read ({error})"),
    }
}

/// A number of messages, in words.
pub(super) fn counted(messages: u64) -> String {
    match messages {
        1 => "1 message".to_owned(),
        messages => format!("{messages} messages"),
    }
}

fn move_buffer(arguments: &Move) -> anyhow::Result<()> {
    let (old, new) = (&arguments.node.node, &arguments.new);
    let is_node = |(pipeline, node): (&str, &str)| {
        !pipeline.is_empty() && !node.is_empty() && !node.contains('/')
    };
    if !new.split_once('/').is_some_and(is_node) {
        bail!("`{new}` is no name of a sink; expected PIPELINE/SINK, such as `boiler-room/cloud`");
    }
    if old == new {
        bail!("the buffer of `{old}` has that name already");
    }
    let data = arguments.node.data.path(None);
    let from = arguments.node.folder()?;
    // Nothing begins to run with half of it.
    let _run = lock::take_now(&data)?;
    let _from = lock_buffer(old, &from)?;
    let to = buffer::folder_of(&data, new);
    if to.exists() && !buffer::remove_if_empty(&to)? {
        bail!(
            "`{new}` has a buffer of its own, with {}; start forebay until they are sent, or look at them with `forebay buffer show {new}`, and move then",
            held(&to)
        );
    }
    let held = held(&from);
    rename(&from, &to).with_context(|| format!("moving {} to {}", from.display(), to.display()))?;
    print(&format!("moved {held} of `{old}` to `{new}`\n"))
}

/// Gives a buffer's folder another place, so that it survives a power cut.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (Some(old), Some(new)) = (from.parent(), to.parent()) else { return Ok(()) };
    if !new.exists() {
        Folder::new(new).make()?;
        // Whoever moves may be root, and whoever runs is not.
        let owner = fs::metadata(old)?;
        let _ = chown(new, Some(owner.uid()), Some(owner.gid()));
    }
    fs::rename(from, to)?;
    Folder::new(new).sync()?;
    Folder::new(old).sync()?;
    // The pipeline's folder, when this was its last buffer.
    let _ = fs::remove_dir(old);
    Ok(())
}

/// Asks a person.
fn asked(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("{question} Say --yes where nobody can be asked");
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
