//! What was read, wrong or right: the material of lint.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use forebay_sdk::{Configured, Finding, Level, NodeType, Port, Problem, Role, Span};
use forebay_yaml::{self as yaml, Entry, Hidden, Module, Yaml};
use serde_json::Value;

use super::{
    common::Common,
    filled::{Filled, Unshown},
    folder::{Folder, Place},
    graph::{ConnectionSpec, Graph, Name, NodeSpec, Output},
    inside::{file_of, inside, inside_file},
    loader::Reading,
    places::Places,
    runtime::Runtime,
    texts::Texts,
    types::Types,
    watched::Watched,
};
use crate::rules::PLAIN_SECRET;

/// A folder that was read.
pub struct Draft {
    /// The files, for showing.
    pub texts: Texts,
    /// What is wrong so far.
    pub findings: Vec<Finding>,
    /// One for each pipeline file that could be read.
    pub pipelines: Vec<Pipeline>,
    /// Connections and nodes, in the order of the files.
    pub parts: Vec<Part>,
    /// The settings of the runtime.
    pub runtime: Runtime,
    /// `forebay.yaml` as written, when there is one.
    pub runtime_written: Option<Yaml>,
    /// Where a change matters.
    pub watched: Watched,
    /// Where pipeline files were looked for.
    pub place: Place,
    /// Whether a variable without a value is one that is set elsewhere. Then there is no graph.
    pub is_set_elsewhere: bool,
    /// What came out of variables.
    pub filled: Filled,
    /// The types that its nodes can have.
    pub types: Arc<Types>,
    /// Those that were taken apart.
    pub(super) expanded: BTreeSet<String>,
    /// Of those that its parts have, by section and name.
    schemas: BTreeMap<(Option<Role>, String), Arc<Value>>,
    noted: DefaultHasher,
}

/// One pipeline file.
pub struct Pipeline {
    /// The file's stem.
    pub name: String,
    /// The file.
    pub file: u32,
    /// Whether all of its nodes are known, right or wrong.
    pub is_whole: bool,
}

/// A connection or a node, as far as it could be read.
pub struct Part {
    /// `boiler-room/meter`, or `cloud` for a connection.
    pub name: Name,
    /// The name within the pipeline.
    pub short: String,
    /// The pipeline it stands in.
    pub pipeline: String,
    /// Where its name stands, or that of the whole that it was taken out of.
    pub name_span: Span,
    /// The YAML that made it, when it was not written as it is.
    pub origin: Option<Span>,
    /// The type, or the section, of the whole that it was taken out of.
    pub taken_from: Option<String>,
    /// The section it stands in.
    pub role: Role,
    /// What stands after `type:`. Empty when nothing does.
    pub type_name: String,
    /// The type, when there is one of that name.
    pub node_type: Option<Arc<dyn NodeType>>,
    /// Its own settings, without those that every node has.
    pub settings: Yaml,
    /// Those that every node has, as written.
    pub common_settings: Yaml,
    /// Those that every node has, as the engine takes them.
    pub common: Common,
    /// Where its scripts stand.
    pub places: Places,
    /// None when the settings are wrong.
    pub configured: Option<Arc<dyn Configured>>,
    /// Changes when the files do that it reads as it runs.
    pub files: u64,
    /// The connection it uses.
    pub uses: Option<Uses>,
    /// Whether it says what it reads, be it right or wrong.
    pub has_from: bool,
    /// What it reads.
    pub from: Vec<Upstream>,
}

/// A node's use of a connection.
pub struct Uses {
    /// The connection's name.
    pub connection: Name,
    /// Where it stands.
    pub span: Span,
    /// In which of the ways.
    pub how: How,
}

/// The ways in which a node says what connection it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It names one of the folder.
    ByName,
    /// It has one of its own, whose settings stand there.
    InPlace,
    /// Both were made of one thing.
    Sibling,
}

/// One entry of `from:`.
pub struct Upstream {
    /// The node.
    pub node: String,
    /// The output, when one is named.
    pub output: Option<String>,
    /// Where it stands.
    pub span: Span,
    /// How it is written: `meter`, or `route.high`.
    pub written: Arc<str>,
    /// Whether both were made of one thing. Nobody else can name such a node.
    pub is_sibling: bool,
}

impl Draft {
    pub(super) fn new(types: Arc<Types>) -> Draft {
        Draft {
            texts: Texts::default(),
            findings: Vec::new(),
            pipelines: Vec::new(),
            parts: Vec::new(),
            runtime: Runtime::default(),
            runtime_written: None,
            watched: Watched::default(),
            place: Place::default(),
            is_set_elsewhere: false,
            filled: Filled::default(),
            types,
            expanded: BTreeSet::new(),
            schemas: BTreeMap::new(),
            noted: DefaultHasher::new(),
        }
    }

    /// Reads further files for it.
    pub(super) fn reading<'a>(&'a mut self, folder: &'a Folder) -> Reading<'a> {
        let Draft { findings, texts, watched, .. } = self;
        Reading { findings, folder, texts, watched, taken: BTreeSet::new() }
    }

    /// The schema of a type, made once for all nodes that have it.
    pub(super) fn schema(
        &mut self,
        role: Option<Role>,
        name: &str,
        make: impl FnOnce() -> Value,
    ) -> Arc<Value> {
        let made = self.schemas.entry((role, name.to_owned()));
        Arc::clone(made.or_insert_with(|| Arc::new(make())))
    }

    /// Reports what a schema does not allow, and hides what nobody may see. Says whether there is an error.
    pub(super) fn check_settings(
        &mut self,
        settings: &Yaml,
        schema: &Value,
        title: &str,
        owner: Span,
    ) -> bool {
        let before = self.findings.len();
        let secrets = yaml::check(settings, schema, title, owner, &mut self.findings);
        let is_wrong = self.findings[before..].iter().any(|finding| finding.level == Level::Error);
        for secret in secrets {
            self.texts.hide(secret.span);
            self.findings.extend(plain_secret(&secret));
        }
        is_wrong
    }

    /// Takes note of a text that matters and is not kept, such as a secret or a certificate.
    pub(super) fn note_unshown(&mut self, text: &str) {
        text.hash(&mut self.noted);
    }

    /// Changes when anything does that was read and is not kept.
    pub fn unshown_hash(&self) -> u64 {
        self.noted.finish()
    }

    /// Changes when anything that was read does, comments included.
    pub fn content_hash(&self) -> u64 {
        let mut hasher = self.noted.clone();
        self.texts.iter().for_each(|file| file.hash(&mut hasher));
        self.findings.len().hash(&mut hasher);
        hasher.finish()
    }

    /// The nodes of a pipeline.
    pub fn nodes<'a>(&'a self, pipeline: &'a str) -> impl Iterator<Item = &'a Part> {
        let is_node =
            move |part: &&Part| part.role != Role::Connection && part.pipeline == pipeline;
        self.parts.iter().filter(is_node)
    }

    /// The connections that tell how a link is.
    fn telling_of_links(&self) -> Vec<Name> {
        let connections = self.parts.iter().filter(|part| part.role == Role::Connection);
        let tells = |part: &&Part| part.configured.as_ref().is_some_and(|it| it.knows_link());
        connections.filter(tells).map(|part| Arc::clone(&part.name)).collect()
    }

    /// The graph. Only for a draft that lint found no error in.
    pub fn into_graph(self) -> Graph {
        const WHY: &str = "lint refuses a draft in which this is wrong";
        let ports: BTreeMap<Name, Vec<String>> =
            self.parts.iter().map(|part| (Arc::clone(&part.name), part.outputs())).collect();
        let unshown: BTreeMap<Name, Unshown> = self
            .parts
            .iter()
            .map(|part| (Arc::clone(&part.name), self.filled.inside(part.settings.span)))
            .collect();
        let telling = self.telling_of_links();
        let mut graph = Graph::default();
        for mut part in self.parts {
            if let [one] = &*telling {
                let rules = part.common.link.iter().map(|rule| rule.of_the_one(one));
                part.common.link = rules.collect();
            }
            let fingerprint = part.fingerprint();
            let configured = part.configured.expect(WHY);
            let uses = part.uses.as_ref().and_then(|uses| unshown.get(&uses.connection));
            let unshown = unshown[&part.name].and(uses.unwrap_or(&Unshown::default()));
            if part.role == Role::Connection {
                let type_name = part.type_name;
                let spec = ConnectionSpec { type_name, fingerprint, configured, unshown };
                graph.connections.insert(part.name, spec);
                continue;
            }
            let mut from: Vec<Output> = Vec::new();
            for upstream in part.from {
                let node: Name = format!("{}/{}", part.pipeline, upstream.node).into();
                let port = port(ports.get(&node).expect(WHY), upstream.output.as_deref());
                let output = Output { node, port: port.expect(WHY), written: upstream.written };
                if from.iter().all(|other| (&other.node, other.port) != (&output.node, output.port))
                {
                    from.push(output);
                }
            }
            let spec = NodeSpec {
                role: part.role,
                type_name: part.type_name,
                fingerprint,
                configured,
                connection: part.uses.map(|uses| uses.connection),
                from,
                common: part.common,
                places: part.places,
                unshown,
            };
            graph.nodes.insert(part.name, spec);
        }
        graph
    }
}

/// The port of an output by its name; None for the main one.
pub fn port(outputs: &[String], name: Option<&str>) -> Option<Port> {
    match name {
        None => Some(Port::MAIN),
        Some("errors") => Some(Port::ERRORS),
        Some(name) => outputs.iter().position(|output| output == name).map(Port::named),
    }
}

impl Part {
    /// Names of the outputs beside the main one and `errors`.
    pub fn outputs(&self) -> Vec<String> {
        self.configured.as_ref().map(|configured| configured.outputs()).unwrap_or_default()
    }

    /// One of the settings that every node has, as written.
    pub fn common_setting(&self, key: &str) -> Option<&Entry> {
        self.common_settings.entry(key)
    }

    /// Where it is made: where what is wrong with all of it is marked.
    pub fn span(&self) -> Span {
        self.origin.unwrap_or(self.name_span)
    }

    /// Where all of it is written.
    pub fn written(&self) -> Span {
        match (self.origin, self.name_span, self.settings.span) {
            (Some(origin), ..) => origin,
            (None, name, settings) if name.file == settings.file => {
                Span::new(name.file, name.range().start..settings.range().end)
            }
            (None, name, _) => name,
        }
    }

    /// What it is, for a finding: "mqtt sink `plant`".
    pub fn title(&self) -> String {
        format!("{} {} `{}`", self.type_name, self.role.noun(), self.short).trim_start().to_owned()
    }

    /// Gives a problem of the settings its place in a file.
    pub fn place(&self, problem: Problem, texts: &Texts) -> Finding {
        let value = self.settings.at(&problem.setting);
        let (is_of_node, at) = (problem.setting.is_empty(), problem.inside);
        if let (Some(module), Some(at)) = (self.module(value, problem.module.as_deref()), at) {
            let span = inside_file(module.file, &module.source.text, at);
            let finding = problem.at(|_| span.unwrap_or(Span::new(module.file, 0..0)));
            return finding.context(value.span, "used here");
        }
        let mut finding = problem.at(|setting| self.settings.at(setting).span);
        if is_of_node {
            finding.span = Some(self.span());
        }
        let text = file_of(value).map_or_else(|| "".into(), |file| texts.text(file));
        match at.map(|at| (at, inside(value, at, &text))) {
            Some((_, Some(inside))) => {
                finding.span = Some(inside);
                if inside.file != value.span.file {
                    finding = finding.context(value.span, "used here");
                }
            }
            // The lines of the text are not those of the file.
            Some(((line, column), None))
                if value.text().is_some_and(|text| text.contains('\n')) =>
            {
                finding.label = format!("line {line}, column {column}: {}", finding.label);
            }
            Some((_, None)) | None => (),
        }
        match finding.span {
            Some(span) if span.file == self.name_span.file && span != self.name_span => {
                finding.context(self.name_span, "")
            }
            _ => finding,
        }
    }

    /// What the text of a setting imports by this name.
    fn module<'a>(&self, value: &'a Yaml, name: Option<&str>) -> Option<&'a Module> {
        value.scalar()?.modules.iter().find(|module| Some(&*module.source.name) == name)
    }

    /// What its scripts import.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        let settings = self.settings.entries().into_iter().flatten();
        let scalars = settings.filter_map(|setting| setting.value.scalar());
        scalars.flat_map(|scalar| &scalar.modules)
    }

    /// Order of keys, comments and spelling of numbers do not matter.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.type_name.hash(&mut hasher);
        self.role.hash(&mut hasher);
        self.node_type.as_ref().map(|node_type| node_type.fingerprint()).hash(&mut hasher);
        self.uses.as_ref().map(|uses| &uses.connection).hash(&mut hasher);
        hash_value(&self.settings.to_value(), &mut hasher);
        self.modules().for_each(|module| module.source.hash(&mut hasher));
        self.files.hash(&mut hasher);
        hasher.finish()
    }
}

fn hash_value(value: &serde_json::Value, hasher: &mut DefaultHasher) {
    match value {
        serde_json::Value::Object(map) => {
            let sorted: BTreeMap<&String, &serde_json::Value> = map.iter().collect();
            sorted.len().hash(hasher);
            for (key, value) in sorted {
                key.hash(hasher);
                hash_value(value, hasher);
            }
        }
        serde_json::Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash_value(item, hasher));
        }
        scalar => scalar.to_string().hash(hasher),
    }
}

/// Files of pipelines are kept in git and passed on.
fn plain_secret(hidden: &Hidden) -> Option<Finding> {
    let setting = hidden.secret_in_clear.as_ref()?;
    let name = setting.rsplit('.').next().unwrap_or(setting);
    let file = name.to_lowercase();
    let message = format!("`{setting}` can be read by everybody who sees this file");
    let label = format!("expected `${{file:secrets/{file}}}`");
    let finding = Finding::warning(&PLAIN_SECRET, hidden.span, message, label);
    let help =
        format!("write it into secrets/{file}, or take it from the environment: ${{env:NAME}}");
    Some(finding.help(help))
}
