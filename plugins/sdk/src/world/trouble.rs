//! Says in words why nobody was reached.

use std::{
    fmt,
    io::{self, ErrorKind},
};

use super::proxy::Barred;

/// A host whose addresses were not found.
#[derive(Clone, Debug)]
pub struct Unresolved {
    host: String,
    /// Nobody was there to ask. Otherwise there is no such name.
    is_unanswered: bool,
    /// What the system says.
    said: String,
}

impl Unresolved {
    pub(super) fn wrap(host: &str, error: &io::Error) -> io::Error {
        let said = error.to_string();
        // The words of glibc and of musl for EAI_AGAIN. The number itself does not get here.
        let unanswered = ["Temporary failure", "Try again"];
        let is_unanswered = unanswered.iter().any(|words| said.contains(words));
        let said = said.rsplit(": ").next().unwrap_or_default().to_owned();
        io::Error::other(Unresolved { host: host.to_owned(), is_unanswered, said })
    }

    /// Whether nobody answered who could know the name.
    pub fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unresolved { host, is_unanswered, said } = self;
        match is_unanswered {
            true => write!(f, "no name server answers that could know `{host}` ({said})"),
            false => write!(f, "no host is called `{host}` ({said})"),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Why there is no connection to `to`, when it is the network's fault. None for other errors.
pub fn no_way(error: &io::Error, to: &str) -> Option<String> {
    if let Some(unresolved) = error.get_ref().and_then(|inner| inner.downcast_ref::<Unresolved>()) {
        return Some(unresolved.to_string());
    }
    if let Some(barred) = error.get_ref().and_then(|inner| inner.downcast_ref::<Barred>()) {
        return Some(barred.to_string());
    }
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => format!("nothing listens at {to}"),
        ErrorKind::NetworkUnreachable => {
            format!("this machine has no way to {to}: is the link up?")
        }
        ErrorKind::HostUnreachable => format!("no host answers at {to}"),
        ErrorKind::PermissionDenied => format!("a firewall here does not let us out to {to}"),
        _ => return None,
    })
}
