//! TLS, for every plugin that speaks it: whom to trust, and who we are.
//! Behind the feature `tls`.

use std::{
    fs,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    rules::{BAD_CERTIFICATE, EXPIRED_CERTIFICATE},
    settings::Problem,
    timestamp::Timestamp,
    tls_server::{Verifier, described, expiry},
};
pub use crate::{
    tls_fingerprint::{Fingerprint, NoFingerprint},
    tls_pin::trusting_only,
    tls_server::{Distrust, common_name, why},
};
use anyhow::{Context, anyhow, bail};
use forebay_yaml::units::Secret;
/// The one in this program, for those who look into its errors.
pub use rustls;
use rustls::{
    ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
    version::TLS13,
};

/// The list of all whom the world trusts has a quarter of it.
const MOST_BYTES: u64 = 1024 * 1024;

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
    /// The oldest version of TLS that is spoken.
    pub oldest: Oldest,
}

/// The oldest version of TLS that is spoken. What is older than 1.2 never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oldest {
    /// 1.2.
    #[default]
    V12,
    /// 1.3.
    V13,
}

/// Whether a server's clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody gets in without one.
    #[default]
    Required,
    /// Who shows one must be trusted.
    Optional,
}

impl Oldest {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        const NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];
        match self {
            Oldest::V12 => DEFAULT_VERSIONS,
            Oldest::V13 => NEWEST,
        }
    }
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
            .with_protocol_versions(self.oldest.versions())
            .context("choosing the versions of TLS")?
            // It does all that the usual one does, and finds words for what is wrong.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = self.certificates(cert, "cert")?;
                let key = self.private_key(key.expose())?;
                let with_both = builder.with_client_auth_cert(chain, key);
                with_both.map_err(|error| anyhow!(self.no_pair(&error)))
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }

    /// Reads the certificates of a server: its own, and whose clients it trusts. Blocks on the file
    /// system.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, in words that name the setting.
    pub fn server_config(&self, clients: ClientCertificates) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.oldest.versions())
            .context("choosing the versions of TLS")?;
        let builder = match &self.ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(self.own_roots(ca)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match clients {
                    ClientCertificates::Required => verifier,
                    ClientCertificates::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().with_context(|| {
                    format!("trusting the certificates in {}", self.shown("ca", ca))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (cert, key) =
            self.cert.as_ref().zip(self.key.as_ref()).context("`cert` and `key` are missing")?;
        let chain = self.certificates(cert, "cert")?;
        let key = self.private_key(key.expose())?;
        builder.with_single_cert(chain, key).map_err(|error| anyhow!(self.no_pair(&error)))
    }

    /// The files that are read for each connection.
    pub fn files(&self) -> Vec<PathBuf> {
        let key = self.key.as_ref().map(Secret::expose);
        let sources = [self.ca.as_deref(), self.cert.as_deref(), key];
        let names = sources.into_iter().flatten().filter(|source| !is_pem(source));
        names.map(|name| self.path(name)).collect()
    }

    /// What is wrong with the certificates and the key, before anybody connects. Blocks on the file
    /// system.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let ca = self.ca.as_ref().and_then(|ca| {
            let trusted = self.own_roots(ca).and_then(|_| self.certificates(ca, "ca"));
            usable("ca", trusted, &mut problems)
        });
        let cert = self
            .cert
            .as_ref()
            .and_then(|cert| usable("cert", self.certificates(cert, "cert"), &mut problems));
        let key = self
            .key
            .as_ref()
            .and_then(|key| usable("key", self.private_key(key.expose()), &mut problems));
        for (setting, chain) in [("ca", &ca), ("cert", &cert)] {
            problems.extend(chain.as_ref().and_then(|chain| self.expired(setting, chain)));
        }
        if let Some((chain, key)) = cert.zip(key)
            && let Err(error) = CertifiedKey::from_der(chain, key, &ring::default_provider())
        {
            let problem = Problem::new("key", self.no_pair(&error), "");
            problems.push(problem.also("cert", "the certificate").rule(&BAD_CERTIFICATE));
        }
        problems
    }

    /// Whom we trust and who we are, in one line. Blocks on the file system.
    pub(crate) fn summary(&self) -> String {
        let trusted = match &self.ca {
            Some(ca) => format!("who is trusted stands in {}", self.shown("ca", ca)),
            None => "who is trusted is up to this system".to_owned(),
        };
        let own = self.cert.as_ref().and_then(|cert| {
            let chain = self.certificates(cert, "cert").ok()?;
            Some(format!("; the client certificate is {}", described(chain.first()?)))
        });
        trusted + &own.unwrap_or_default()
    }

    /// Why a certificate and a key cannot be used with one another.
    fn no_pair(&self, error: &rustls::Error) -> String {
        let shown = |setting, source: Option<&str>| self.shown(setting, source.unwrap_or_default());
        let cert = shown("cert", self.cert.as_deref());
        let key = shown("key", self.key.as_ref().map(Secret::expose));
        match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{key} is not the private key of the certificate in {cert}")
            }
            _ => format!("{key} cannot be used with the certificate in {cert}: {error}"),
        }
    }

    /// Certificates whose time is over. One whose time has not come may only mean that the clock is
    /// not set.
    fn expired(&self, setting: &str, chain: &[CertificateDer<'_>]) -> Option<Problem> {
        let ends = chain.iter().filter_map(|certificate| expiry(certificate));
        // Of those that are trusted, one is enough; a chain breaks where it is weakest.
        let end = if setting == "ca" { ends.max() } else { ends.min() }?;
        if end > Timestamp::now().to_rfc3339() {
            return None;
        }
        let source = if setting == "ca" { &self.ca } else { &self.cert }.as_ref()?;
        let message = format!("the certificate in {} has expired", self.shown(setting, source));
        let label = format!("its last day was {}", end.split('T').next()?);
        Some(Problem::new(setting, message, label).rule(&EXPIRED_CERTIFICATE).warning())
    }

    /// A setting, and the file in it. A text that stands in it is not shown.
    fn shown(&self, setting: &str, source: &str) -> String {
        let path = self.path(source);
        let is_text =
            is_pem(source) || (setting == "key" && !path.is_file() && is_like_key(source));
        match is_text {
            true => format!("`{setting}`"),
            false => format!("`{setting}` ({})", path.display()),
        }
    }

    /// The whole path of a file.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::path::absolute(&path).unwrap_or(path)
    }

    fn own_roots(&self, ca: &str) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(ca, "ca")? {
            roots
                .add(certificate)
                .with_context(|| format!("trusting the certificate in {}", self.shown("ca", ca)))?;
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
            .with_context(|| format!("reading {}", self.shown(setting, source)))?;
        match chain.is_empty() {
            true => bail!("{} holds no certificate in PEM form", self.shown(setting, source)),
            false => Ok(chain),
        }
    }

    fn private_key(&self, source: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
        let pem = self.pem(source, "key")?;
        let key = PrivateKeyDer::from_pem_slice(&pem).ok();
        key.with_context(|| {
            let shown = self.shown("key", source);
            format!("{shown} holds no private key in PEM form without a password")
        })
    }

    fn pem(&self, source: &str, setting: &str) -> anyhow::Result<Vec<u8>> {
        if is_pem(source) {
            return Ok(source.as_bytes().to_vec());
        }
        read(&self.path(source)).with_context(|| format!("reading {}", self.shown(setting, source)))
    }
}

/// Reads a file that is one: a pipe of that name would block.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |error: Error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "there is no such file"),
        ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, "this program may not read it")
        }
        _ => error,
    };
    let found = fs::metadata(path).map_err(wrong)?;
    if !found.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    if found.len() > MOST_BYTES {
        return Err(Error::other("it is larger than 1 MiB"));
    }
    fs::read(path).map_err(wrong)
}

/// What was read, unless that is of no use.
fn usable<T>(setting: &str, read: anyhow::Result<T>, problems: &mut Vec<Problem>) -> Option<T> {
    let wrong = |error| {
        let problem = Problem::new(setting, format!("{error:#}"), "");
        problems.push(problem.rule(&BAD_CERTIFICATE));
    };
    read.map_err(wrong).ok()
}

/// Whether this may be a key that was pasted without its first line, or without all of it. The base64 of
/// a whole one begins with `M` and has 64 characters or more, and there is no dot in it.
fn is_like_key(source: &str) -> bool {
    let is_part = source.contains("-----") || source.contains(char::is_control);
    is_part || !source.contains('.') && (source.starts_with('M') || source.len() >= 64)
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
    fn a_client_hello_is_small() {
        let folder: Arc<Path> = Path::new(".").into();
        for (oldest, most) in [(Oldest::V12, 250), (Oldest::V13, 235)] {
            let ca = None;
            let tls = Tls { folder: Arc::clone(&folder), ca, cert: None, key: None, oldest };
            let config = Arc::new(tls.client_config().unwrap());
            let name = "broker.example".try_into().unwrap();
            let mut hello = Vec::new();
            let mut session = rustls::ClientConnection::new(config, name).unwrap();
            session.write_tls(&mut hello).unwrap();
            assert!(hello.len() <= most, "{oldest:?}: {}", hello.len());
        }
    }

    #[test]
    fn what_is_missing_is_named_and_the_key_is_not_shown() {
        let folder: Arc<Path> = Path::new("/nonexistent").into();
        let oldest = Oldest::default();
        let tls = Tls { folder, ca: Some("ca.pem".into()), cert: None, key: None, oldest };
        let error = format!("{:#}", tls.client_config().unwrap_err());
        assert!(error.starts_with("reading `ca` (/nonexistent/ca.pem): "), "{error}");
        let tls = Tls { ca: Some("-----BEGIN nothing".into()), ..tls };
        let error = format!("{:#}", tls.client_config().unwrap_err());
        assert!(error.contains("`ca`"), "{error}");
        let error = format!("{:#}", tls.private_key("MIIEv-pasted-key").unwrap_err());
        assert!(!error.contains("MIIE"), "{error}");
        let error = format!("{:#}", tls.private_key("PRIVATE KEY-----pasted.key").unwrap_err());
        assert!(!error.contains("pasted"), "{error}");
    }
}
