//! A server that is known by its certificate and nothing else: what devices with a certificate of
//! their own making need.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{tls_fingerprint::Fingerprint, tls_server::Distrust};

/// From now on the server with this certificate is trusted and no other, whoever issued it, whatever
/// host it names, and whatever the clock says.
pub fn trust_only(config: &mut ClientConfig, pin: Fingerprint) {
    let provider = Arc::clone(config.crypto_provider());
    config.dangerous().set_certificate_verifier(Arc::new(Pinned { pin, provider }));
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
