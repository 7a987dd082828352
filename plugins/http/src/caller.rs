//! Requests of other nodes, with the client, the verdicts and the answers of the sink.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::anyhow;
use bytes::Bytes;
use forebay_sdk::{
    Coding, Format, Level, Message, Period, Problem, Secret, Sink, WriteError,
    tls::{Oldest, Tls},
    web::{Caller, Request},
    world::{Web, World},
};
use futures_util::future::{BoxFuture, FutureExt};
use hyper::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use url::Url;

use crate::{
    answer,
    settings::{OUR_NAME, default_connect_timeout, read_headers, read_url},
    shape::Shape,
    sink::{HttpSink, Sending},
};

/// Lets other nodes ask web services.
pub struct Http;

/// Asks for one node.
struct Calls {
    folder: Arc<Path>,
    world: World,
    /// None before the first request.
    sending: Option<Sending>,
}

impl Web for Http {
    fn caller(&self, folder: &Arc<Path>, world: &World) -> Box<dyn Caller> {
        Box::new(Calls { folder: Arc::clone(folder), world: world.clone(), sending: None })
    }
}

impl Caller for Calls {
    fn ask<'a>(
        &'a mut self,
        request: Request,
        about: &'a Message,
    ) -> BoxFuture<'a, Result<Message, WriteError>> {
        self.ask_once(request, about).boxed()
    }
}

impl Calls {
    async fn ask_once(&mut self, request: Request, about: &Message) -> Result<Message, WriteError> {
        let body = request.body.as_ref().map_or_else(Bytes::new, |(_, body)| body.clone());
        let sink = sink(request).map_err(WriteError::Reject)?;
        let (folder, world) = (Arc::clone(&self.folder), self.world.clone());
        let sending = match self.sending.take() {
            // Another place may be reached by another way.
            Some(mut sending) if sending.sink.url.origin() == sink.url.origin() => {
                sending.sink = sink;
                sending
            }
            _ => {
                let oldest = Oldest::default();
                let tls = Tls { folder, ca: None, cert: None, key: None, oldest };
                Sending::new(sink, tls, world)
            }
        };
        let sending = self.sending.insert(sending);
        sending.connect().await?;
        sending.exchange(body, std::slice::from_ref(about)).await
    }
}

/// A request, as a sink that knows no other.
fn sink(request: Request) -> anyhow::Result<HttpSink> {
    let Request { method, url, headers, body, allowed, timeout } = request;
    let mut problems = Vec::new();
    let url = read_url(&url, &mut problems);
    let headers: BTreeMap<String, Secret> =
        headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
    let mut headers = read_headers(&headers, &mut problems);
    let wrong = problems.into_iter().find(|problem| problem.level == Level::Error);
    if let Some(Problem { message, label, .. }) = wrong {
        return Err(anyhow!("{message}: {label}"));
    }
    let url = url.ok_or_else(|| anyhow!("`url` cannot be used"))?;
    let origin = url.origin();
    let is_origin = |allowed: &String| Url::parse(allowed).is_ok_and(|url| url.origin() == origin);
    if !allowed.iter().any(is_origin) {
        let origin = origin.ascii_serialization();
        return Err(anyhow!("{origin} may not be asked: `allow` of the plugin does not have it"));
    }
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| anyhow!("`{method}` is no method of HTTP; expected such as GET or POST"))?;
    let secrets = answer::secrets(&headers, &url).into();
    let content_type = body.as_ref().map(|(format, _)| format.content_type());
    let usual = [(ACCEPT, "*/*"), (USER_AGENT, OUR_NAME)];
    for (name, value) in usual.into_iter().chain(content_type.map(|kind| (CONTENT_TYPE, kind))) {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    Ok(HttpSink {
        url,
        method,
        headers,
        secrets,
        shape: Shape::Single,
        coding: Coding { format: Format::Bytes, compression: None },
        timeout: Period(timeout),
        connect_timeout: Period(timeout.min(*default_connect_timeout())),
        ca: None,
        retry_also: Vec::new(),
    })
}
