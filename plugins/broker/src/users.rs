//! Who may connect.

use std::{
    collections::BTreeMap,
    future::{Future, ready},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
};

use anyhow::anyhow;
use forebay_sdk::{Secret, Voice};
use mqtt5::{
    broker::{AuthProvider, AuthResult, DynamicStorage, StorageBackend},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};

/// Checks passwords, and bounds the sessions that the broker remembers.
pub struct Users {
    /// None lets anybody in.
    pub passwords: Option<BTreeMap<String, Secret>>,
    /// Where sessions are.
    pub storage: Arc<DynamicStorage>,
    /// The most sessions to remember.
    pub most_sessions: usize,
    /// Hears of logins that are refused.
    pub voice: Voice,
}

impl Users {
    async fn admit(&self, connect: &ConnectPacket, from: SocketAddr) -> AuthResult {
        let user = match &self.passwords {
            None => None,
            Some(passwords) => match self.user(passwords, connect) {
                Some(user) => Some(user),
                None => {
                    self.refuse(from, "bad user name or password");
                    return AuthResult::fail(ReasonCode::BadUsernameOrPassword);
                }
            },
        };
        if !connect.clean_start && !self.has_room_for(&connect.client_id).await {
            self.refuse(from, &format!("{} sessions are remembered already", self.most_sessions));
            return AuthResult::fail(ReasonCode::ServerUnavailable);
        }
        match user {
            Some(user) => AuthResult::success_with_user(user),
            None => AuthResult::success(),
        }
    }

    fn refuse(&self, from: SocketAddr, why: &str) {
        self.voice.trouble(&anyhow!("refused a login from {}: {why}", from.ip()));
    }

    fn user<'a>(
        &self,
        passwords: &BTreeMap<String, Secret>,
        connect: &'a ConnectPacket,
    ) -> Option<&'a str> {
        let name = connect.username.as_deref()?;
        let given = connect.password.as_deref().unwrap_or_default();
        let right = passwords.get(name)?.expose().as_bytes();
        same(given, right).then_some(name)
    }

    async fn has_room_for(&self, client_id: &str) -> bool {
        match self.storage.session_client_ids().await {
            Ok(known) => known.len() < self.most_sessions || known.iter().any(|k| k == client_id),
            // The memory store never fails.
            Err(_) => false,
        }
    }
}

/// Compares in a time that does not tell how much of a guess is right.
fn same(given: &[u8], right: &[u8]) -> bool {
    let differences = given.iter().zip(right).fold(0, |all, (one, other)| all | (one ^ other));
    given.len() == right.len() && differences == 0
}

/// A future that mqtt5's traits return.
type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Users {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move { Ok(self.admit(connect, from).await) })
    }

    fn authorize_publish<'a>(&self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(true))
    }

    fn authorize_subscribe<'a>(&self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(ready(true))
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn only_the_right_password_is_the_same() {
        assert!(same(b"secret", b"secret") && same(b"", b""));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret"] {
            assert!(!same(wrong, b"secret"), "{wrong:?}");
        }
    }
}
