//! Functions of scripts for hashes, with a key and without.

use rhai::{Blob, Engine, ImmutableString};
use ring::{digest, hmac};

/// What has bytes.
trait Bytes {
    fn bytes(&self) -> &[u8];
}

impl Bytes for Blob {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Bytes for ImmutableString {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

pub(crate) fn register(engine: &mut Engine) {
    for (name, algorithm) in
        [("sha256", &digest::SHA256), ("sha1", &digest::SHA1_FOR_LEGACY_USE_ONLY)]
    {
        engine.register_fn(name, |bytes: Blob| hash(algorithm, &bytes));
        engine.register_fn(name, |text: ImmutableString| hash(algorithm, &text));
    }
    engine.register_fn("md5", |bytes: Blob| md5::compute(bytes).to_vec());
    engine.register_fn("md5", |text: ImmutableString| md5::compute(text.as_bytes()).to_vec());
    for (name, algorithm) in
        [("hmac_sha256", hmac::HMAC_SHA256), ("hmac_sha1", hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)]
    {
        engine.register_fn(name, move |key: Blob, x: Blob| sign(algorithm, &key, &x));
        engine.register_fn(name, move |key: Blob, x: ImmutableString| sign(algorithm, &key, &x));
        engine.register_fn(name, move |key: ImmutableString, x: Blob| sign(algorithm, &key, &x));
        engine.register_fn(name, move |key: ImmutableString, x: ImmutableString| {
            sign(algorithm, &key, &x)
        });
    }
}

fn hash(algorithm: &'static digest::Algorithm, of: &impl Bytes) -> Blob {
    digest::digest(algorithm, of.bytes()).as_ref().to_vec()
}

fn sign(algorithm: hmac::Algorithm, key: &impl Bytes, of: &impl Bytes) -> Blob {
    hmac::sign(&hmac::Key::new(algorithm, key.bytes()), of.bytes()).as_ref().to_vec()
}
