//! Web services, for nodes that speak no HTTP themselves. Who does is at [`crate::world::Web`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{message::Message, node::WriteError, payload::Format};

/// Asks web services for one node. Keeps its connection from one request to the next.
pub trait Caller: Send {
    /// Asks once. What a service answers comes as a message about what the request was about: its body is the
    /// payload, and `meta.http` has the status. An answer that takes nothing is an error, worth another try or
    /// not.
    fn ask<'a>(
        &'a mut self,
        request: Request,
        about: &'a Message,
    ) -> BoxFuture<'a, Result<Message, WriteError>>;
}

/// What a web service is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST` and the like.
    pub method: String,
    /// Where, with scheme, path and query.
    pub url: String,
    /// Headers beside those that follow from the rest, by name.
    pub headers: Vec<(String, String)>,
    /// What is sent along, and in what it is written.
    pub body: Option<(Format, Bytes)>,
    /// The only places that may be asked: scheme, host and port, such as `https://api.example.com`.
    pub allowed: Arc<[String]>,
    /// Time for the whole exchange.
    pub timeout: Duration,
}
