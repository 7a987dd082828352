//! Whether a server is the one that it says it is, and in words why not.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::EndEntityCert;

use crate::{timestamp::Timestamp, tls_fingerprint::Fingerprint};

/// A server that is not trusted. It stands as the `Other` in [`CertificateError`].
#[derive(Debug)]
pub struct Distrust {
    /// What is wrong with the certificate, for those who tell it from other troubles.
    pub error: CertificateError,
    /// The certificate that it shows.
    pub fingerprint: Fingerprint,
    words: String,
}

impl Distrust {
    /// What is wrong with the certificate that was met, for rustls to pass on.
    pub(crate) fn error(error: CertificateError, met: &CertificateDer<'_>, words: String) -> Error {
        let distrust = Arc::new(Distrust { error, fingerprint: Fingerprint::of(met), words });
        Error::InvalidCertificate(CertificateError::Other(OtherError(distrust)))
    }

    /// The reason in an error of TLS, when it is one.
    pub fn of(error: &Error) -> Option<&Distrust> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words.fmt(f)
    }
}

impl std::error::Error for Distrust {}

/// Checks servers as rustls does, and says what was met.
#[derive(Debug)]
pub struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    /// Who is none of those that are trusted: "nobody in `ca` (/etc/forebay/ca.pem)".
    trusted: String,
}

impl Verifier {
    pub fn new(
        roots: RootCertStore,
        trusted: String,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, rustls::server::VerifierBuilderError> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
        Ok(Verifier { inner, trusted })
    }

    fn words(&self, error: &CertificateError, met: &CertificateDer<'_>) -> Option<String> {
        if let CertificateError::Other(OtherError(inner)) = error {
            return unusable(inner.downcast_ref()?, met);
        }
        Some(match error {
            // A bad signature: a CA of the same name was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let met = Met::read(met);
                format!(
                    "its certificate, which is for {}, was issued by {}, and that is {}; \
                     `ca` is to name the certificate of that issuer",
                    met.names, met.issuer, self.trusted
                )
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let (names, url) = (Met::read(met).names, expected.to_str());
                match presented.is_empty() {
                    true => format!(
                        "its certificate has {names} as common name alone, which says nothing of its \
                         hosts any more; ask for one with `subjectAltName={}`",
                        alternative_name(expected)
                    ),
                    false => {
                        let names = presented.iter().map(|name| presented_name(name));
                        let names = names.collect::<Vec<_>>().join(", ");
                        format!("its certificate is for {names}, and `url` says `{url}`")
                    }
                }
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let now = Timestamp::now().to_rfc3339();
                let (met, until) = (Met::read(met), expiry(met));
                match until.filter(|until| *until < now) {
                    Some(until) => format!(
                        "its certificate, issued by {}, has expired on {}, or the clock here is wrong: it says {}",
                        met.issuer,
                        day(&until),
                        day(&now)
                    ),
                    None => format!(
                        "the certificate of {}, who issued its own, has expired, or the clock here is wrong: it says {}",
                        met.issuer,
                        day(&now)
                    ),
                }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                let (now, from) = (Timestamp::now(), validity(met));
                let from = from.map_or_else(String::new, |(from, _)| format!(" before {}", day(&from)));
                let said = now.to_rfc3339();
                let said = day(&said);
                match now.clock_was_set() {
                    true => format!("its certificate is not valid{from}; is the clock here right? it says {said}"),
                    false => format!(
                        "the clock here is not set yet and says {said}, so its certificate seems not valid{from}; \
                         waiting for the time"
                    ),
                }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                let names = Met::read(met).names;
                format!(
                    "its certificate, which is for {names}, is not for servers; ask for one with \
                     `extendedKeyUsage=serverAuth`"
                )
            }
            CertificateError::Revoked => "its certificate was revoked".to_owned(),
            CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => {
                "its certificate cannot be read; ask for a new one".to_owned()
            }
            _ if is_weak(error) => {
                "its certificate, or that of who issued it, is signed in a way that is not safe any more, such as \
                 SHA-1 or a short RSA key; ask for one with SHA-256 and ECDSA, or RSA of 2048 bits and more"
                    .to_owned()
            }
            _ => return None,
        })
    }
}

#[allow(deprecated, reason = "rustls still gives them")]
fn is_weak(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

/// Certificates that are none for a server.
fn unusable(error: &webpki::Error, met: &CertificateDer<'_>) -> Option<String> {
    Some(match error {
        webpki::Error::UnsupportedCertVersion => {
            "its certificate is of the old form X.509 v1; ask for one of version 3, such as `openssl x509 -req` \
             makes with `-extfile` and a `subjectAltName`"
                .to_owned()
        }
        webpki::Error::CaUsedAsEndEntity => {
            let names = Met::read(met).names;
            format!(
                "it shows the certificate of a CA ({names}) as its own; ask for one that this CA has issued to the \
                 server, with `basicConstraints=CA:FALSE`"
            )
        }
        webpki::Error::EndEntityUsedAsCa => {
            let issuer = Met::read(met).issuer;
            format!(
                "its certificate was issued by {issuer}, whose own certificate is not that of a CA; ask for \
                 one with `basicConstraints=CA:TRUE` there"
            )
        }
        _ => return None,
    })
}

/// What `subjectAltName` has to say of a host.
fn alternative_name(host: &ServerName<'_>) -> String {
    match host {
        ServerName::IpAddress(_) => format!("IP:{}", host.to_str()),
        _ => format!("DNS:{}", host.to_str()),
    }
}

/// A name as rustls shows it, `DnsName("a")` or `IpAddress(::1)`, without what a user need not know.
fn presented_name(name: &str) -> String {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    quoted(inside.unwrap_or(name).trim_matches('"'))
}

/// The day of a moment in RFC 3339.
fn day(moment: &str) -> &str {
    moment.split('T').next().unwrap_or_default()
}

/// What is wrong in a handshake, where more can be said than the name of the error.
pub fn why(error: &Error) -> Option<String> {
    use rustls::{AlertDescription as Alert, PeerIncompatible};
    if let Some(distrust) = Distrust::of(error) {
        return Some(distrust.to_string());
    }
    let why = match error {
        Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => "it wants a client certificate; set `cert` and `key`",
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
                "it does not trust the client certificate in `cert`"
            }
            Alert::CertificateExpired => {
                "it says that the client certificate in `cert` has expired; is its clock right?"
            }
            Alert::CertificateRevoked => {
                "it says that the client certificate in `cert` was revoked"
            }
            Alert::UnsupportedCertificate => {
                "it does not take the client certificate in `cert`: its kind, or what it is for \
                 (`extendedKeyUsage=clientAuth`)"
            }
            Alert::AccessDenied => {
                "it knows the client certificate in `cert`, and does not let it in"
            }
            Alert::NoApplicationProtocol => "it does not know the protocol in `alpn`",
            Alert::UnrecognisedName => {
                "it does not know the host name in `url`; `server_name` can name another"
            }
            Alert::ProtocolVersion => OLD_VERSION,
            Alert::HandshakeFailure | Alert::InsufficientSecurity => {
                "it found nothing in what we offer that it takes: ask its admin to allow TLS 1.3, or ECDHE with \
                 AES-GCM or ChaCha20 in TLS 1.2; it may also want a client certificate (`cert` and `key`)"
            }
            _ => return None,
        },
        Error::PeerIncompatible(what) => match what {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => OLD_VERSION,
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon => {
                "it speaks none of the ciphers that we do: ask its admin to allow TLS 1.3, or ECDHE with AES-GCM or \
                 ChaCha20 in TLS 1.2"
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(why.to_owned())
}

const OLD_VERSION: &str =
    "it speaks none of the versions of TLS that we do: ask its admin to allow TLS 1.2 or 1.3";

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        verified.map_err(|error| {
            let Error::InvalidCertificate(error) = error else { return error };
            match self.words(&error, end_entity) {
                None => Error::InvalidCertificate(error),
                Some(words) => Distrust::error(error, end_entity, words),
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// What a certificate says, for a line of text.
struct Met {
    names: String,
    issuer: String,
}

impl Met {
    fn read(certificate: &CertificateDer<'_>) -> Met {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else {
            return Met { names: "nobody".to_owned(), issuer: "nobody".to_owned() };
        };
        let quoted: Vec<_> = certificate.valid_dns_names().map(quoted).collect();
        let names = match quoted.is_empty() {
            true => title(certificate.subject()),
            false => quoted.join(", "),
        };
        let issuer = match certificate.issuer() == certificate.subject() {
            true => "itself".to_owned(),
            false => title(certificate.issuer()),
        };
        Met { names, issuer }
    }
}

/// The common name in a distinguished name, or else its last part.
pub fn title(name: &[u8]) -> String {
    let mut parts = parts(name);
    let last = parts.clone().last();
    let found = parts.find(|(kind, _)| *kind == COMMON_NAME).or(last);
    let text = found.map(|(_, text)| quoted(&String::from_utf8_lossy(text)));
    text.unwrap_or_else(|| "somebody without a name".to_owned())
}

/// The common name of whom a certificate is for. None when it has none that is a text.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut parts = parts(certificate.subject());
    let (_, text) = parts.find(|(kind, _)| *kind == COMMON_NAME)?;
    String::from_utf8(text.to_owned()).ok().filter(|name| !name.is_empty())
}

/// The object identifier of common names, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The parts of a distinguished name, each with its kind.
fn parts(name: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut sets = name;
    std::iter::from_fn(move || {
        let (set, rest) = value(sets)?;
        sets = rest;
        let (pair, _) = value(set)?;
        let (kind, rest) = value(pair)?;
        let (text, _) = value(rest)?;
        Some((kind, text))
    })
}

/// The first value of a DER sequence, and what follows it.
fn value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [_, length, rest @ ..] = der else { return None };
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// When a certificate expires, as `2026-11-21T09:14:02` in UTC. None when it says none.
pub fn expiry(certificate: &[u8]) -> Option<String> {
    validity(certificate).map(|(_, end)| end)
}

/// From when a certificate is valid, and until when.
fn validity(certificate: &[u8]) -> Option<(String, String)> {
    const VERSION: u8 = 0xa0;
    let (certificate, _) = value(certificate)?;
    let (mut fields, _) = value(certificate)?;
    // The version is left out of the oldest ones.
    if fields.first() == Some(&VERSION) {
        (_, fields) = value(fields)?;
    }
    // The serial number, the algorithm and the issuer stand in front of the validity.
    for _ in 0..3 {
        (_, fields) = value(fields)?;
    }
    let (validity, _) = value(fields)?;
    let (begin, rest) = value(validity)?;
    let (end, _) = value(rest)?;
    Some((moment(begin)?, moment(end)?))
}

/// A moment as certificates have it.
fn moment(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
    // RFC 5280, section 4.1.2.5: years of two digits are those from 1950 on.
    let text = match text.len() {
        13 if text < "50" => format!("20{text}"),
        13 => format!("19{text}"),
        _ => text.to_owned(),
    };
    let part = |range| text.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    Some(format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))
}

/// Whom a certificate is for, who has issued it, and until when it holds.
pub fn described(certificate: &CertificateDer<'_>) -> String {
    let Met { names, issuer } = Met::read(certificate);
    let until = expiry(certificate);
    let until = until.as_deref().map_or("an unknown day", day);
    format!("for {names}, issued by {issuer}, valid until {until}")
}

/// A text from outside, on one line and not too long.
fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    format!("`{}`", text.chars().take(MOST).flat_map(char::escape_debug).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_from_what_a_certificate_says_and_nothing_in_it_is_a_panic() {
        let pair = |kind: u8, text: &[u8]| {
            let value = [&[0x0c, text.len() as u8][..], text].concat();
            let pair = [&[6, 3, 0x55, 4, kind][..], &value].concat();
            let pair = [&[0x30, pair.len() as u8][..], &pair].concat();
            [&[0x31, pair.len() as u8][..], &pair].concat()
        };
        let name = [pair(10, b"Works"), pair(3, "Größe\n".as_bytes()), pair(11, b"x")].concat();
        assert_eq!(title(&name), r"`Größe\n`");
        assert_eq!(title(&pair(10, b"Works")), "`Works`");
        assert_eq!(title(&[]), "somebody without a name");
        for end in 0..name.len() {
            title(&name[..end]);
        }
    }
}
