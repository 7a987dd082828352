//! The owner of a router, who alone talks to it.
//!
//! When the router does not answer, `run` ends, the engine waits and calls it again; meanwhile every
//! question fails at once.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use forebay_sdk::{
    Capabilities, Configured, Connection, Examination, Link, Node, Problem, Shared, Site,
    Timestamp, Voice, World,
    connection::Down,
    line::LineOwner,
    orders::Pace,
    panel::SharedPanel,
    tls::{Oldest, Tls},
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep_until};

use crate::{
    action::{Action, Kind},
    counters::Counters,
    examine::examine,
    group::{Group, Part},
    modem::Identifiers,
    normal::{self, Raw},
    provider::{Provider, why_absent},
    router::{Job, Router, SharedRouter, Stopped},
    rutos::{ActFailure, Answers},
};

/// How often what was counted is written down: flash wears, and the counters of the router go on.
const SAVE_EVERY: Duration = Duration::from_secs(300);
/// What is known of the link is not true for longer, unless it is read more rarely.
const LINK_LASTS: Duration = Duration::from_secs(60);

impl Configured for Router {
    fn build(&self, site: Site) -> Node {
        let (shared, line) = SharedRouter::new();
        let shared = Arc::new(shared);
        let certificates = self.certificates(Arc::clone(&site.folder));
        let owner = Owner {
            router: self.clone(),
            certificates,
            line,
            link: site.links.of(&site.name),
            world: site.world,
            data: site.data,
            provider: None,
            counters: None,
            pace: Pace::default(),
            link_read: None,
        };
        let panel = SharedPanel(Arc::clone(&shared) as _);
        Node::connection(Shared::new(shared).also(Arc::new(panel)), owner)
    }

    fn capabilities(&self) -> Capabilities {
        let is_near = self.place.as_ref().is_none_or(|place| place.endpoint.is_local());
        Capabilities { is_near, ..Capabilities::default() }
    }

    fn check_files(&self, folder: &Path) -> Vec<Problem> {
        self.certificates(folder.into()).problems()
    }

    fn files(&self, folder: &Path) -> Vec<std::path::PathBuf> {
        self.certificates(folder.into()).files()
    }

    fn examine<'a>(&'a self, asked: &'a Examination<'a>) -> Option<LocalBoxFuture<'a, ()>> {
        let certificates = self.certificates(Arc::clone(&asked.site.folder));
        Some(async move { examine(self, &certificates, asked).await }.boxed_local())
    }

    fn refuses_switching(&self) -> Option<Problem> {
        self.refuses("connection", Kind::Output)
    }

    fn knows_link(&self) -> bool {
        true
    }
}

impl Router {
    fn certificates(&self, folder: Arc<Path>) -> Tls {
        Tls { folder, ca: self.ca.clone(), cert: None, key: None, oldest: Oldest::default() }
    }
}

/// The task that asks.
struct Owner {
    router: Router,
    certificates: Tls,
    line: LineOwner<Job>,
    link: Link,
    world: World,
    /// Its folder for what must survive a restart.
    data: Arc<Path>,
    /// None until it is known how to ask.
    provider: Option<Provider>,
    counters: Option<Kept>,
    /// When the next message that asks for something may have it.
    pace: Pace,
    link_read: Option<Instant>,
}

/// What was counted, and whether the file has it.
struct Kept {
    counters: Counters,
    is_saved: bool,
    save_at: Instant,
}

impl Connection for Owner {
    /// Serves questions until the router does not answer one.
    async fn run(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let served = self.serve(voice).await;
        if let Err(error) = &served {
            self.line.down(format!("{error:#}"));
        }
        served
    }

    async fn close(&mut self) {
        if let Some(kept) = &self.counters {
            kept.counters.save(&self.data, &Voice::unheard()).await;
        }
        if let Some(provider) = &mut self.provider {
            provider.leave().await;
        }
    }
}

impl Owner {
    async fn serve(&mut self, voice: &Voice) -> anyhow::Result<()> {
        if self.counters.is_none() {
            let counters = Counters::load(&self.data).await;
            let save_at = Instant::now() + SAVE_EVERY;
            self.counters = Some(Kept { counters, is_saved: true, save_at });
        }
        let provider = match &mut self.provider {
            Some(provider) => provider,
            None => {
                let found = self.router.find(&self.world, &self.certificates).await?;
                self.provider.insert(found)
            }
        };
        provider.enter().await?;
        voice.ready();
        let mut jobs = self.line.serve();
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.next_look()) => self.look(voice).await?,
                () = self.link.watched(), if self.link_read.is_none() => self.read_link(voice).await?,
                job = jobs.next() => self.take(job, voice).await?,
            }
        }
    }

    /// When there is something to do although nobody asks.
    fn next_look(&self) -> Instant {
        let save_at = self.counters.as_ref().map(|kept| kept.save_at);
        let link = self.link_read.map(|read| read + *self.router.link_every);
        let next = save_at.into_iter().chain(link).min();
        next.unwrap_or_else(|| Instant::now() + SAVE_EVERY)
    }

    async fn look(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let now = Instant::now();
        if let Some(kept) = self.counters.as_mut().filter(|kept| kept.save_at <= now) {
            if !kept.is_saved {
                kept.counters.save(&self.data, voice).await;
            }
            (kept.is_saved, kept.save_at) = (true, now + SAVE_EVERY);
        }
        if self.link_read.is_some_and(|read| read + *self.router.link_every <= now) {
            match self.link.is_watched() {
                true => self.read_link(voice).await?,
                false => self.link_read = None,
            }
        }
        Ok(())
    }

    async fn take(&mut self, job: Job, voice: &Voice) -> anyhow::Result<()> {
        match job {
            Job::Read { groups, identifiers, reply } => {
                // The node may have been stopped meanwhile.
                if reply.is_closed() {
                    return Ok(());
                }
                match self.read(&groups, identifiers, voice).await {
                    Ok(read) => drop(reply.send(Ok(read))),
                    Err(error) => {
                        let _ = reply.send(Err(Down::new(format!("{error:#}"))));
                        return Err(error);
                    }
                }
            }
            Job::Act { actions, reply } => {
                if !reply.is_closed() {
                    let _ = reply.send(self.act(&actions, voice).await);
                }
            }
        }
        Ok(())
    }

    async fn read(
        &mut self,
        groups: &[Group],
        identifiers: Identifiers,
        voice: &Voice,
    ) -> anyhow::Result<Map<String, Value>> {
        let (raw, answers) = self.ask(groups, voice).await?;
        let now = Timestamp::now();
        let data = match groups.contains(&Group::Data) {
            true => self.count(&raw, now).await,
            false => None,
        };
        let mut read = Map::new();
        for group in groups {
            let said = match group {
                Group::Data => data.clone(),
                other => normal::group(*other, &raw, identifiers, now),
            };
            let name = group.name();
            let what = format!("group `{name}`");
            match said {
                Some(said) => {
                    voice.trouble_is_over(&what);
                    read.insert(name.to_owned(), said);
                }
                None => voice.trouble_lasts(&what, &why_absent(*group, &answers)),
            }
        }
        Ok(read)
    }

    /// Asks for all that some groups are made of.
    async fn ask(&mut self, groups: &[Group], voice: &Voice) -> anyhow::Result<(Raw, Answers)> {
        let parts: BTreeSet<Part> =
            groups.iter().flat_map(|group| group.parts()).copied().collect();
        let parts: Vec<Part> = parts.into_iter().collect();
        let provider = self.provider.as_mut().context("asking before it is known whom")?;
        let answers = provider.read(&parts).await?;
        voice.works();
        let given =
            answers.iter().filter_map(|(part, it)| Some((*part, it.as_ref().ok()?.clone())));
        Ok((given.collect(), answers))
    }

    async fn count(&mut self, raw: &Raw, now: Timestamp) -> Option<Value> {
        let Kept { counters, is_saved, .. } = self.counters.as_mut()?;
        let (modems, uptime) = (raw.get(&Part::Modems)?, raw.get(&Part::Usage));
        *is_saved = false;
        let said = counters.read(modems, uptime.and_then(normal::uptime), now);
        let open = counters.without_record(modems, now);
        if open.is_empty() {
            return said;
        }
        for asked in &open {
            match self.provider.as_mut()?.record(asked).await {
                // What cannot be asked now is asked at the next reading.
                Err(ActFailure::NotDone { .. }) => (),
                Ok(Some(rows)) => counters.recorded(asked, &rows),
                Ok(None) | Err(_) => counters.recorded(asked, &Value::Null),
            }
        }
        // With what was on record.
        counters.said(modems)
    }

    /// Looks how the link is, for who watches it.
    async fn read_link(&mut self, voice: &Voice) -> anyhow::Result<()> {
        let groups = [Group::Signal, Group::Wan, Group::Data];
        let (raw, _) = self.ask(&groups, voice).await?;
        let now = Timestamp::now();
        let data = self.count(&raw, now).await;
        self.link_read = Some(Instant::now());
        self.link.tell(
            normal::link(&raw, data.as_ref(), now),
            LINK_LASTS.max(*self.router.link_every * 2),
        );
        Ok(())
    }

    async fn act(&mut self, actions: &[Action], voice: &Voice) -> Result<(), Stopped> {
        let allow = &self.router.allow;
        if let Some(action) = actions.iter().find(|action| !allow.contains(&action.kind())) {
            let kind = action.kind().name();
            let error = anyhow!("`allow` of the connection does not name `{kind}`");
            return Err(ActFailure::Refused(error).into());
        }
        let Some(Provider::Rutos(rutos)) = &mut self.provider else {
            let error = anyhow!("only a router that is asked by REST can be told to do something");
            return Err(ActFailure::Refused(error).into());
        };
        let rate = self.router.rate;
        if let Err(left) = self.pace.take_turn(rate) {
            let error = anyhow!("no more than `rate: {rate}` of the connection; this one waits");
            return Err(ActFailure::NotDone { error, after: Some(left) }.into());
        }
        for (done, action) in actions.iter().enumerate() {
            if let Err(failure) = action.carry_out(rutos).await {
                if done == 0 && matches!(failure, ActFailure::NotDone { .. }) {
                    self.pace.give_back();
                }
                return Err(Stopped { failure, done });
            }
            voice.works();
        }
        Ok(())
    }
}
