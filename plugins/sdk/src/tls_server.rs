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

use crate::timestamp::Timestamp;

/// A server that is not trusted. It stands as the `Other` in [`CertificateError`].
#[derive(Debug)]
pub struct Distrust {
    /// What is wrong with the certificate, for those who tell it from other troubles.
    pub error: CertificateError,
    words: String,
}

impl Distrust {
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
            CertificateError::NotValidForNameContext { expected, .. } => {
                let (names, url) = (Met::read(met).names, expected.to_str());
                format!("its certificate is for {names}, and `url` says `{url}`")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let issuer = Met::read(met).issuer;
                format!(
                    "its certificate, issued by {issuer}, has expired, or the clock here is wrong"
                )
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                match Timestamp::now().clock_was_set() {
                    true => "its certificate is not valid yet; is the clock here right?",
                    false => {
                        "the clock here is not set yet, so its certificate seems not valid yet; \
                         waiting for the time"
                    }
                }
                .to_owned()
            }
            _ => return None,
        })
    }
}

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
                Some(words) => {
                    let distrust = Arc::new(Distrust { error, words });
                    Error::InvalidCertificate(CertificateError::Other(OtherError(distrust)))
                }
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
fn title(name: &[u8]) -> String {
    /// Its object identifier, 2.5.4.3.
    const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
    let mut last = None;
    let mut sets = name;
    while let Some((set, rest)) = value(sets) {
        sets = rest;
        let Some((pair, _)) = value(set) else { break };
        let Some((kind, rest)) = value(pair) else { break };
        let Some((text, _)) = value(rest) else { break };
        last = Some(quoted(&String::from_utf8_lossy(text)));
        if kind == COMMON_NAME {
            break;
        }
    }
    last.unwrap_or_else(|| "somebody without a name".to_owned())
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
    let (_, end) = value(validity)?;
    let (end, _) = value(end)?;
    let end = std::str::from_utf8(end).ok().filter(|end| end.is_ascii())?;
    // RFC 5280, section 4.1.2.5: years of two digits are those from 1950 on.
    let end = match end.len() {
        13 if end < "50" => format!("20{end}"),
        13 => format!("19{end}"),
        _ => end.to_owned(),
    };
    let part = |range| end.get(range);
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let (hour, minute, second) = (part(8..10)?, part(10..12)?, part(12..14)?);
    Some(format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))
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
