//! `forebay run`: runs a folder and follows its changes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use forebay_sdk::{World, clock};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, interval},
};
use tracing::{error, info, warn};

use super::{
    answer,
    folder::{DEFAULT_FOLDER, data_folder, process_environment},
    half_written::Written,
    init_log, last_seen, lock,
    look::{Refused, Variables, last_good_beside, look, print_findings},
    output::Ending,
    running::{Cause, Running},
    runtime::block_on,
};
use crate::{
    api::{self, Questions},
    config::{Watched, runtime::LogFormat, watch::Watch},
    engine::Stopped,
    plugins,
    warnings::{STOPPED_AT_ONCE, STOPPED_WITH_MESSAGES},
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
/// How often it is looked for what nodes that are gone have left.
const LOOK_FOR_REMNANTS_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Signals that come closer together are one: `timeout` and others send it to the process and to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

pub(super) fn run(arguments: Arguments) -> anyhow::Result<Ending> {
    block_on(run_folder(arguments, Arc::new(process_environment)))
}

/// Runs a folder until a signal ends it.
pub(super) async fn run_folder(
    arguments: Arguments,
    variables: Variables,
) -> anyhow::Result<Ending> {
    let folder = &arguments.folder;
    let looked = look(folder, &variables, None).await;
    let (data, log) = match &looked {
        Ok(checked) => (checked.runtime.data.clone(), Some(checked.runtime.log.clone())),
        Err(refused) => (refused.data(), None),
    };
    let data = data_folder(arguments.data.clone(), data);
    let last_good = match &looked {
        Ok(_) => None,
        Err(_) => last_good_beside(&data, folder, &variables).await?,
    };
    if let (Err(refused), None) = (&looked, &last_good) {
        refused.print(LogFormat::Text);
        return nothing_was_started(refused);
    }
    let log_of_before = || last_good.as_ref().map(|last| last.checked.runtime.log.clone());
    init_log::set(&log.or_else(log_of_before).unwrap_or_default());
    // Whoever may not run here need not hear what is wrong here.
    let _lock = lock::take(&data).await?;
    match &looked {
        Ok(checked) => print_findings(checked, LogFormat::Text),
        Err(refused) => refused.print(LogFormat::Text),
    }
    let signals = Signals::new()?;
    clock::begin(last_seen::read(&data));
    let questions = api::open(&data);
    let world = World::system().with_program(questions.from_within());
    let world = match plugins::web() {
        Some(web) => world.with_web(web),
        None => world,
    };
    let mut running = Running::new(folder, &variables, arguments.data.clone(), data, world);
    running.remember_receipts().await;
    let watched = match (looked, last_good) {
        (Ok(checked), _) => {
            let watched = checked.watched.clone();
            running.start(checked).await;
            watched
        }
        (Err(refused), last_good) => {
            let watched = refused.watched(folder);
            if let Some(last) = last_good {
                running.start_last_good(&refused, last).await;
            }
            watched
        }
    };
    serve(&arguments, &variables, running, signals, questions, &watched).await
}

/// The first start of a folder that cannot run.
fn nothing_was_started(refused: &Refused) -> anyhow::Result<Ending> {
    let has_findings = refused.checked.as_ref().is_some_and(|checked| !checked.is_empty());
    if !has_findings {
        bail!("{}", refused.why);
    }
    eprintln!("{}: nothing was started", refused.why);
    Ok(Ending::Findings)
}

/// Follows the folder until a signal ends that, and then stops.
async fn serve(
    arguments: &Arguments,
    variables: &Variables,
    mut running: Running,
    mut signals: Signals,
    mut questions: Questions,
    watched: &Watched,
) -> anyhow::Result<Ending> {
    let folder = &arguments.folder;
    let data = running.data().to_owned();
    let mut clock = std::pin::pin!(last_seen::keep(&data));
    let mut watch = Watch::new(!arguments.poll);
    watch.set(&running.watched(watched));
    let mut rest = interval(WRITE_REST_EVERY);
    let mut remnants = interval(LOOK_FOR_REMNANTS_EVERY);
    let mut cause = Cause::Change;
    loop {
        questions.open_door(running.door());
        let asked = {
            let mut changed = std::pin::pin!(watch.changed());
            loop {
                tokio::select! {
                    () = &mut changed => break None,
                    reason = signals.next() => break Some(reason),
                    () = running.reload_asked.notified() => break Some(Reason::Reload),
                    () = running.engine.damaged() => running.engine.mend().await,
                    () = &mut clock => (),
                    question = questions.next() => answer::answer(question, &running),
                    _ = rest.tick() => running.engine.write_rest(),
                    _ = remnants.tick() => running.engine.remove_remnants().await,
                }
            }
        };
        match asked {
            None => (),
            Some(Reason::Reload) => {
                cause = Cause::Signal;
                watch.ask();
                continue;
            }
            Some(Reason::Stop(name)) => {
                info!("stopping on {name}");
                break;
            }
        }
        let look = look(folder, variables, running.place());
        let looked = answering(&running, &mut questions, look).await;
        // Half a file may well be one that lints.
        if !answering(&running, &mut questions, watch.is_undisturbed()).await {
            continue;
        }
        let read = looked.as_ref().ok().or_else(|| looked.as_ref().err()?.checked.as_ref());
        let written = if watch.take_pieced() { Written::InPieces } else { Written::Whole };
        if let Some(read) = read
            && let Some(until) = running.half_written.look(read, written)
            && cause == Cause::Change
        {
            watch.set(&running.watched(&read.watched));
            watch.look_again_at(until);
            continue;
        }
        match looked {
            Ok(checked) => {
                watch.set(&running.watched(&checked.watched));
                running.reload(checked, cause).await;
            }
            Err(refused) => {
                watch.set(&running.watched(&refused.watched(folder)));
                running.refuse(&refused, cause).await;
                running.try_again(&refused, variables).await;
            }
        }
        cause = Cause::Change;
    }
    let within = running.stop_within();
    let stopped = tokio::select! {
        stopped = running.engine.stop(within) => stopped,
        () = signals.stop_again() => {
            error!(rule = %STOPPED_AT_ONCE, "stopped at once by a second signal; what was queued is lost");
            return Ok(Ending::Fine);
        }
    };
    last_seen::write_down(&data).await;
    say_how_it_stopped(stopped);
    Ok(Ending::Fine)
}

/// Does something that takes a while, and answers meanwhile.
async fn answering<T>(
    running: &Running,
    questions: &mut Questions,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            question = questions.next() => answer::answer(question, running),
        }
    }
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
            warn!(rule = %STOPPED_WITH_MESSAGES, refused, dropped, lost, kept, "stopped; not everything was delivered");
        }
        (Some(left), _, _) if lost.is_none() => {
            warn!(
                rule = %STOPPED_WITH_MESSAGES,
                left,
                refused,
                dropped,
                kept,
                "stopped with messages that were not delivered; their sources send them again"
            );
        }
        (Some(left), _, _) => {
            error!(
                rule = %STOPPED_WITH_MESSAGES,
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

    /// Resolves when the program is to stop, once what came with the first signal has passed.
    async fn stop_again(&mut self) {
        let passed = Instant::now() + SAME_SIGNAL;
        while matches!(self.next().await, Reason::Reload) || Instant::now() < passed {}
    }
}
