//! A server that is known by its certificate and nothing else: what devices with a certificate of
//! their own making need.

use std::sync::Arc;

use anyhow::Context;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{tls_fingerprint::Fingerprint, tls_server::Distrust};

/// Trusts the server with this certificate and no other, whoever issued it, whatever host it names, and whatever the
/// clock says. Those that the system trusts are not read for it, and take no memory.
///
/// # Errors
///
/// When TLS has none of the versions that we speak.
pub fn trusting_only(pin: Fingerprint) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("choosing the versions of TLS")?;
    let verifier = Arc::new(Pinned { pin, provider });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let met = Fingerprint::of(end_entity);
        if met == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let words = format!(
            "it shows another certificate than the one in `fingerprint`: SHA-256 {met}. Either it was given a new \
             one, or somebody stands between; look there before you change the setting"
        );
        let error = CertificateError::ApplicationVerificationFailure;
        Err(Distrust::error(error, end_entity, words))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
