//! The HTTP client of a sink, and whose certificates it trusts.
//!
//! The client opens its connection by itself, and not by way of the [`forebay_sdk::World`]: it lets
//! others stand around what connects (`connector_layer`), and nothing in its place. This is the only
//! file that makes such a client.

use std::time::Duration;

use anyhow::{Context, anyhow};
use forebay_sdk::{
    tls::Tls,
    world::{Proxy, Speaks},
};
use reqwest::{Client, Url, redirect};

/// A client that keeps its connection open from one request to the next. Reads certificates, and
/// blocks for that. Connects to nobody.
pub(crate) fn client(
    tls: &Tls,
    connect_timeout: Duration,
    proxy: Option<&Proxy>,
) -> anyhow::Result<Client> {
    let tls = tls.client_config()?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(connect_timeout)
        .redirect(redirect::Policy::none())
        // We look for one ourselves: see `HttpSink::proxy`.
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(1)
        // Probes cost money on a metered link. A connection that died while nobody used it is
        // found by the next request, which has a deadline.
        .tcp_keepalive(None);
    let client = match proxy {
        Some(proxy) => client.proxy(reqwest::Proxy::all(url(proxy)?)?),
        None => client,
    };
    client.build().map_err(reqwest::Error::without_url).context("making the HTTP client")
}

/// The proxy as that library has it. It looks up the names of hosts.
fn url(proxy: &Proxy) -> anyhow::Result<Url> {
    let scheme = match proxy.speaks {
        Speaks::Socks => "socks5h",
        Speaks::Http => "http",
    };
    let mut url = Url::parse(&format!("{scheme}://{}", proxy.at))?;
    if let Some((user, password)) = &proxy.login {
        let told = url.set_username(user).and_then(|()| url.set_password(Some(password.expose())));
        told.map_err(|()| anyhow!("the proxy at {} cannot be told who we are", proxy.at))?;
    }
    Ok(url)
}
