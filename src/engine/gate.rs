//! What a sink may write now, by its conditions on the link to the outside.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use forebay_sdk::{Link, LinkView};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::post::Post;
use crate::config::{Batch, LinkRule};

/// The conditions of a sink, and how the link is.
pub struct Gate {
    rules: Arc<[LinkRule]>,
    view: LinkView,
    /// The first of the rules that held at the last look.
    now: Option<usize>,
    /// No message before.
    next: Option<Instant>,
}

impl Gate {
    /// None for a sink without conditions.
    pub fn of(rules: &Arc<[LinkRule]>, link: &Link) -> Option<Gate> {
        let rules = Arc::clone(rules);
        (!rules.is_empty()).then(|| Gate { rules, view: link.view(), now: None, next: None })
    }

    /// Waits until something may be written.
    pub async fn pass(&mut self, post: &Post) {
        loop {
            self.look(post);
            let holds_back = self.rule().filter(|rule| rule.holds_back);
            match (holds_back, self.next.filter(|next| *next > Instant::now())) {
                (Some(_), _) => self.view.changed().await,
                (None, Some(next)) if self.rule().is_some_and(|rule| rule.rate.is_some()) => {
                    tokio::select! {
                        biased;
                        () = sleep_until(next) => (),
                        () = self.view.changed() => (),
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
            self.view.changed().await;
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
        let link = self.view.now();
        self.rules.iter().position(|rule| rule.holds(&link))
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

/// The longest pause that a rate makes after one write.
const LONGEST: Duration = Duration::from_secs(86_400);
