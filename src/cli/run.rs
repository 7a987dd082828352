//! `forebay run`: runs a folder and follows its changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use forebay_sdk::{Level, Timestamp};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};
use tracing::{debug, error, info, warn};

use super::{
    DEFAULT_FOLDER, Ending, check, data_folder, init_log, last_good, lint::nothing_to_run,
    process_environment, summary, use_color,
};
use crate::{
    config::{runtime::LogFormat, watch::Watch},
    engine::Engine,
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

/// Runs a task to its end, and does not wait for a disk or terminal that is stuck.
///
/// One thread runs all nodes: on a router there is little to gain from more, and each costs memory.
/// Files are read beside it.
pub(super) fn block_on(
    work: impl Future<Output = anyhow::Result<Ending>>,
) -> anyhow::Result<Ending> {
    const FILE_THREADS: usize = 4;
    // A script nested as deep as its limits allow is compiled on such a thread. Touched on demand.
    const STACK_BYTES: usize = 8 << 20;
    const LAST_WORDS: Duration = Duration::from_millis(500);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .thread_stack_size(STACK_BYTES)
        .build()
        .context("starting")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}

async fn serve(
    arguments: Arguments,
    variables: Variables,
    checked: Checked,
) -> anyhow::Result<Ending> {
    let mut signals = Signals::new()?;
    let mut watch = Watch::new(!arguments.poll);
    watch.set(&checked.watched);
    let data = data_folder(arguments.data, checked.runtime.data.clone());
    let mut running = Running {
        engine: Engine::new(arguments.folder.as_path(), data.as_path()),
        data,
        stop_within: *checked.runtime.stop_within,
        log_format: checked.runtime.log.format,
        accepted: checked.content_hash,
        seen: checked.content_hash,
        since: String::new(),
    };
    running.start(checked, &arguments.folder).await;
    loop {
        let asked = tokio::select! {
            () = watch.changed() => false,
            reason = signals.next() => match reason {
                Reason::Reload => true,
                Reason::Stop(name) => {
                    info!("stopping on {name}");
                    break;
                }
            },
        };
        match check_beside(&arguments.folder, &variables).await {
            Ok(checked) => {
                watch.set(&checked.watched);
                running.reload(checked, asked).await;
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
    match (stopped.undelivered, stopped.kept) {
        (0, 0) => info!("stopped; everything was delivered"),
        (0, kept) => {
            info!(kept, "stopped; what is in buffers on disk is sent after the next start")
        }
        (left, _) => error!(left, "stopped with messages that were not delivered; they are lost"),
    }
    Ok(Ending::Fine)
}

/// The engine, and what is known about the files behind it.
struct Running {
    engine: Engine,
    data: PathBuf,
    stop_within: Duration,
    log_format: LogFormat,
    /// Content of the set that runs.
    accepted: u64,
    /// Content of the set that was looked at last, so that a bad one is reported once.
    seen: u64,
    since: String,
}

impl Running {
    async fn start(&mut self, checked: Checked, folder: &Path) {
        let (pipelines, texts) = (checked.pipelines, checked.texts);
        let Some(graph) = checked.graph else { return };
        let nodes = graph.nodes.len();
        self.engine.apply(graph).await;
        self.since = now();
        info!(pipelines, nodes, folder = %folder.display(), version = env!("CARGO_PKG_VERSION"), "running");
        self.engine.report_orphans().await;
        self.keep_copy(texts).await;
    }

    /// Goes over to a set of files, or refuses it and says why.
    async fn reload(&mut self, checked: Checked, asked: bool) {
        if checked.content_hash == self.seen {
            match asked {
                true => info!("reload asked for: nothing changed"),
                false => debug!("nothing changed"),
            }
            return;
        }
        self.seen = checked.content_hash;
        print_findings(&checked, self.log_format);
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
        let plan = self.engine.apply(graph).await;
        self.accepted = checked.content_hash;
        self.since = now();
        match checked.pipelines {
            0 => warn!("reloaded: {plan}; no pipeline is left, waiting for files"),
            _ => info!("reloaded: {plan}; {found}"),
        }
        self.keep_copy(checked.texts).await;
    }

    fn goes_on(&self) -> String {
        format!("still running the pipelines loaded at {}", self.since)
    }

    /// For `forebay plan`. A folder that cannot be written is no reason not to run.
    async fn keep_copy(&self, texts: crate::config::Texts) {
        let data = self.data.clone();
        let saved = spawn_blocking(move || last_good::save(&data, &texts)).await;
        if let Ok(Err(error)) = saved {
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
                    Level::Error => error!(rule = finding.rule, "{}", line.trim_end()),
                    Level::Warning => warn!(rule = finding.rule, "{}", line.trim_end()),
                }
            }
        }
    }
}

/// The time of day in UTC, `09:14:02`.
fn now() -> String {
    Timestamp::now().to_rfc3339()[11..19].to_owned()
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
