//! `forebay run`: runs a folder and follows its changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use forebay_sdk::{Level, Timestamp, clock};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{Instant, interval},
};
use tracing::{debug, error, info, warn};

use super::{
    accepted,
    folder::{DEFAULT_FOLDER, check, data_folder, nothing_to_run, process_environment},
    init_log, last_seen,
    output::{Ending, summary, use_color},
    runtime::block_on,
};
use crate::{
    config::{
        Runtime, Texts,
        runtime::{Log, LogFormat},
        watch::Watch,
    },
    engine::{Engine, Stopped},
    lint::{
        Checked,
        report::{Format, render},
    },
};

/// Run the pipelines of a folder, and follow its changes.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The folder.
    #[arg(default_value = DEFAULT_FOLDER)]
    pub(super) folder: PathBuf,
    /// Folder for what must survive a restart. [default: /var/lib/forebay]
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// Look for changes every two seconds, and do not ask the system to tell.
    #[arg(long)]
    pub(super) poll: bool,
}

/// How often it is looked for complaints that were only counted.
const WRITE_REST_EVERY: Duration = Duration::from_secs(10);

/// Looks up the variables that pipelines ask for.
pub(super) type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub(super) fn run(arguments: Arguments) -> anyhow::Result<Ending> {
    block_on(run_folder(arguments, Arc::new(process_environment)))
}

/// Runs a folder until a signal ends it.
pub(super) async fn run_folder(
    arguments: Arguments,
    variables: Variables,
) -> anyhow::Result<Ending> {
    let checked = check_beside(&arguments.folder, &variables).await?;
    if checked.is_empty() {
        bail!("{}", nothing_to_run(&arguments.folder, &checked));
    }
    print_findings(&checked, LogFormat::Text);
    if checked.graph.is_none() {
        eprintln!("{}: nothing was started", summary(&checked));
        return Ok(Ending::Findings);
    }
    init_log::init(&checked.runtime.log);
    serve(arguments, variables, checked).await
}

/// Reading and compiling many files takes a while; the nodes go on meanwhile.
async fn check_beside(folder: &Path, variables: &Variables) -> anyhow::Result<Checked> {
    let (folder, variables) = (folder.to_owned(), Arc::clone(variables));
    spawn_blocking(move || check(&folder, &*variables)).await.context("reading the folder")?
}

async fn serve(
    arguments: Arguments,
    variables: Variables,
    checked: Checked,
) -> anyhow::Result<Ending> {
    let mut signals = Signals::new()?;
    let mut watch = Watch::new(!arguments.poll);
    watch.set(&checked.watched);
    let data = data_folder(arguments.data.clone(), checked.runtime.data.clone());
    let data_of_clock = data.clone();
    clock::begin(last_seen::read(&data));
    let mut clock = std::pin::pin!(last_seen::keep(&data_of_clock));
    let mut rest = interval(WRITE_REST_EVERY);
    let mut running = Running {
        engine: Engine::new(arguments.folder.as_path(), data.as_path()),
        data_argument: arguments.data,
        data,
        stop_within: *checked.runtime.stop_within,
        log: checked.runtime.log.clone(),
        accepted: checked.content_hash,
        seen: checked.content_hash,
        since: String::new(),
    };
    running.start(checked, &arguments.folder).await;
    loop {
        let cause = tokio::select! {
            () = watch.changed() => Cause::Change,
            reason = signals.next() => match reason {
                Reason::Reload => Cause::Signal,
                Reason::Stop(name) => {
                    info!("stopping on {name}");
                    break;
                }
            },
            () = running.engine.damaged() => {
                running.engine.mend().await;
                continue;
            }
            () = &mut clock => continue,
            _ = rest.tick() => {
                running.engine.write_rest();
                continue;
            }
        };
        match check_beside(&arguments.folder, &variables).await {
            Ok(checked) => {
                watch.set(&checked.watched);
                running.reload(checked, cause).await;
            }
            Err(error) => {
                watch.forget();
                warn!("cannot read the folder: {error:#}; {}", running.goes_on());
            }
        }
    }
    let stopped = tokio::select! {
        stopped = running.engine.stop(running.stop_within) => stopped,
        () = signals.stop() => {
            error!("stopped at once by a second signal; what was queued is lost");
            return Ok(Ending::Fine);
        }
    };
    last_seen::write_down(&data_of_clock).await;
    say_how_it_stopped(stopped);
    Ok(Ending::Fine)
}

/// The last line, with all that did not arrive.
fn say_how_it_stopped(stopped: Stopped) {
    let some = |count: u64| (count > 0).then_some(count);
    let (left, kept) = (some(stopped.undelivered as u64), some(stopped.kept as u64));
    let (refused, dropped, lost) =
        (some(stopped.refused), some(stopped.dropped), some(stopped.lost));
    match (left, kept, refused.or(dropped).or(lost)) {
        (None, None, None) => info!("stopped; everything was delivered"),
        (None, Some(kept), None) => {
            info!(kept, "stopped; what is in buffers on disk is sent after the next start");
        }
        (None, _, Some(_)) => {
            warn!(refused, dropped, lost, kept, "stopped; not everything was delivered");
        }
        (Some(left), _, _) if lost.is_none() => {
            warn!(
                left,
                refused,
                dropped,
                kept,
                "stopped with messages that were not delivered; their sources send them again"
            );
        }
        (Some(left), _, _) => {
            error!(
                lost,
                refused,
                dropped,
                kept,
                left,
                "stopped with messages that were not delivered; they are lost"
            );
        }
    }
}

/// The engine, and what is known about the files behind it.
struct Running {
    engine: Engine,
    /// What the command line said about the data folder.
    data_argument: Option<PathBuf>,
    data: PathBuf,
    stop_within: Duration,
    log: Log,
    /// Content of the set that runs.
    accepted: u64,
    /// Content of the set that was looked at last, so that a bad one is reported once.
    seen: u64,
    since: String,
}

/// Why the files were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Change,
    /// Somebody asked for it, and wants to hear what came of it.
    Signal,
}

impl Running {
    async fn start(&mut self, checked: Checked, folder: &Path) {
        let (pipelines, texts) = (checked.pipelines, checked.texts);
        let Some(graph) = checked.graph else { return };
        let nodes = graph.nodes.len();
        self.engine.apply(graph).await;
        self.since = Timestamp::now().time_of_day();
        info!(pipelines, nodes, folder = %folder.display(), version = env!("CARGO_PKG_VERSION"), "running");
        self.engine.report_orphans().await;
        self.keep_copy(texts).await;
    }

    /// Goes over to a set of files, or refuses it and says why.
    async fn reload(&mut self, checked: Checked, cause: Cause) {
        if checked.content_hash == self.seen {
            match cause {
                Cause::Signal => info!("reload asked for: nothing changed"),
                Cause::Change => debug!("nothing changed"),
            }
            return;
        }
        self.seen = checked.content_hash;
        print_findings(&checked, self.log.format);
        let found = summary(&checked);
        let Some(graph) = checked.graph else {
            error!("reload refused: {found}; {}", self.goes_on());
            return;
        };
        if checked.content_hash == self.accepted {
            info!("the files are back to what runs; nothing to do");
            return;
        }
        self.stop_within = *checked.runtime.stop_within;
        self.say_what_takes_a_restart(&checked.runtime);
        let began = Instant::now();
        let plan = self.engine.apply(graph).await;
        debug!(
            millis = began.elapsed().as_millis(),
            "went from the running graph to the wanted one"
        );
        self.accepted = checked.content_hash;
        self.since = Timestamp::now().time_of_day();
        match checked.pipelines {
            0 => warn!("reloaded: {plan}; no pipeline is left, waiting for files"),
            _ => info!("reloaded: {plan}; {found}"),
        }
        self.keep_copy(checked.texts).await;
    }

    fn goes_on(&self) -> String {
        format!("still running the pipelines loaded at {}", self.since)
    }

    /// Buffers are open below the data folder, and the log goes where it goes from the first line on.
    fn say_what_takes_a_restart(&self, runtime: &Runtime) {
        let data = data_folder(self.data_argument.clone(), runtime.data.clone());
        if data != self.data {
            let (now, after) = (self.data.display(), data.display());
            warn!("the data folder stays {now}; `data: {after}` takes a restart");
        }
        if runtime.log != self.log {
            warn!("the log stays as it is; what changed below `log:` takes a restart");
        }
    }

    /// For `forebay plan`. A folder that cannot be written is no reason not to run.
    async fn keep_copy(&self, texts: Texts) {
        let data = self.data.clone();
        let kept = spawn_blocking(move || accepted::keep(&data, &texts)).await;
        if let Ok(Err(error)) = kept {
            warn!("{error:#}; `forebay plan` will not know what runs");
        }
    }
}

/// Findings are for people and go to standard error as they are; in a log of JSON they are lines.
fn print_findings(checked: &Checked, format: LogFormat) {
    match format {
        LogFormat::Text => {
            let color = use_color(&std::io::stderr());
            eprint!("{}", render(&checked.findings, &checked.texts, Format::Full, color));
        }
        LogFormat::Json => {
            for finding in &checked.findings {
                let line =
                    render(std::slice::from_ref(finding), &checked.texts, Format::Short, false);
                match finding.level {
                    Level::Error => error!(rule = finding.rule.name, "{}", line.trim_end()),
                    Level::Warning => warn!(rule = finding.rule.name, "{}", line.trim_end()),
                }
            }
        }
    }
}

/// Why the main loop woke up.
enum Reason {
    Reload,
    Stop(&'static str),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Reason {
        tokio::select! {
            _ = self.terminate.recv() => Reason::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Reason::Stop("SIGINT"),
            _ = self.hang_up.recv() => Reason::Reload,
        }
    }

    /// Resolves when the program is to stop.
    async fn stop(&mut self) {
        while matches!(self.next().await, Reason::Reload) {}
    }
}
