//! What lint accepts, the engine starts; and lint bears everything. Good pipelines are changed at
//! random, thousands of times.
//!
//! `FOREBAY_MUTATIONS` says how many, `FOREBAY_SEED` where to begin; a failure prints its seed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fastrand::Rng;
use forebay::{
    config::{self, Texts, Types},
    engine::Engine,
    lint::{
        Checked, lint,
        report::{Format, render},
    },
    plugins,
};
use forebay_sdk::{Level, Span};
use forebay_yaml::{Content, Limits, Yaml, parse};
use futures_util::FutureExt;

use crate::support::Folder;

const USUAL_COUNT: u64 = 2000;

#[test]
fn what_lint_accepts_the_engine_starts() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("FOREBAY_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    let count = number("FOREBAY_MUTATIONS").unwrap_or(USUAL_COUNT);
    let corpus = Corpus::gather();
    let types = Types::new(plugins::all());
    let folder = Folder::new();
    for (path, text) in &corpus.files {
        if path.ends_with(".rhai") || path.ends_with("user.yaml") {
            folder.write(path, text);
        }
    }
    let (mut accepted, mut refused) = (0, 0);
    for seed in first..first + count {
        let mut rng = Rng::with_seed(seed);
        let (path, text) = corpus.mutated(&mut rng);
        let outcome = catch_unwind(AssertUnwindSafe(|| bears(&folder, &types, path, &text, &rng)));
        match outcome {
            Ok(true) => accepted += 1,
            Ok(false) => refused += 1,
            Err(_) => {
                let text = String::from_utf8_lossy(&text);
                panic!("FOREBAY_SEED={seed} FOREBAY_MUTATIONS=1; {path}:\n{text}");
            }
        }
    }
    println!("seeds from {first}: {accepted} accepted, {refused} refused");
    // Mutations that are all refused, or all harmless, would show nothing.
    assert!(count < 1000 || accepted.min(refused) > count / 20, "{accepted} and {refused}");
}

/// Lints one file among good ones, and starts the graph when there is one. Whether there was.
fn bears(folder: &Folder, types: &Types, path: &str, text: &[u8], rng: &Rng) -> bool {
    let before = folder.read(path);
    folder.write(path, "");
    fs::write(folder.path().join(path), text).unwrap();
    let mut rng = rng.clone();
    let value = rng.choice(VALUES).copied().unwrap_or_default();
    let environment = move |name: &str| name.len().is_multiple_of(2).then(|| value.to_owned());
    let draft = config::load(folder.path(), types, &environment).unwrap();
    let checked = lint(draft);
    match before.as_str() {
        "" => folder.remove(path),
        before => folder.write(path, before),
    }
    every_mark_is_inside(&checked);
    let has_error = checked.findings.iter().any(|finding| finding.level == Level::Error);
    assert_eq!(checked.graph.is_none(), has_error, "an error is what keeps a folder from running");
    checked.graph.map(start).is_some()
}

fn every_mark_is_inside(checked: &Checked) {
    let inside = |texts: &Texts, span: Span| {
        let text = texts.text(span.file);
        assert!(text.get(span.range()).is_some(), "{span:?} of {} bytes", text.len());
    };
    for finding in &checked.findings {
        finding.span.iter().for_each(|span| inside(&checked.texts, *span));
        finding.context.iter().for_each(|(span, _)| inside(&checked.texts, *span));
        finding.edit.iter().for_each(|edit| inside(&checked.texts, edit.span));
    }
    for format in [Format::Full, Format::Short, Format::Json] {
        render(&checked.findings, &checked.texts, format, false);
    }
}

/// Builds every connection and node and wires them. The clock stands still, and no task gets a
/// turn: what they would open is none of the configuration.
fn start(graph: config::Graph) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let nodes = graph.nodes.len() + graph.connections.len();
    runtime.block_on(async {
        let mut engine = Engine::new(Path::new("/nowhere"), Path::new("/nowhere/data"));
        engine.apply(graph).now_or_never().expect("starting waits for nobody");
        assert_eq!(engine.states().len(), nodes);
    });
}

/// Good pipelines, and what they are made of.
struct Corpus {
    files: Vec<(&'static str, String)>,
    /// Keys and values of all of them.
    words: Vec<String>,
}

impl Corpus {
    fn gather() -> Corpus {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let script = fs::read_to_string(folder.join("scripts/load.rhai")).unwrap();
        let mut files = vec![("pipelines/scripts/load.rhai", script)];
        // For the scripts that are files.
        let user = "sources: {t: {type: timer, every: 5s}}\ntransforms:\n  s: {from: t, type: script, script: scripts/load.rhai}\nsinks: {o: {from: s, type: log}}\n";
        files.push(("pipelines/user.yaml", user.to_owned()));
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push(("pipelines/example.yaml", fs::read_to_string(path).unwrap()));
            }
        }
        for plugin in plugins::all() {
            files.push(("pipelines/sample.yaml", plugin.sample.into_owned()));
        }
        for rule in Types::new(plugins::all()).rules().iter() {
            files.extend(rule.files("Good"));
        }
        let words = |(_, text): &(&str, String)| {
            let places = places(text);
            places.iter().map(|place| text[place.whole()].to_owned()).collect::<Vec<_>>()
        };
        let words = files.iter().flat_map(words).collect();
        Corpus { files, words }
    }

    /// One of the files, changed in one place, or in up to four.
    fn mutated(&self, rng: &mut Rng) -> (&'static str, Vec<u8>) {
        let (path, text) = &self.files[rng.usize(..self.files.len())];
        let mut text = text.clone();
        for _ in 0..1 + rng.u8(..4) * rng.u8(..2) {
            match rng.u8(..4) {
                0 => mutate_text(&mut text, rng),
                _ => self.mutate_tree(&mut text, rng),
            }
        }
        let mut bytes = text.into_bytes();
        // Now and then no text at all.
        if rng.u8(..100) == 0 {
            let at = rng.usize(..=bytes.len());
            bytes.insert(at, rng.u8(..));
        }
        (path, bytes)
    }

    /// Changes a key or a value, so that most of what comes out is still YAML.
    fn mutate_tree(&self, text: &mut String, rng: &mut Rng) {
        let places = places(text);
        if places.is_empty() {
            return;
        }
        let place = &places[rng.usize(..places.len())];
        let other = &places[rng.usize(..places.len())];
        let whole = text[place.whole()].to_owned();
        match rng.u8(..7) {
            // Drop.
            0 => text.replace_range(place.lines(text), ""),
            // Duplicate.
            1 => {
                let lines = text[place.lines(text)].to_owned();
                text.insert_str(place.lines(text).start, &lines);
            }
            // Retype.
            2 => text.replace_range(place.value.clone(), rng.choice(VALUES).unwrap()),
            // Rename.
            3 => {
                let word = self.words[rng.usize(..self.words.len())].clone();
                let word = word.split(':').next().unwrap_or_default().trim().to_owned();
                text.replace_range(place.key.clone().unwrap_or(place.value.clone()), &word);
            }
            // Reorder: two places change their contents.
            4 => {
                let (one, other) = (place.whole(), other.whole());
                if one.end <= other.start {
                    let later = text[other.clone()].to_owned();
                    text.replace_range(other, &whole);
                    text.replace_range(one, &later);
                }
            }
            // Splice: a value from somewhere else.
            5 => {
                let words = &self.words[rng.usize(..self.words.len())];
                text.replace_range(place.value.clone(), words);
            }
            _ => {
                let value = text[other.value.clone()].to_owned();
                text.replace_range(place.value.clone(), &value);
            }
        }
    }
}

/// Values that are odd at one place or another.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "300",
    "65536",
    "1e400",
    ".nan",
    "0x10",
    "0o8",
    "true",
    "no",
    "null",
    "~",
    "''",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "{a: b}",
    "5s",
    "0s",
    "1ms",
    "5",
    "99999d",
    "16MiB",
    "0B",
    "a/#",
    "+/a",
    "a/b",
    "/",
    "..",
    "*x",
    "&x a",
    "*x",
    "!!int 5",
    "|\n  a\n  b\n",
    ">\n  a\n",
    "é",
    "😀",
    "a: b",
    "- a",
    "\u{7f}",
    "\u{200b}",
    "mqtt://b",
    "mqtts://[::1]:8883",
    "tcp://a:0",
    "http://a/b?c=d",
    "127.0.0.1:1883",
    "[::]:1883",
    "${env:AB}",
    "${env:A}",
    "${file:x}",
    "${",
    "$${a}",
    "'${env:AB}'",
    "meter",
    "meter.errors",
    "a.b.c",
    "script",
    "timer",
    "mqtt",
    "disk",
    "spill",
    "drop_oldest",
    "msg",
    "let x = ;",
    "loop {}",
    "emit(\"a\", msg)",
    "msg.payload.x = 1; msg",
    "99999999999999999999",
];

/// Changes characters and lines, so that little of what comes out is YAML.
fn mutate_text(text: &mut String, rng: &mut Rng) {
    const ODD: [&str; 16] = [
        "\t", " ", "\n", "\r\n", ":", ": ", "-", "\"", "'", "{", "[", "]", "#", "\u{feff}", "é",
        "\0",
    ];
    let range = some_range(text, rng);
    match rng.u8(..6) {
        0 => text.replace_range(range, ""),
        1 => text.insert_str(range.start, ODD[rng.usize(..ODD.len())]),
        2 => text.truncate(range.start),
        3 => text.replace_range(range, ODD[rng.usize(..ODD.len())]),
        4 => {
            let line = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
            text.insert_str(line, &" ".repeat(rng.usize(1..5)));
        }
        _ => {
            let copy = text[range.clone()].to_owned();
            text.insert_str(range.end, &copy);
        }
    }
}

/// At most twenty bytes, made of whole characters.
fn some_range(text: &str, rng: &mut Rng) -> Range<usize> {
    let boundary = |from: usize| (0..=from.min(text.len())).rfind(|at| text.is_char_boundary(*at));
    let start = boundary(rng.usize(..=text.len())).unwrap_or(0);
    start..boundary(start + rng.usize(..20)).unwrap_or(start)
}

/// A value, and its key when it has one.
struct Place {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

impl Place {
    /// The key and its value.
    fn whole(&self) -> Range<usize> {
        let start = self.key.as_ref().map_or(self.value.start, |key| key.start);
        start.min(self.value.start)..self.value.end
    }

    /// The lines on which it stands.
    fn lines(&self, text: &str) -> Range<usize> {
        let Range { start, end } = self.whole();
        let start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
        start..end
    }
}

/// All keys and values of a text, as far as it is YAML.
fn places(text: &str) -> Vec<Place> {
    fn walk(yaml: &Yaml, key: Option<Range<usize>>, places: &mut Vec<Place>) {
        match &yaml.content {
            Content::Scalar(_) => (),
            Content::List(items) => items.iter().for_each(|item| walk(item, None, places)),
            Content::Map(entries) => {
                let each = |entry: &forebay_yaml::Entry| {
                    walk(&entry.value, Some(entry.key_span.range()), places);
                };
                entries.iter().for_each(each);
            }
        }
        places.push(Place { key, value: yaml.span.range() });
    }
    let mut places = Vec::new();
    if let Some(tree) = parse(text, 0, Limits::default(), &mut Vec::new()) {
        walk(&tree, None, &mut places);
    }
    places
}
