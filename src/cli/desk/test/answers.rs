//! Web services that answer what a test says, and keep what they were asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use anyhow::anyhow;
use forebay_sdk::{
    Message, Value, WriteError,
    web::{Caller, Request},
    world::{Web, World},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;

/// Answers in their order.
#[derive(Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    asked: Vec<Request>,
    left: VecDeque<(u16, Value)>,
}

impl Answers {
    pub(super) fn new(answers: impl IntoIterator<Item = (u16, Value)>) -> Answers {
        let left = answers.into_iter().collect();
        Answers(Arc::new(Mutex::new(Said { asked: Vec::new(), left })))
    }

    /// What was asked.
    pub(super) fn asked(&self) -> Vec<Request> {
        self.0.lock().map(|said| said.asked.clone()).unwrap_or_default()
    }

    fn answer(&self, request: Request, about: &Message) -> Result<Message, WriteError> {
        let Ok(mut said) = self.0.lock() else {
            return Err(WriteError::reject(anyhow!("another answer broke off")));
        };
        if !request.allowed.iter().any(|place| is_below(&request.url, place)) {
            let refused =
                anyhow!("{} may not be asked: `allow` of the plugin does not have it", request.url);
            return Err(WriteError::reject(refused));
        }
        said.asked.push(request);
        let number = said.asked.len();
        let Some((status, payload)) = said.left.pop_front() else {
            return Err(WriteError::retry(anyhow!("the test has no answer to request {number}")));
        };
        match status {
            200..=299 => {
                let mut message = Message::new(Arc::clone(&about.topic), payload);
                message.meta.insert("http", json!({ "status": status }));
                Ok(message)
            }
            // The others are tried again.
            400 | 406 | 409 | 411..=420 | 422 => {
                Err(WriteError::reject(anyhow!("status {status}")))
            }
            _ => Err(WriteError::retry(anyhow!("status {status}"))),
        }
    }
}

/// Whether a url is one of a place: its scheme, host and port.
fn is_below(url: &str, place: &str) -> bool {
    let rest = url.strip_prefix(place.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}

impl Web for Answers {
    fn caller(&self, _: &Arc<std::path::Path>, _: &World) -> Box<dyn Caller> {
        Box::new(self.clone())
    }
}

impl Caller for Answers {
    fn ask<'a>(
        &'a mut self,
        request: Request,
        about: &'a Message,
    ) -> BoxFuture<'a, Result<Message, WriteError>> {
        async move { self.answer(request, about) }.boxed()
    }
}
