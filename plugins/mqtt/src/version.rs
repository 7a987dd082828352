//! The versions of MQTT.

use std::fmt;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1.
    V4,
    /// 5.
    V5,
}

impl Version {
    /// The other one.
    pub fn other(self) -> Version {
        match self {
            Version::V4 => Version::V5,
            Version::V5 => Version::V4,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V4 => "3.1.1",
            Version::V5 => "5",
        })
    }
}
