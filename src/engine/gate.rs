//! What a sink may write now, by its conditions on the link to the outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::anyhow;
use forebay_sdk::{LinkView, Links};
use futures_util::future::{FutureExt, select_all};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::post::Post;
use crate::config::{Batch, KnownLinks, LinkRule};

/// The conditions of a sink, and how the links are that they ask.
pub struct Gate {
    rules: Arc<[LinkRule]>,
    views: Views,
    /// The first of the rules that held at the last look.
    now: Option<usize>,
    /// No message before.
    next: Option<Instant>,
}

impl Gate {
    /// None for a sink without conditions.
    pub fn of(rules: &Arc<[LinkRule]>, links: &Links) -> Option<Gate> {
        if rules.is_empty() {
            return None;
        }
        let asked: BTreeSet<&str> = rules.iter().flat_map(LinkRule::asks).collect();
        let views = asked.into_iter().map(|name| (name.into(), links.of(name).view())).collect();
        Some(Gate { rules: Arc::clone(rules), views: Views(views), now: None, next: None })
    }

    /// Waits until something may be written.
    pub async fn pass(&mut self, post: &Post) {
        loop {
            self.look(post);
            let holds_back = self.rule().filter(|rule| rule.holds_back);
            match (holds_back, self.next.filter(|next| *next > Instant::now())) {
                (Some(_), _) => self.views.changed().await,
                (None, Some(next)) if self.rule().is_some_and(|rule| rule.rate.is_some()) => {
                    tokio::select! {
                        biased;
                        () = sleep_until(next) => (),
                        () = self.views.changed() => (),
                    }
                }
                (None, _) => return,
            }
        }
    }

    /// Whether what could be written a moment ago may still be.
    pub fn is_open(&mut self, post: &Post) -> bool {
        self.look(post);
        !self.rule().is_some_and(|rule| rule.holds_back)
    }

    /// Whether none of the conditions holds.
    pub fn is_free(&self) -> bool {
        self.now.is_none()
    }

    /// Waits until another of the conditions is the first that holds, or none is.
    pub async fn turned(&mut self) {
        while self.first() == self.now {
            self.views.changed().await;
        }
    }

    /// How many messages go into one write, and how long it waits for them.
    pub fn batch(&self, usual: Batch) -> Batch {
        let Some(rule) = self.rule() else { return usual };
        Batch {
            max_messages: rule.max_messages.unwrap_or(usual.max_messages),
            max_wait: rule.max_wait.map_or(usual.max_wait, |wait| *wait),
        }
    }

    /// So many messages were written.
    pub fn wrote(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let rate = self.rule().and_then(|rule| rule.rate);
        self.next = rate.map(|rate| Instant::now() + rate.0.saturating_mul(count).min(LONGEST));
    }

    /// The first of the rules that holds.
    fn first(&mut self) -> Option<usize> {
        let known = self.views.now();
        self.rules.iter().position(|rule| rule.holds(&known))
    }

    fn rule(&self) -> Option<&LinkRule> {
        self.rules.get(self.now?)
    }

    /// Looks how the link is, and says what that changes.
    fn look(&mut self, post: &Post) {
        let now = self.first();
        if now == self.now {
            return;
        }
        let before = self.rule().is_some_and(|rule| rule.holds_back);
        self.now = now;
        let rule = self.rule();
        post.status.set_held_by_link(rule.map(|rule| rule.text.clone()));
        match rule {
            Some(rule) if !rule.holds_back => {
                info!(node = %post.name, when = %rule.text, "writes less, for the link");
            }
            Some(rule) => {
                post.inbox.link_failed();
                post.status.waiting(&anyhow!("held back as long as {}", rule.text));
            }
            None if !before => info!(node = %post.name, "writes as usual again"),
            None => (),
        }
        if before && !rule.is_some_and(|rule| rule.holds_back) {
            post.status.running();
        }
    }
}

/// The links that conditions ask, by the connections that tell them.
struct Views(BTreeMap<Arc<str>, LinkView>);

impl Views {
    fn now(&mut self) -> KnownLinks {
        self.0.iter_mut().map(|(name, view)| (Arc::clone(name), view.now())).collect()
    }

    /// Waits until one of them is otherwise.
    async fn changed(&mut self) {
        select_all(self.0.values_mut().map(|view| view.changed().boxed())).await;
    }
}

/// The longest pause that a rate makes after one write.
const LONGEST: Duration = Duration::from_secs(86_400);
