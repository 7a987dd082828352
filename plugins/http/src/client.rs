//! The HTTP client of a sink, and whose certificates it trusts.

use std::time::Duration;

use anyhow::Context;
use forebay_sdk::tls::Tls;
use reqwest::{Client, Url, redirect};

/// What is needed to make a client.
#[derive(Clone)]
pub(crate) struct Opening {
    pub url: String,
    pub tls: Tls,
    pub connect_timeout: Duration,
}

/// A client and what it asks for. Keeps its connection open from one request to the next.
pub(crate) struct Open {
    pub client: Client,
    pub url: Url,
}

impl Opening {
    /// Makes the client, and reads certificates for that. Blocks. Connects to nobody.
    pub fn open(&self) -> anyhow::Result<Open> {
        let url = Url::parse(&self.url).context("reading `url`")?;
        let tls = self.tls.client_config()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.connect_timeout)
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
            .context("making the HTTP client")?;
        Ok(Open { client, url })
    }
}
