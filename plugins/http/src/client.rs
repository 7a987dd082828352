//! The HTTP client of a sink, and whose certificates it trusts.
//!
//! The client opens its connection by itself, and not by way of the [`forebay_sdk::World`]: it lets
//! others stand around what connects (`connector_layer`), and nothing in its place. This is the only
//! file that makes such a client.

use std::time::Duration;

use anyhow::Context;
use forebay_sdk::tls::Tls;
use reqwest::{Client, redirect};

/// A client that keeps its connection open from one request to the next. Reads certificates, and
/// blocks for that. Connects to nobody.
pub(crate) fn client(tls: &Tls, connect_timeout: Duration) -> anyhow::Result<Client> {
    let tls = tls.client_config()?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(connect_timeout)
        .redirect(redirect::Policy::none())
        // What is not in the settings does not send data elsewhere.
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(1)
        // Probes cost money on a metered link. A connection that died while nobody used it is
        // found by the next request, which has a deadline.
        .tcp_keepalive(None)
        .build()
        .map_err(reqwest::Error::without_url)
        .context("making the HTTP client")
}
