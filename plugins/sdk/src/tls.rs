//! The client's side of TLS, for every plugin that speaks it: whom to trust, and who we are.
//! Behind the feature `tls`.

use std::{fs, path::Path, sync::Arc};

pub use crate::tls_server::Distrust;
use crate::tls_server::Verifier;
use anyhow::{Context, bail};
use forebay_yaml::units::Secret;
/// The one in this program, for those who look into its errors.
pub use rustls;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Certificates as settings name them: each the name of a PEM file, or the PEM text itself, as
/// `${file:...}` gives it. A name is relative to `folder`.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The folder of the configuration.
    pub folder: Arc<Path>,
    /// Whom to trust, and nobody else. When None: the system's certificates, or Mozilla's list
    /// when there are none, as in an image with nothing but one program in it.
    pub ca: Option<String>,
    /// The client's certificate chain.
    pub cert: Option<String>,
    /// The client's private key.
    pub key: Option<Secret>,
}

impl Tls {
    /// Reads the certificates. Blocks on the file system.
    pub fn client_config(&self) -> anyhow::Result<ClientConfig> {
        let (roots, trusted) = match &self.ca {
            Some(ca) => (self.own_roots(ca)?, format!("nobody in {}", self.shown("ca", ca))),
            None => {
                let system = rustls_native_certs::load_native_certs().certs;
                (system_or_mozilla(system), "nobody whom this system trusts".to_owned())
            }
        };
        // The provider is passed on, not installed: nothing here is global.
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(roots, trusted, Arc::clone(&provider))
            .context("choosing whom to trust")?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?
            // It does all that the usual one does, and finds words for what is wrong.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = self.certificates(cert, "cert")?;
                let key = self.private_key(key.expose())?;
                builder.with_client_auth_cert(chain, key).with_context(|| {
                    format!(
                        "using the client certificate in {} with `key`",
                        self.shown("cert", cert)
                    )
                })
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// A setting, and the file in it. A text that stands in it is not shown.
    fn shown(&self, setting: &str, source: &str) -> String {
        match is_pem(source) {
            true => format!("`{setting}`"),
            false => format!("`{setting}` ({})", self.folder.join(source).display()),
        }
    }

    fn own_roots(&self, ca: &str) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(ca, "ca")? {
            roots.add(certificate).context("trusting the certificate in `ca`")?;
        }
        Ok(roots)
    }

    fn certificates(
        &self,
        source: &str,
        setting: &str,
    ) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let pem = self.pem(source, setting)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .with_context(|| format!("reading `{setting}`"))?;
        match chain.is_empty() {
            true => bail!("{} holds no certificate in PEM form", self.shown(setting, source)),
            false => Ok(chain),
        }
    }

    fn private_key(&self, source: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
        let pem = self.pem(source, "key")?;
        PrivateKeyDer::from_pem_slice(&pem)
            .ok()
            .context("`key` holds no private key in PEM form without a password")
    }

    fn pem(&self, source: &str, setting: &str) -> anyhow::Result<Vec<u8>> {
        if is_pem(source) {
            return Ok(source.as_bytes().to_vec());
        }
        let path = self.folder.join(source);
        // The name of a key's file is no secret; a key pasted without its first line would be.
        match fs::read(&path) {
            Err(error) if setting == "key" => Err(error).context("reading the file in `key`"),
            read => {
                read.with_context(|| format!("reading {}, named by `{setting}`", path.display()))
            }
        }
    }
}

fn is_pem(source: &str) -> bool {
    source.trim_start().starts_with("-----BEGIN")
}

fn system_or_mozilla(system: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // One broken or outdated file among the system's certificates must not lock everybody out.
    roots.add_parsable_certificates(system);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_usable_certificates_falls_back_to_the_list_that_is_built_in() {
        assert!(system_or_mozilla(Vec::new()).len() > 50);
        assert!(system_or_mozilla(vec![b"no certificate".to_vec().into()]).len() > 50);
    }

    #[test]
    fn what_is_missing_is_named_and_the_key_is_not_shown() {
        let folder: Arc<Path> = Path::new("/nonexistent").into();
        let tls = Tls { folder, ca: Some("ca.pem".into()), cert: None, key: None };
        let error = format!("{:#}", tls.client_config().unwrap_err());
        assert!(error.starts_with("reading /nonexistent/ca.pem, named by `ca`: "), "{error}");
        let tls = Tls { ca: Some("-----BEGIN nothing".into()), ..tls };
        let error = format!("{:#}", tls.client_config().unwrap_err());
        assert!(error.contains("`ca`"), "{error}");
        let error = format!("{:#}", tls.private_key("MIIEv-pasted-key").unwrap_err());
        assert!(!error.contains("MIIE"), "{error}");
    }
}
