//! The HTTP client of a sink, and whose certificates it trusts.

use std::{fs, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use reqwest::{Client, Url, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// What is needed to make a client.
#[derive(Clone)]
pub(crate) struct Opening {
    pub url: String,
    pub ca: Option<String>,
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
        let roots = match (url.scheme(), &self.ca) {
            ("https", Some(ca)) => from_pem(ca)?,
            ("https", None) => system_or_mozilla(rustls_native_certs::load_native_certs().certs),
            _ => RootCertStore::empty(),
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
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

fn from_pem(ca: &str) -> anyhow::Result<RootCertStore> {
    // The text itself, as `${file:...}` gives it, or the name of a file.
    let (pem, reading) = match ca.trim_start().starts_with("-----BEGIN") {
        true => (Ok(ca.as_bytes().to_vec()), "reading the certificates in `ca`".to_owned()),
        false => (fs::read(ca), format!("reading the certificates in {ca}")),
    };
    let pem = pem.with_context(|| reading.clone())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| reading.clone())?;
        roots.add(certificate).with_context(|| reading.clone())?;
    }
    ensure!(!roots.is_empty(), "{reading}: there is none in PEM form");
    Ok(roots)
}

/// An image with nothing but one program in it has no list of its own.
pub(crate) fn system_or_mozilla(system: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Old certificates of a form that is no longer allowed are left out.
    roots.add_parsable_certificates(system);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}
