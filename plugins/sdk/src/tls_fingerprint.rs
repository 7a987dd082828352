//! The fingerprint of a certificate.

use std::{fmt, str::FromStr};

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rustls::pki_types::CertificateDer;

/// SHA-256 of a certificate, written `AB:CD:…` as browsers and `openssl x509 -fingerprint -sha256` do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

/// A text that is no fingerprint, and what would be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFingerprint;

impl Fingerprint {
    /// That of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Fingerprint(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// With colons or blanks between the bytes or without, and with `SHA256` in front or without.
    fn from_str(text: &str) -> Result<Fingerprint, NoFingerprint> {
        let text = text.trim();
        let is_named = text.get(..6).is_some_and(|name| name.eq_ignore_ascii_case("sha256"));
        let digits = if is_named { &text[6..] } else { text };
        let digits: String = digits.chars().filter(|c| !matches!(c, ':' | ' ' | '=')).collect();
        if digits.len() != 2 * SHA256_OUTPUT_LEN || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoFingerprint);
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| NoFingerprint)?;
        }
        Ok(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_reads_as_browsers_and_openssl_write_it() {
        let plain = "ab".repeat(SHA256_OUTPUT_LEN);
        let colons = ["AB"; SHA256_OUTPUT_LEN].join(":");
        let shown = plain.parse::<Fingerprint>().unwrap().to_string();
        assert_eq!(shown, colons);
        for text in [&colons, &format!("sha256 {colons}"), &format!(" SHA256:{plain} ")] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), colons, "{text}");
        }
        // Of SHA-1, cut off, and what only counts as long enough.
        for text in ["", &colons[..59], &plain[1..], &"é".repeat(SHA256_OUTPUT_LEN), "sha256é"] {
            assert_eq!(text.parse::<Fingerprint>(), Err(NoFingerprint), "{text}");
        }
    }
}
