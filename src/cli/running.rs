//! What `run` runs: the engine, which files are behind it, and going over from one set to the next.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_sdk::{Span, Timestamp, World};
use tokio::{
    sync::{Mutex, Notify},
    task::spawn_blocking,
    time::Instant,
};
use tracing::{debug, error, info, warn};

use super::{
    accepted::{self, Copy},
    folder::data_folder,
    half_written::HalfWritten,
    init_log,
    look::{LastGood, Refused, Variables, last_good_beside, look, print_findings, short_findings},
    outlook::{Outlook, would},
    output::summary,
    receipts::{Receipt, Receipts, Result},
};
use crate::{
    api::Door,
    config::{
        Name, Place, Runtime, Texts, Watched,
        runtime::{Allowed, Log, LogLevel},
    },
    engine::{Engine, memory},
    lint::Checked,
    warnings::{
        COPY_NOT_KEPT, DATA_FOLDER_STAYS, LAST_GOOD_CANNOT_RUN, LAST_GOOD_RUNS, LOG_LEVEL_FORCED,
        NO_PIPELINE_LEFT, RELOAD_REFUSED,
    },
};

/// The engine, and what is known about the files behind it.
pub(super) struct Running {
    pub(super) engine: Engine,
    folder: PathBuf,
    variables: Variables,
    /// What the command line said about the data folder.
    data_argument: Option<PathBuf>,
    data: PathBuf,
    /// The settings of `forebay.yaml` by which it runs.
    runtime: Runtime,
    runs: Runs,
    /// Content of the set that runs.
    accepted: Option<u64>,
    /// Content of the set that was looked at last, so that a bad one is reported once.
    seen: Option<u64>,
    /// What has to rest before it runs.
    pub(super) half_written: HalfWritten,
    /// Where a change matters to what runs in the place of the folder.
    beside: Watched,
    /// What came of the changes so far.
    pub(super) receipts: Receipts,
    /// Why the folder as it stands was refused.
    refused: Option<String>,
    /// What lint finds in the folder as it stands.
    pub(super) findings: Vec<String>,
    /// Whoever asks what a reload would do has it look at the folder, one after the other.
    looks: Arc<Mutex<()>>,
    /// Somebody asked for a reload.
    pub(super) reload_asked: Notify,
    /// The files that run, and where each node stands in them.
    written: (Texts, BTreeMap<Name, Span>),
    /// When this process began.
    pub(super) began: Instant,
    /// How many pipelines run.
    pub(super) pipelines: usize,
}

/// What is behind the nodes that run.
enum Runs {
    /// The folder as it stood at a time of day.
    Folder { place: Place, since: String },
    /// What ran before, because the folder cannot run.
    LastGood(Copy),
    /// Neither can.
    Nothing,
}

/// Why the files were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Change,
    /// Somebody asked for it, and wants to hear what came of it.
    Signal,
}

impl Running {
    /// Runs nothing yet.
    pub(super) fn new(
        folder: &Path,
        variables: &Variables,
        data_argument: Option<PathBuf>,
        data: PathBuf,
        world: World,
    ) -> Running {
        Running {
            engine: Engine::in_world(folder, data.as_path(), world).within(memory::limit()),
            folder: folder.to_owned(),
            variables: Arc::clone(variables),
            data_argument,
            data,
            runtime: Runtime::default(),
            runs: Runs::Nothing,
            accepted: None,
            seen: None,
            half_written: HalfWritten::default(),
            beside: Watched::default(),
            receipts: Receipts::default(),
            refused: None,
            findings: Vec::new(),
            looks: Arc::default(),
            reload_asked: Notify::new(),
            written: Default::default(),
            began: Instant::now(),
            pipelines: 0,
        }
    }

    /// What came of changes in earlier runs.
    pub(super) async fn remember_receipts(&mut self) {
        let data = self.data.clone();
        self.receipts = spawn_blocking(move || Receipts::read(&data)).await.unwrap_or_default();
    }

    /// Starts what the folder holds.
    pub(super) async fn start(&mut self, checked: Checked) {
        self.seen = Some(checked.content_hash);
        self.accepted = self.seen;
        self.half_written.accept(&checked);
        self.findings = short_findings(&checked);
        self.runtime = checked.runtime.clone();
        self.runs = Runs::folder(&checked);
        let texts = checked.texts.clone();
        let receipt = Receipt::of(Result::Started, &checked);
        self.begin(checked, "running").await;
        self.write_receipt(receipt, &texts).await;
        self.keep_copy(texts).await;
    }

    /// Starts what ran before, when it can run.
    pub(super) async fn start_last_good(&mut self, refused: &Refused, last: LastGood) {
        self.seen = Some(refused.content_hash());
        let (why, when) = (&refused.why, last.copy.when());
        let LastGood { copy, checked } = last;
        self.refused = Some(why.clone());
        self.findings = refused.short_findings();
        self.beside = checked.watched.clone();
        if checked.graph.is_none() {
            print_findings(&checked, self.runtime.log.format);
            let found = summary(&checked);
            error!(
                rule = %LAST_GOOD_CANNOT_RUN,
                "the folder cannot run ({why}), and neither can the last good configuration, accepted {when} ({found}); nothing runs until one of them can"
            );
            return;
        }
        error!(
            rule = %LAST_GOOD_RUNS,
            "the folder cannot run ({why}); running the last good configuration instead, accepted {when}; the folder is followed"
        );
        self.accepted = Some(checked.content_hash);
        self.half_written.accept(&checked);
        self.runtime = checked.runtime.clone();
        self.runs = Runs::LastGood(copy);
        let texts = checked.texts.clone();
        let receipt = Receipt::of(Result::LastGood, &checked).because(why);
        self.begin(checked, "running the last good configuration").await;
        self.write_receipt(receipt, &texts).await;
    }

    async fn begin(&mut self, checked: Checked, what: &str) {
        let pipelines = checked.pipelines;
        let Some(graph) = checked.graph else { return };
        self.written = (checked.texts, checked.written);
        let nodes = graph.nodes.len();
        self.pipelines = pipelines;
        self.engine.apply(graph).await;
        let folder = self.folder.display();
        info!(pipelines, nodes, %folder, version = env!("CARGO_PKG_VERSION"), "{what}");
        self.engine.report_orphans().await;
    }

    /// Goes over to a set of files.
    pub(super) async fn reload(&mut self, checked: Checked, cause: Cause) {
        self.half_written.accept(&checked);
        self.findings = short_findings(&checked);
        if !self.is_news(checked.content_hash, cause) {
            return;
        }
        print_findings(&checked, self.runtime.log.format);
        let runs = Runs::folder(&checked);
        self.refused = None;
        if self.accepted == Some(checked.content_hash) {
            info!("the files are back to what runs; nothing to do");
            self.runs = runs;
            let receipt = Receipt::of(Result::Back, &checked);
            self.write_receipt(receipt, &checked.texts).await;
            return;
        }
        self.apply_runtime(&checked.runtime);
        let found = summary(&checked);
        let receipt = Receipt::of(Result::Reloaded, &checked);
        let Checked { graph: Some(graph), texts, written, pipelines, content_hash, .. } = checked
        else {
            return;
        };
        let began = Instant::now();
        let plan = self.engine.apply(graph).await;
        self.written = (texts.clone(), written);
        let receipt = receipt.took(began.elapsed()).did(&plan);
        self.pipelines = pipelines;
        self.accepted = Some(content_hash);
        self.runs = runs;
        self.beside = Watched::default();
        match pipelines {
            0 => {
                warn!(rule = %NO_PIPELINE_LEFT, "reloaded: {plan}; no pipeline is left, waiting for files")
            }
            _ => info!("reloaded: {plan}; {found}"),
        }
        self.write_receipt(receipt, &texts).await;
        self.keep_copy(texts).await;
    }

    /// Stays with what runs, and says why.
    pub(super) async fn refuse(&mut self, refused: &Refused, cause: Cause) {
        self.refused = Some(refused.why.clone());
        self.findings = refused.short_findings();
        if !self.is_news(refused.content_hash(), cause) {
            return;
        }
        refused.print(self.runtime.log.format);
        error!(rule = %RELOAD_REFUSED, "reload refused: {}; {}", refused.why, self.goes_on());
        if let Some(checked) = &refused.checked {
            let receipt = Receipt::of(Result::Refused, checked).because(&refused.why);
            self.write_receipt(receipt, &checked.texts).await;
        }
    }

    /// Why the folder as it stands does not run. None when it does.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Where the files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is behind the nodes, in words. None when there are none.
    pub(super) fn what_runs(&self) -> Option<String> {
        match &self.runs {
            Runs::Folder { .. } => Some("the folder".to_owned()),
            Runs::LastGood(copy) => {
                Some(format!("the last good configuration, accepted {}", copy.when()))
            }
            Runs::Nothing => None,
        }
    }

    /// What a reload of the folder as it stands would do. It is read as a reload reads it, with the variables and
    /// secrets of this process.
    pub(super) fn outlook(&self) -> impl Future<Output = Outlook> + Send + use<> {
        let (folder, variables) = (self.folder.clone(), Arc::clone(&self.variables));
        let (graph, place, data) =
            (self.engine.graph().clone(), self.place().cloned(), self.data.clone());
        let (goes_on, one_at_a_time) = (self.goes_on(), Arc::clone(&self.looks));
        async move {
            let _turn = one_at_a_time.lock().await;
            let looked = look(&folder, &variables, place.as_ref()).await;
            let found = looked.as_ref().ok().or_else(|| looked.as_ref().err()?.checked.as_ref());
            let findings = found.map(short_findings).unwrap_or_default();
            let (wanted, refused) = match looked {
                Ok(checked) => (checked.graph, None),
                Err(refused) => (None, Some(refused.why)),
            };
            let looking = spawn_blocking(move || {
                let would = wanted.map(|wanted| would(&graph, &wanted, &data));
                (folder.canonicalize().unwrap_or(folder), would)
            });
            let (folder, would) = looking.await.unwrap_or_default();
            Outlook { pid: std::process::id(), folder, goes_on, refused, findings, would }
        }
    }

    /// A folder that cannot be written is no reason not to run.
    async fn write_receipt(&mut self, receipt: Receipt, texts: &Texts) {
        self.receipts.add(receipt, texts);
        let (data, receipts) = (self.data.clone(), self.receipts.clone());
        let written = spawn_blocking(move || receipts.write(&data)).await;
        if let Ok(Err(error)) = written {
            debug!(%error, "what came of the change cannot be kept");
        }
    }

    /// When nothing runs: what ran before may be able to by now.
    pub(super) async fn try_again(&mut self, refused: &Refused, variables: &Variables) {
        if !matches!(self.runs, Runs::Nothing) {
            return;
        }
        if let Ok(Some(last)) = last_good_beside(&self.data, &self.folder, variables).await
            && last.checked.graph.is_some()
        {
            self.start_last_good(refused, last).await;
        }
    }

    /// Where what must survive a restart is.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Where the files that run came from, to be looked at again. None when that is not the folder.
    pub(super) fn place(&self) -> Option<&Place> {
        match &self.runs {
            Runs::Folder { place, .. } => Some(place),
            Runs::LastGood(_) | Runs::Nothing => None,
        }
    }

    /// Where a change matters, when this was read last.
    pub(super) fn watched(&self, read: &Watched) -> Watched {
        let mut watched = read.clone();
        watched.add(&self.beside);
        watched
    }

    fn is_news(&mut self, content_hash: u64, cause: Cause) -> bool {
        let is_news = self.seen.replace(content_hash) != Some(content_hash);
        match cause {
            _ if is_news => (),
            Cause::Signal => info!("reload asked for: nothing changed; {}", self.goes_on()),
            Cause::Change => debug!("nothing changed"),
        }
        is_news
    }

    fn goes_on(&self) -> String {
        match &self.runs {
            Runs::Folder { since, .. } => format!("still running the pipelines loaded at {since}"),
            Runs::LastGood(copy) => {
                format!("still running the last good configuration, accepted {}", copy.when())
            }
            Runs::Nothing => "nothing runs".to_owned(),
        }
    }

    /// Follows `forebay.yaml`. Only the data folder stays, because buffers are open below it.
    fn apply_runtime(&mut self, runtime: &Runtime) {
        let data = data_folder(self.data_argument.clone(), runtime.data.clone());
        if data != self.data {
            let (now, after) = (self.data.display(), data.display());
            warn!(rule = %DATA_FOLDER_STAYS, "the data folder stays {now}; `data: {after}` takes a restart");
        }
        let before = std::mem::replace(&mut self.runtime, runtime.clone());
        let stop_within = *runtime.stop_within;
        if stop_within != *before.stop_within {
            info!(?stop_within, "a stop may take another time now");
        }
        if runtime.log != before.log {
            change_log(&before.log, &runtime.log);
        }
    }

    /// How long a stop may take.
    pub(super) fn stop_within(&self) -> Duration {
        *self.runtime.stop_within
    }

    /// Where those on the network may ask how it is.
    pub(super) fn door(&self) -> Option<Door> {
        let api = self.runtime.api.as_ref()?;
        let tls = api.tls.as_ref().map(|tls| tls.in_folder(&self.folder));
        Some(Door { address: api.address()?, token: api.token.clone(), tls })
    }

    /// What whoever asks may have done.
    pub(super) fn allowed(&self) -> &[Allowed] {
        self.runtime.api.as_ref().map_or(&[], |api| &api.allow)
    }

    /// A node or connection as its file has it, without secrets. An error when there is no such.
    pub(super) fn settings(&self, name: &str) -> std::result::Result<String, String> {
        let (texts, places) = &self.written;
        let place = places.get(name);
        let span = *place.ok_or_else(|| format!("no node or connection is named `{name}`"))?;
        let text = texts.shown(span.file);
        let range = span.range();
        let before = text.get(..range.start).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |newline| newline + 1);
        let indent = range.start - line;
        let lines = text.get(line..range.end).unwrap_or_default().trim_end().lines();
        let lines = lines.map(|line| line.get(indent..).unwrap_or_else(|| line.trim_start()));
        let (path, number) = (texts.path(span.file), before.matches('\n').count() + 1);
        Ok(lines.fold(format!("# {path}:{number}\n"), |text, line| text + line + "\n"))
    }

    /// For the next start, and for `forebay plan`. A folder that cannot be written is no reason not to
    /// run.
    async fn keep_copy(&self, texts: Texts) {
        let (data, folder) = (self.data.clone(), self.folder.clone());
        let kept = spawn_blocking(move || accepted::keep(&data, &folder, &texts)).await;
        if let Ok(Err(error)) = kept {
            warn!(rule = %COPY_NOT_KEPT, "{error:#}; a start with a broken folder will not find it");
        }
    }
}

impl Runs {
    fn folder(checked: &Checked) -> Runs {
        Runs::Folder { place: checked.place.clone(), since: Timestamp::now().time_of_day() }
    }
}

/// Says so by the lines of before and by those of now: one of them is shown.
fn change_log(before: &Log, now: &Log) {
    let says = || match init_log::forced_level() {
        Some(_) if now.level != before.level => {
            warn!(rule = %LOG_LEVEL_FORCED, "`log.level` changes nothing: FOREBAY_LOG goes before it");
        }
        _ => info!("the log changed to level {:?}, format {:?}", now.level, now.format),
    };
    if now.level < LogLevel::Info {
        says();
        init_log::set(now);
    } else {
        init_log::set(now);
        says();
    }
}
