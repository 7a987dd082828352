//! `forebay script`: tries a script on messages, on the code that runs.

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use forebay_sdk::{At, Configured, Fault, Finding, Message, Role, Span, Value, World};
use forebay_yaml::{self as yaml, Limits};
use serde_json::{Map, json};

use super::super::{
    folder::types,
    output::{Ending, Format, print, use_color},
    recorded::of_line,
    tried::Tried,
};
use crate::{
    config::{Texts, folder::read_text},
    lint::report::{self, render},
};

/// What the message is when nobody says.
const TOPIC: &str = "test";
/// The type that runs scripts.
const TYPE: &str = "script";

/// Try a script on messages and see what comes of them; without a script, line by line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A `.rhai` file. Without one, each line that is typed is run on the message.
    file: Option<PathBuf>,
    /// A payload in JSON, once for each message; any other text is a text.
    #[arg(long, value_name = "PAYLOAD")]
    msg: Vec<String>,
    /// Messages that were recorded: lines of JSON, as a `file` sink or `forebay buffer export` writes them; `-` for
    /// standard input.
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
    /// The topic of each `--msg`.
    #[arg(long, default_value = TOPIC)]
    topic: String,
    /// What the script reads as `settings`, in JSON.
    #[arg(long, value_name = "MAP", default_value = "{}")]
    settings: String,
    /// The outputs that it may `emit` to.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    outputs: Vec<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn script(arguments: Arguments) -> anyhow::Result<Ending> {
    let messages = messages(&arguments.msg, &arguments.topic, arguments.messages.as_deref())?;
    let settings: Map<String, Value> = serde_json::from_str(&arguments.settings)
        .context("reading --settings, which is a map in JSON such as '{\"limit\":3}'")?;
    match &arguments.file {
        Some(file) => try_file(file, settings, &arguments.outputs, messages, arguments.format),
        None => line_by_line(settings, messages),
    }
}

fn try_file(
    file: &Path,
    settings: Map<String, Value>,
    outputs: &[String],
    messages: Vec<Message>,
    format: Format,
) -> anyhow::Result<Ending> {
    let text = read_text(file, Limits::default().size_bytes)
        .map_err(|wrong| anyhow!("{} {}: {}", file.display(), wrong.message, wrong.label))?;
    let path = file.display().to_string();
    let Understood { configured, findings, texts } = understood(&path, &text, settings, outputs)?;
    if !findings.is_empty() {
        let full = match format {
            Format::Text => report::Format::Full,
            Format::Json => report::Format::Json,
        };
        print(&render(&findings, &texts, full, use_color(&io::stdout())))?;
    }
    let Some(configured) = configured else { return Ok(Ending::Findings) };
    let mut tried = tried(&*configured)?;
    let mut ending = Ending::Fine;
    for message in messages {
        match tried.send(message) {
            Ok(made) => made.iter().try_for_each(|(output, message)| {
                print(&(shown(output, message, format) + "\n"))
            })?,
            Err(error) => {
                ending = Ending::Findings;
                let words = said(&error, &path);
                match format {
                    Format::Text => print(&format!("error: {words}\n"))?,
                    Format::Json => print(&(json!({ "error": words }).to_string() + "\n"))?,
                }
            }
        }
    }
    Ok(ending)
}

/// What was understood of a script, and what is wrong with it, at its places in the file.
struct Understood {
    /// None when an error is among the findings.
    configured: Option<Arc<dyn Configured>>,
    findings: Vec<Finding>,
    texts: Texts,
}

fn understood(
    path: &str,
    text: &str,
    settings: Map<String, Value>,
    outputs: &[String],
) -> anyhow::Result<Understood> {
    let Some(entry) = types().get(Role::Transform, TYPE) else {
        bail!("this build has no node type `{TYPE}`");
    };
    let mut texts = Texts::default();
    let file = texts.add(path.to_owned(), text.to_owned());
    let written = json!({ "script": text, "settings": settings, "outputs": outputs }).to_string();
    let mut findings = Vec::new();
    let tree = yaml::parse(&written, file, Limits::default(), &mut findings);
    let tree = tree.context("the script is too long")?;
    let resolved = entry.node_type.configure(&tree, &mut findings);
    // Whatever else is wrong has no place in the file.
    findings.iter_mut().for_each(|finding| finding.span = Some(Span::new(file, 0..0)));
    let problems = resolved.problems.into_iter().map(|problem| {
        let inside = problem.inside.filter(|_| problem.setting == "script");
        let range = inside.map_or(0..0, |(line, column)| word_at(text, line, column));
        problem.at(|_| Span::new(file, range.clone()))
    });
    findings.extend(problems);
    let is_wrong = findings.iter().any(|finding| finding.level == forebay_sdk::Level::Error);
    Ok(Understood { configured: resolved.configured.filter(|_| !is_wrong), findings, texts })
}

/// The word that begins at a line and a column, both from 1.
fn word_at(text: &str, line: usize, column: usize) -> Range<usize> {
    let begin_of_line: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &text[begin_of_line.min(text.len())..];
    let in_line: usize = rest.chars().take(column - 1).map(char::len_utf8).sum();
    let begin = begin_of_line + in_line;
    let word = &text[begin.min(text.len())..];
    let length = word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len());
    let first = word.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    begin..begin + length.max(first)
}

fn tried(configured: &dyn Configured) -> anyhow::Result<Tried> {
    Tried::new("try/script", configured, World::system())
        .with_context(|| format!("`{TYPE}` is no transform in this build"))
}

fn shown(output: &str, message: &Message, format: Format) -> String {
    let payload = message.payload.to_value_lossy();
    let meta: Map<String, Value> =
        message.meta.entries().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    match format {
        Format::Json => {
            let time = message.time.to_rfc3339();
            json!({ "output": output, "topic": &*message.topic, "time": time, "payload": payload, "meta": meta })
                .to_string()
        }
        Format::Text => {
            let output = if output == "main" { String::new() } else { format!("{output}: ") };
            let meta = if meta.is_empty() { String::new() } else { format!("  {}", json!(meta)) };
            format!("{output}{} {payload}{meta}", message.topic)
        }
    }
}

/// An error with its place in the file.
fn said(error: &anyhow::Error, path: &str) -> String {
    match error.downcast_ref::<Fault>() {
        Some(fault) => {
            let tell = |at: &At| {
                let file = at.file.clone().or_else(|| Some(path.into()));
                At { file, inside: at.inside }.to_string()
            };
            let used = &fault.used;
            let used = if used.is_empty() { String::new() } else { format!(" ({used})") };
            format!("{}: {}{used}", tell(&fault.at), fault.said(tell))
        }
        None => format!("{error:#}"),
    }
}

/// Runs what is typed, line by line, and shows what it gives. `state` lasts, and so does what a line changed in `msg`.
fn line_by_line(settings: Map<String, Value>, messages: Vec<Message>) -> anyhow::Result<Ending> {
    let mut message = messages.into_iter().next().unwrap_or_else(|| Message::new(TOPIC, json!({})));
    let is_person = io::stdin().is_terminal();
    if is_person {
        print("Each line is run on `msg`; `state` lasts. Ctrl-D ends it.\n")?;
    }
    let (mut state, mut ending) = (json!({}), Ending::Fine);
    let mut lines = io::stdin().lock();
    loop {
        if is_person {
            print("> ")?;
            io::stdout().flush()?;
        }
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(ending);
        }
        if line.trim().is_empty() {
            continue;
        }
        match run_line(line.trim(), &settings, &state, &message) {
            Ok((value, new_state, new_message)) => {
                (state, message) = (new_state, new_message);
                print(&format!("{value}\n"))?;
            }
            Err(error) => {
                ending = Ending::Findings;
                print(&format!("error: {error}\n"))?;
            }
        }
    }
}

/// What a line gives, with the state and the message as it left them.
fn run_line(
    line: &str,
    settings: &Map<String, Value>,
    state: &Value,
    message: &Message,
) -> Result<(Value, Value, Message), String> {
    // The state comes with the message, as each line is a node of its own.
    let text = format!(
        "for name in msg.meta.state.keys() {{ state[name] = msg.meta.state[name]; }} msg.meta.remove(\"state\");\n\
         let it = {{\n{line}\n}};\n\
         msg.meta.state = state; msg.meta.it = it; msg"
    );
    let understood = understood("line", &text, settings.clone(), &[]);
    let Understood { configured, findings, .. } =
        understood.map_err(|error| format!("{error:#}"))?;
    let Some(configured) = configured else {
        let errors = findings.iter().filter(|found| found.level == forebay_sdk::Level::Error);
        let words = errors.map(|found| format!("{}: {}", found.message, found.label));
        return Err(words.collect::<Vec<_>>().join("; "));
    };
    let mut given = message.clone();
    given.meta.insert("state", state.clone());
    let mut tried = tried(&*configured).map_err(|error| format!("{error:#}"))?;
    let mut made = tried.send(given).map_err(|error| match error.downcast_ref::<Fault>() {
        Some(fault) => fault.words.clone(),
        None => format!("{error:#}"),
    })?;
    let (_, mut left) = made.pop().ok_or("the line sent the message away")?;
    let entries: Vec<(String, Value)> =
        left.meta.entries().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    left.meta = Default::default();
    let (mut it, mut state) = (Value::Null, json!({}));
    for (name, value) in entries {
        match name.as_str() {
            "it" => it = value,
            "state" => state = value,
            _ => left.meta.insert(name, value),
        }
    }
    Ok((it, state, left))
}

/// Those of the command line, then those of a file. One with an empty map when there are none.
fn messages(payloads: &[String], topic: &str, file: Option<&Path>) -> anyhow::Result<Vec<Message>> {
    let payload = |text: &String| serde_json::from_str(text).unwrap_or(Value::String(text.clone()));
    let mut messages: Vec<Message> =
        payloads.iter().map(|text| Message::new(topic, payload(text))).collect();
    if let Some(file) = file {
        let text = text_of(file)?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        for (number, line) in lines {
            let place = || format!("{}:{number}", file.display());
            messages.push(recorded(line, topic).with_context(place)?);
        }
    } else if messages.is_empty() {
        messages.push(Message::new(topic, json!({})));
    }
    Ok(messages)
}

fn recorded(line: &str, topic: &str) -> anyhow::Result<Message> {
    of_line(&serde_json::from_str(line).context("expected a line of JSON")?, topic)
}

/// Reads a file of text, or standard input for `-`.
fn text_of(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    match path == Path::new("-") {
        true => io::read_to_string(io::stdin()).with_context(reading),
        false => fs::read_to_string(path).with_context(reading),
    }
}
