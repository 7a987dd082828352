//! What `forebay doctor` sees of certificates and of a TLS handshake.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, SignatureScheme, client::ResolvesClientCert, pki_types::ServerName,
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    examination::Examination,
    tls::Tls,
    tls_server::{described, title},
};
use forebay_yaml::{Level, units::Period};

/// The client certificate, and what the server says that it wants to see.
#[derive(Debug)]
struct Asked {
    inner: Arc<dyn ResolvesClientCert>,
    /// The issuers that it takes, once it has asked.
    issuers: Mutex<Option<Vec<String>>>,
}

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let issuers = root_hint_subjects.iter().map(|name| title(sequence(name))).collect();
        *self.issuers.lock().unwrap_or_else(PoisonError::into_inner) = Some(issuers);
        self.inner.resolve(root_hint_subjects, schemes)
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}

/// What is inside a sequence of DER, as far as it is a short one; else what was given.
fn sequence(der: &[u8]) -> &[u8] {
    match der {
        [0x30, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        [0x30, 0x81, _, rest @ ..] => rest,
        _ => der,
    }
}

const WHAT: &str = "TLS";

impl Examination<'_> {
    /// Reads certificates and key, and says what is wrong with them. None when nothing can be done
    /// with them.
    pub async fn read_certificates(&self, tls: &Tls) -> Option<ClientConfig> {
        const WHAT: &str = "certificates";
        let tls = tls.clone();
        let read = spawn_blocking(move || (tls.problems(), tls.client_config(), tls.summary()));
        let (problems, config, summary) = read.await.ok()?;
        for problem in &problems {
            let seen = match problem.label.is_empty() {
                true => problem.message.clone(),
                false => format!("{}: {}", problem.message, problem.label),
            };
            let help = format!("put a file in the place of `{}` that can be used", problem.setting);
            match problem.level {
                Level::Error => self.wrong(WHAT, seen, help),
                Level::Warning => self.doubt(WHAT, seen, help),
            }
        }
        match config {
            Ok(config) => {
                if problems.is_empty() {
                    self.fine(WHAT, summary);
                }
                Some(config)
            }
            Err(error) => {
                if problems.is_empty() {
                    self.wrong(WHAT, format!("{error:#}"), "");
                }
                None
            }
        }
    }

    /// Shakes hands. `words` says in the plugin's own words what went wrong.
    pub async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: ServerName<'static>,
        mut config: ClientConfig,
        longest: Period,
        words: impl Fn(io::Error) -> anyhow::Error,
    ) -> Option<TlsStream<S>> {
        let inner = Arc::clone(&config.client_auth_cert_resolver);
        let has_certificate = inner.has_certs();
        let asked = Arc::new(Asked { inner, issuers: Mutex::default() });
        config.client_auth_cert_resolver = Arc::clone(&asked) as Arc<dyn ResolvesClientCert>;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name.clone(), stream);
        let shaken = timeout(*longest, handshake).await;
        let issuers = asked.issuers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outcome = match shaken {
            Ok(Ok(stream)) => {
                self.fine(WHAT, seen_in(&stream, &name));
                Some(stream)
            }
            Ok(Err(error)) => {
                self.wrong(WHAT, format!("{:#}", words(error)), "");
                None
            }
            Err(_) => {
                let seen = format!("no answer in the handshake within {longest}");
                self.wrong(WHAT, seen, "is this the port for TLS?");
                None
            }
        };
        let wanted = issuers.map(|issuers| match issuers.is_empty() {
            true => "it asks for a client certificate".to_owned(),
            false => format!("it asks for a client certificate issued by {}", issuers.join(" or ")),
        });
        match (wanted, has_certificate) {
            (Some(wanted), true) => self.fine(WHAT, format!("{wanted}; `cert` is sent")),
            (Some(wanted), false) => {
                let help = "set `cert` and `key`, unless it lets in clients without one";
                self.doubt(WHAT, format!("{wanted}, and there is none to send"), help);
            }
            (None, true) => self.doubt(
                WHAT,
                "it asks for no client certificate: `cert` is not used",
                "the name that it knows us by is `username`, then",
            ),
            (None, false) => (),
        }
        outcome
    }
}

fn seen_in<S>(stream: &TlsStream<S>, name: &ServerName<'_>) -> String {
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "1.3",
    };
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let server =
        leaf.map_or_else(String::new, |leaf| format!("; its certificate is {}", described(leaf)));
    format!("TLS {version} as `{}`{server}", name.to_str())
}
