//! Reads a `NAME.test.yaml`: what is wrong is found, each thing at its place, before anything runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{
    Finding, Gives, Level, Period, Problem, Role, ShortOr, Span, expression, finding::nearest,
    rules::SETTING_VALUE, schema_of,
};
use forebay_yaml::{self as yaml, Content, Limits, Yaml};

use super::{
    case::{Expected, Said, Step, Test},
    players::rehearse,
    recording::Recording,
    scene::{Member, Noted, Scene},
    sent::Sent,
    settings::{
        ArrivesSettings, ExpectSettings, ExpectedSettings, LinkWord, StepSettings,
        TestFileSettings, TestSettings, WaySettings,
    },
};
use crate::{
    cli::folder::types,
    config::{self, Environment, Name, Texts, folder::read_text},
    lint::{self, Checked},
};

/// The keys that every other side has. The rest is for who plays it.
const OF_THE_WAY: [&str; 5] = ["link", "latency", "bytes_per_second", "loss", "replay"];
/// The longest that a test runs by its own clock.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// Whether scripts take note of what of them runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    None,
    Taken,
}

/// What came of reading a file.
#[derive(Default)]
pub struct FileRead {
    pub tests: Vec<Test>,
    /// What is wrong with the file.
    pub findings: Vec<Finding>,
    pub texts: Texts,
    /// The scripts that take note.
    pub noted: Vec<Noted>,
    /// What lint finds in the pipelines, as the file has them run.
    pub lint: Vec<(Vec<Finding>, Texts)>,
}

/// Reads a file of tests of a folder. `notes` has scripts take note of what of them runs.
pub fn read(root: &Path, path: &Path, notes: Notes) -> anyhow::Result<FileRead> {
    let mut read = FileRead::default();
    read.texts.see_from(root);
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let text = read_text(path, Limits::default().size_bytes)
        .map_err(|problem| anyhow::anyhow!("{shown} {}: {}", problem.message, problem.label))?;
    let file = read.texts.add(shown, text.clone());
    let Some(tree) = yaml::parse(&text, file, Limits::default(), &mut read.findings) else {
        return Ok(read);
    };
    let schema = schema_of::<TestFileSettings>();
    let settings: Option<TestFileSettings> =
        yaml::read(&tree, &schema, "a file of tests", &mut read.findings);
    let Some(settings) = settings else { return Ok(read) };
    let mut reader = Reader {
        root,
        beside: path.parent().unwrap_or(root),
        env: &settings.env,
        pipelines: pipelines_of(&settings, path),
        file: &mut read,
    };
    let Some(mut scene) = reader.scene(&tree, None) else { return Ok(read) };
    if notes == Notes::Taken {
        reader.file.noted = scene.note();
    }
    let pipeline = reader.original()?.map(|path| reader.seen_here(&path)).unwrap_or_default();
    for (index, test) in settings.tests.into_iter().enumerate() {
        let place = Place { tree: &tree, path: format!("tests[{index}]") };
        reader.test(&scene, &pipeline, test, &tree, &place);
    }
    Ok(read)
}

/// Those that are named, or that which the file is named after.
fn pipelines_of(settings: &TestFileSettings, path: &Path) -> Vec<String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let own = stem.strip_suffix(".test").unwrap_or(&stem).to_owned();
    settings.pipelines.clone().unwrap_or_else(|| vec![own])
}

struct Reader<'a> {
    root: &'a Path,
    beside: &'a Path,
    env: &'a BTreeMap<String, String>,
    pipelines: Vec<String>,
    file: &'a mut FileRead,
}

/// A part of the file, to find the place of something in it.
struct Place<'a> {
    tree: &'a Yaml,
    path: String,
}

impl<'a> Place<'a> {
    fn yaml(&self) -> &'a Yaml {
        self.tree.at(&self.path)
    }

    /// Something in a map of names that may have dots in them.
    fn named(&self, map: &str, name: &str) -> &'a Yaml {
        let map = self.yaml().at(map);
        map.get(name).unwrap_or(map)
    }
}

impl Reader<'_> {
    fn wrong(&mut self, span: Span, message: impl Into<String>, label: impl Into<String>) {
        self.file.findings.push(Finding::error(&SETTING_VALUE, span, message, label));
    }

    /// The folder, with another file in the place of the pipeline when one is given. None when lint has something to say.
    fn scene(&mut self, tree: &Yaml, instead: Option<(&Path, &Scene)>) -> Option<Scene> {
        let env = |name: &str| self.env.get(name).cloned();
        let checked = match self.check(&env, instead.map(|(path, _)| path)) {
            Ok(checked) => checked,
            Err(error) => {
                self.wrong(tree.span, format!("{error:#}"), "");
                return None;
            }
        };
        let Checked { graph, findings, mut texts, .. } = checked;
        texts.see_from(self.root);
        let graph = graph.filter(|_| findings.is_empty());
        let Some(graph) = graph else {
            self.file.lint.push((findings, texts));
            return None;
        };
        let known = |graph: &config::Graph, pipeline: &str| {
            graph.nodes.keys().any(|name| name.split('/').next() == Some(pipeline))
        };
        let unknown: Vec<String> =
            self.pipelines.iter().filter(|pipeline| !known(&graph, pipeline)).cloned().collect();
        if let Some(unknown) = unknown.first() {
            let names = graph.nodes.keys().filter_map(|name| name.split('/').next());
            let label = match nearest(unknown, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "expected the name of a file beside it, or `pipelines:`".to_owned(),
            };
            let span = tree.get("pipelines").unwrap_or(tree).span;
            self.wrong(span, format!("there is no pipeline `{unknown}` to test"), label);
            return None;
        }
        Some(Scene::new(&graph, self.pipelines.clone(), instead.map(|(_, before)| before)))
    }

    fn check(&self, env: Environment<'_>, instead: Option<&Path>) -> anyhow::Result<Checked> {
        let mut replaced = BTreeMap::new();
        if let (Some(instead), Some(original)) = (instead, self.original()?) {
            let shown = original.strip_prefix(self.root).unwrap_or(&original).display().to_string();
            replaced.insert(shown, instead.to_owned());
        }
        Ok(lint::lint(config::load_instead(self.root, replaced, types(), env)?))
    }

    /// The file of the pipeline that is tested first.
    fn original(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(first) = self.pipelines.first() else { return Ok(None) };
        let is_it = |path: &PathBuf| path.file_stem().is_some_and(|stem| *stem == **first);
        Ok(config::Folder::open(self.root)?.pipelines.into_iter().find(is_it))
    }

    /// As a test has the name of a file.
    fn seen_here(&self, path: &Path) -> String {
        path.strip_prefix(self.beside).unwrap_or(path).display().to_string()
    }

    fn test(
        &mut self,
        scene: &Scene,
        pipeline: &str,
        settings: TestSettings,
        tree: &Yaml,
        place: &Place<'_>,
    ) {
        let before = self.file.findings.len();
        let TestSettings { name, lasts, steps, expect, arrives, .. } = settings;
        if !(Duration::from_secs(1)..=LONGEST).contains(&lasts) {
            let span = place.yaml().at("for").span;
            self.wrong(
                span,
                "`for` is out of range",
                format!("expected `1s` to `31d`, found {lasts}"),
            );
        }
        let mut scene = scene.clone();
        let mut versions = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let at = place.yaml().at(&format!("steps[{index}].use"));
            let uses = step.uses.as_ref();
            versions.push(
                uses.and_then(|uses| {
                    Some((uses.clone(), Arc::new(self.version(uses, &scene, at)?)))
                }),
            );
        }
        let replays = self.replays(&mut scene, &mut versions, [tree, place.yaml()]);
        versions.iter().flatten().for_each(|(_, version)| scene.meet(version));
        let mut world = self.world(&scene, tree.get("world"));
        world.extend(self.world(&scene, place.yaml().get("world")));
        let mut made = Vec::new();
        let mut latest = Duration::ZERO;
        for ((index, step), version) in steps.into_iter().enumerate().zip(versions) {
            let place = Place { tree, path: format!("{}.steps[{index}]", place.path) };
            let span = place.yaml().at("at").span;
            if *step.at < latest {
                self.wrong(
                    span,
                    "time goes back in a test",
                    "expected no time before that of the step above",
                );
            }
            if *step.at > *lasts {
                self.wrong(
                    span,
                    "the step comes after the end of the test",
                    format!("expected at most `for`, {lasts}"),
                );
            }
            latest = *step.at;
            made.push(self.step(&scene, step, version, &place));
        }
        let expected = self.expected(&scene, expect, arrives, place);
        let (line, column) = {
            let span = place.yaml().span;
            self.file.texts.line_column(span.file, span.range().start)
        };
        let shown = self.file.texts.seen(place.yaml().span.file);
        let test = Test {
            name,
            place: format!("{shown}:{line}:{column}"),
            beside: self.beside.to_owned(),
            root: self.root.to_owned(),
            pipeline: pipeline.to_owned(),
            lasts: *lasts,
            scene,
            world,
            steps: made,
            replays,
            expected,
        };
        // Who plays the other sides says what is wrong with what it is told.
        rehearse(&test, &mut self.file.findings);
        let is_wrong =
            self.file.findings[before..].iter().any(|finding| finding.level == Level::Error);
        if !is_wrong {
            self.file.tests.push(test);
        }
    }

    /// What sources send that play back a recording. Somebody stands in for them, in all versions of the pipeline.
    fn replays(
        &mut self,
        scene: &mut Scene,
        versions: &mut [Option<(String, Arc<Scene>)>],
        places: [&Yaml; 2],
    ) -> Vec<(Name, Vec<Sent>)> {
        let worlds = places.iter().filter_map(|place| place.get("world")?.entries());
        let mut replays = Vec::new();
        for entry in worlds.flatten() {
            let Some(file) = entry.value.get("replay") else { continue };
            let source = scene.node(&entry.key).filter(|(_, spec)| spec.role == Role::Source);
            let Some(name) = source.map(|(name, _)| Arc::clone(name)) else {
                let message = format!("`{}` is no source of these pipelines", entry.key);
                self.wrong(entry.key_span, message, "expected one, to play back what it sent");
                continue;
            };
            let path = self.beside.join(file.text().unwrap_or_default());
            match Recording::read(&path) {
                Ok(recording) => {
                    let sent = recording.nodes().remove(&*name).unwrap_or_default();
                    if sent.is_empty() {
                        let label = format!("expected messages of {name}");
                        self.wrong(file.span, "the recording has nothing of this node", label);
                    }
                    replays.push((Arc::clone(&name), scene.played_back(&name, &sent)));
                }
                Err(error) => {
                    let label = "expected a file of `forebay record`";
                    self.wrong(file.span, format!("it cannot be played back: {error:#}"), label);
                }
            }
            let other_side = Arc::default();
            scene.stand_in(&name, &other_side);
            for (_, version) in versions.iter_mut().flatten() {
                Arc::make_mut(version).stand_in(&name, &other_side);
            }
        }
        replays
    }

    /// The graph with another file in the place of the pipeline.
    fn version(&mut self, uses: &str, scene: &Scene, at: &Yaml) -> Option<Scene> {
        let path = self.beside.join(uses);
        if !path.is_file() {
            self.wrong(
                at.span,
                format!("there is no file `{uses}`"),
                "expected a path from this file",
            );
            return None;
        }
        let before = self.file.lint.len();
        let version = self.scene(at, Some((&path, scene)));
        if self.file.lint.len() > before {
            self.wrong(at.span, format!("the folder does not lint with `{uses}`"), "used here");
        }
        version
    }

    fn world(&mut self, scene: &Scene, written: Option<&Yaml>) -> Vec<Said> {
        let entries = written.and_then(Yaml::entries).unwrap_or_default();
        let mut world = Vec::new();
        for entry in entries {
            let Some(member) = self.member(scene, &entry.key, entry.key_span) else { continue };
            let told = &entry.value;
            let before = self.file.findings.len();
            let said = match told.entries() {
                None => self.link_word(told).map(|link| Said {
                    way: WaySettings { link: Some(link), ..WaySettings::default() },
                    member,
                    told: None,
                }),
                Some(entries) => {
                    let of_way = |entry: &&yaml::Entry| OF_THE_WAY.contains(&entry.key.as_str());
                    let (way, rest): (Vec<_>, Vec<_>) =
                        entries.iter().partition(|entry| of_way(entry));
                    let part = |entries: Vec<&yaml::Entry>| Yaml {
                        content: Content::Map(entries.into_iter().cloned().collect()),
                        ..told.clone()
                    };
                    let schema = schema_of::<WaySettings>();
                    let subject = format!("`{}` in `world`", entry.key);
                    let way: Option<WaySettings> =
                        yaml::read(&part(way), &schema, &subject, &mut self.file.findings);
                    let has_rest = !rest.is_empty();
                    let rest = part(rest);
                    match &scene.members[&member] {
                        Member::Peer { peer, .. } => {
                            let (schema, findings) = ((peer.schema)(), &mut self.file.findings);
                            yaml::check(&rest, &schema, &subject, told.span, findings);
                        }
                        Member::Broker | Member::StandIn(_) if has_rest => {
                            let label = "expected `link`, `latency`, `bytes_per_second`, or `replay` of a source";
                            let message = format!("nobody plays the other side of `{}`", entry.key);
                            self.wrong(told.span, message, label);
                        }
                        Member::Broker | Member::StandIn(_) => (),
                    }
                    way.map(|way| Said { way, member, told: has_rest.then_some(rest) })
                }
            };
            if self.file.findings.len() == before {
                world.extend(said);
            }
        }
        world
    }

    fn link_word(&mut self, told: &Yaml) -> Option<LinkWord> {
        let words = [
            ("up", LinkWord::Up),
            ("down", LinkWord::Down),
            ("silent", LinkWord::Silent),
            ("cut", LinkWord::Cut),
        ];
        let found = words.iter().find(|(word, _)| told.text() == Some(word));
        if found.is_none() {
            let label = "expected up, down, silent, cut, or a map";
            self.wrong(told.span, "no way is like this", label);
        }
        found.map(|(_, word)| *word)
    }

    fn member(&mut self, scene: &Scene, written: &str, span: Span) -> Option<Name> {
        if let Some(name) = scene.member(written) {
            return Some(Arc::clone(name));
        }
        let names: Vec<&str> = scene.members.keys().map(|name| &**name).collect();
        let label = match nearest(written, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "the pipelines have no other side".to_owned(),
            None => format!("expected one of {}", names.join(", ")),
        };
        self.wrong(span, format!("`{written}` is no other side of these pipelines"), label);
        None
    }

    fn step(
        &mut self,
        scene: &Scene,
        step: StepSettings,
        uses: Option<(String, Arc<Scene>)>,
        place: &Place<'_>,
    ) -> Step {
        let StepSettings { at, send, restarts, clock, disk, power, expect, arrives, .. } = step;
        for entry in place.yaml().get("world").and_then(Yaml::entries).unwrap_or_default() {
            if let Some(replay) = entry.value.get("replay") {
                let label = "expected in the `world` of the test";
                self.wrong(replay.span, "a recording is played back from the beginning", label);
            }
        }
        let world = self.world(scene, place.yaml().get("world"));
        let mut sent = Vec::new();
        for (name, messages) in send {
            let Some(member) = self.member(scene, &name, place.named("send", &name).span) else {
                continue;
            };
            let messages = match messages {
                ShortOr::Short(messages) => messages,
                ShortOr::Long(message) => vec![message],
            };
            sent.extend(messages.into_iter().map(|message| (Arc::clone(&member), message)));
        }
        let clock_nanos = clock.map_or(0, |clock| {
            let (sign, text) = match clock.strip_prefix('-') {
                Some(text) => (-1, text),
                None => (1, clock.strip_prefix('+').unwrap_or(&clock)),
            };
            match Period::parse(text) {
                Ok(period) => sign * i64::try_from(period.as_nanos()).unwrap_or(i64::MAX),
                Err(label) => {
                    let span = place.yaml().at("clock").span;
                    self.wrong(span, "`clock` is no step of a clock", label);
                    0
                }
            }
        });
        if restarts.is_some() && uses.is_none() {
            let span = place.yaml().at("restarts").span;
            self.wrong(span, "nothing restarts here", "expected beside `use`");
        }
        let expected = self.expected(scene, expect, arrives, place);
        Step { at: *at, world, send: sent, uses, restarts, clock_nanos, disk, power, expected }
    }

    fn expected(
        &mut self,
        scene: &Scene,
        expect: BTreeMap<String, ExpectSettings>,
        arrives: BTreeMap<String, ArrivesSettings>,
        place: &Place<'_>,
    ) -> Expected {
        let mut expected = Expected::default();
        for (written, settings) in expect {
            let at = place.named("expect", &written);
            if scene.output(&written).is_none() {
                let nodes = scene.graph.nodes.keys();
                let names: Vec<&str> =
                    nodes.map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
                let label = match nearest(&written, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("expected one of {}", names.join(", ")),
                };
                self.wrong(at.span, format!("no output is named `{written}`"), label);
                continue;
            }
            self.expressions(&settings, at);
            expected.outputs.push((written, settings));
        }
        for (written, settings) in arrives {
            let at = place.named("arrives", &written);
            let Some(member) = self.member(scene, &written, at.span) else { continue };
            self.expressions(&settings.messages(), at);
            expected.members.push((written, member, settings));
        }
        expected
    }

    /// Reads the expressions, to say what is wrong with them.
    fn expressions(&mut self, settings: &ExpectSettings, at: &Yaml) {
        let mut problems: Vec<Problem> = Vec::new();
        if let Some(each) = &settings.each {
            expression::compile(each, "each", Gives::Truth, &mut problems);
        }
        let mut compile = |message: &ExpectedSettings, setting: String| {
            if let Some(holds) = &message.holds {
                expression::compile(holds, &setting, Gives::Truth, &mut problems);
            }
        };
        for (key, list) in [("messages", &settings.messages), ("among", &settings.among)] {
            for (index, message) in list.iter().flatten().enumerate() {
                compile(message, format!("{key}[{index}].where"));
            }
        }
        settings.last.iter().for_each(|message| compile(message, "last.where".to_owned()));
        let findings = problems.into_iter().map(|problem| problem.at(|path| at.at(path).span));
        self.file.findings.extend(findings);
    }
}
