//! A script that asks web services: it is run on a message, and again on what is answered.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::anyhow;
use bytes::Bytes;
use forebay_sdk::{
    Endpoint, Format, Message, Payload, Port, Saved, Site, Transform, WriteError,
    web::{Caller, Request},
};

use crate::{
    state::Before,
    transform::{Asked, Made, Program, ScriptNode},
};

/// The most requests for one message, or one beat.
pub(crate) const MOST_REQUESTS: usize = 16;

/// The places that may be asked, and how long one may take to answer.
#[derive(Clone)]
pub(crate) struct Permission {
    pub places: Arc<[String]>,
    pub answer_within: Duration,
}

impl Permission {
    /// Where these places are, each as `host:port`.
    pub(crate) fn reaches(&self) -> Vec<String> {
        let place = |written: &String| {
            let (scheme, rest) = written.split_once("://")?;
            let host = rest.split('/').next().unwrap_or_default();
            let usual = if scheme == "https" { 443 } else { 80 };
            Some(Endpoint::parse(host, usual).ok()?.to_string())
        };
        self.places.iter().filter_map(place).collect()
    }
}

/// A script and whom it asks by.
pub(crate) struct Asking {
    node: ScriptNode,
    permission: Permission,
    /// None in a build without HTTP.
    caller: Option<Box<dyn Caller>>,
    /// What the run at hand may have changed. It is put back unless the run ends well.
    undo: Option<Before>,
}

impl Asking {
    pub(crate) fn new(program: Arc<Program>, permission: Permission, site: &Site) -> Asking {
        let web = site.world.web().filter(|_| !permission.places.is_empty());
        let caller = web.map(|web| web.caller(&site.folder, &site.world));
        Asking { node: ScriptNode::new(program, site), permission, caller, undo: None }
    }

    /// What comes of a message in the end. Nothing, when the future is dropped or ends with an error.
    pub(crate) async fn run(
        &mut self,
        message: &Message,
    ) -> Result<Vec<(Port, Message)>, WriteError> {
        self.put_back();
        self.undo = Some(self.node.before());
        let made = self.exchange(message).await;
        match made {
            Ok(_) => self.undo = None,
            Err(_) => self.put_back(),
        }
        made
    }

    /// What the script remembers, without what a run that was broken off had changed.
    pub(crate) fn save(&mut self) -> Option<Saved> {
        self.put_back();
        self.node.save()
    }

    fn put_back(&mut self) {
        if let Some(before) = self.undo.take() {
            self.node.restore(before);
        }
    }

    async fn exchange(&mut self, message: &Message) -> Result<Vec<(Port, Message)>, WriteError> {
        let mut left = MOST_REQUESTS;
        let mut sent = Vec::new();
        let made = self.node.outgoing(message, None).map_err(WriteError::Reject)?;
        let mut made = VecDeque::from(made);
        while let Some(next) = made.pop_front() {
            let asked = match next {
                Made::Message(port, message) => {
                    sent.push((port, message));
                    continue;
                }
                Made::Request(asked) => asked,
            };
            left = left.checked_sub(1).ok_or_else(|| {
                WriteError::reject(anyhow!("more than {MOST_REQUESTS} requests for one message"))
            })?;
            let request = self.request(asked);
            let caller = self
                .caller
                .as_mut()
                .ok_or_else(|| WriteError::reject(anyhow!("this build of Forebay has no HTTP")))?;
            let answer = caller.ask(request, message).await?;
            let program = self.node.program();
            if program.reads_answers() {
                let more = self.node.outgoing(message, Some(&answer));
                // In front of the requests that are left: the order is that of the script.
                for one in more.map_err(WriteError::Reject)?.into_iter().rev() {
                    made.push_front(one);
                }
            } else {
                sent.push((program.main(), answer));
            }
        }
        Ok(sent)
    }

    fn request(&self, asked: Asked) -> Request {
        let Asked { method, url, headers, body } = asked;
        let Permission { places, answer_within } = &self.permission;
        let (allowed, timeout) = (Arc::clone(places), *answer_within);
        Request { method, url, headers, body: body.as_ref().map(written), allowed, timeout }
    }
}

/// A text goes as it is, bytes as bytes, and all else as JSON.
fn written(body: &Payload) -> (Format, Bytes) {
    let format = match body.as_encoded() {
        Some((_, format)) => format,
        None if body.value().is_ok_and(|value| value.is_string()) => Format::Text,
        None => Format::Json,
    };
    (format, body.to_bytes(format))
}
