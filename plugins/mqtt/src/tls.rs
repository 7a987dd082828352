//! The client's side of TLS: whom to trust, and who we are.

use std::{fs, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::settings::SessionSettings;

/// Reads the certificates that the settings name. Blocks on the file system.
pub fn configure(settings: &SessionSettings) -> anyhow::Result<ClientConfig> {
    let roots = match &settings.ca {
        Some(ca) => own_roots(ca)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choosing versions of TLS")?
        .with_root_certificates(roots);
    let mut config = match (&settings.cert, &settings.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "cert")?;
            let key = private_key(key.expose())?;
            builder.with_client_auth_cert(chain, key).context("using the client certificate")?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}

fn own_roots(ca: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "ca")? {
        roots.add(certificate).context("trusting the certificate in `ca`")?;
    }
    Ok(roots)
}

fn system_roots() -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // One broken file among the system's certificates must not lock everybody out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        bail!("this system has no CA certificates; set `ca`");
    }
    Ok(roots)
}

fn certificates(source: &str, setting: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = pem(source, setting)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("reading `{setting}`"))?;
    match chain.is_empty() {
        true => bail!("`{setting}` holds no certificate in PEM form"),
        false => Ok(chain),
    }
}

fn private_key(source: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
    let pem = pem(source, "key")?;
    PrivateKeyDer::from_pem_slice(&pem)
        .ok()
        .context("`key` holds no private key in PEM form without a password")
}

/// The text itself when it is PEM, as `${file:...}` gives it, or the file of that name.
fn pem(source: &str, setting: &str) -> anyhow::Result<Vec<u8>> {
    if source.trim_start().starts_with("-----BEGIN") {
        return Ok(source.as_bytes().to_vec());
    }
    // The name of a key's file is no secret; a key pasted without its first line would be.
    match fs::read(source) {
        Err(error) if setting == "key" => Err(error).context("reading the file in `key`"),
        read => read.with_context(|| format!("reading {source}, named by `{setting}`")),
    }
}
