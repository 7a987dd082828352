//! Passwords as they are kept: a salted digest, in the form of Mosquitto's files. Behind the feature
//! `passwords`.

pub use forebay_yaml::units::is_digest;

use std::{fmt, num::NonZeroU32};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    digest, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use subtle::ConstantTimeEq;

/// How often a new digest is made over: some tens of milliseconds on a router.
const ROUNDS: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");
/// More would keep a core busy for seconds with each login.
const MOST_ROUNDS: u32 = 1_000_000;
const SALT_BYTES: usize = 16;
/// No salt is longer.
const MOST_SALT_BYTES: usize = 1024;
/// Of SHA-512.
const DIGEST_BYTES: usize = 64;

/// What is kept of a password: `$7$ROUNDS$SALT$DIGEST`, or `$6$SALT$DIGEST` as old versions of
/// `mosquitto_passwd` made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    /// None for a digest that was made once.
    rounds: Option<NonZeroU32>,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Hashed {
    /// Reads a digest.
    ///
    /// # Errors
    ///
    /// Why it is none, in words that follow on its name.
    pub fn parse(text: &str) -> Result<Hashed, &'static str> {
        const BROKEN: &str = "is not whole: was its end cut off?";
        let mut parts = text.split('$').skip(1);
        let rounds = match parts.next() {
            Some("7") => {
                let rounds = parts.next().and_then(|rounds| rounds.parse().ok()).ok_or(BROKEN)?;
                if rounds > NonZeroU32::new(MOST_ROUNDS).unwrap_or(NonZeroU32::MIN) {
                    return Err("has more than 1000000 rounds, which takes seconds for each login");
                }
                Some(rounds)
            }
            Some("6") => None,
            Some(kind) if kind.starts_with("argon2") => {
                return Err("is of the kind argon2, which is not known here");
            }
            _ => return Err("is of a kind that is not known here"),
        };
        let mut bytes = || BASE64_STANDARD.decode(parts.next()?).ok();
        let (salt, digest) = bytes().zip(bytes()).ok_or(BROKEN)?;
        if parts.next().is_some() || digest.len() != DIGEST_BYTES || salt.len() > MOST_SALT_BYTES {
            return Err(BROKEN);
        }
        Ok(Hashed { rounds, salt, digest })
    }

    /// Makes a digest of a password, with a salt of its own. Takes some tens of milliseconds.
    pub fn of(password: &[u8]) -> anyhow::Result<Hashed> {
        let mut salt = vec![0; SALT_BYTES];
        let random = SystemRandom::new().fill(&mut salt);
        random.map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let mut digest = vec![0; DIGEST_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ROUNDS, &salt, password, &mut digest);
        Ok(Hashed { rounds: Some(ROUNDS), salt, digest })
    }

    /// Whether it was made of this password. Takes as long as its rounds do, and tells nothing by that.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self.rounds {
            Some(rounds) => {
                let (salt, known) = (&self.salt, &self.digest);
                pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA512, rounds, salt, password, known).is_ok()
            }
            None => {
                let salted = [password, &self.salt].concat();
                same(digest::digest(&digest::SHA512, &salted).as_ref(), &self.digest)
            }
        }
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        match self.rounds {
            Some(rounds) => write!(f, "$7${rounds}$")?,
            None => write!(f, "$6$")?,
        }
        write!(f, "{}${}", encoded(&self.salt), encoded(&self.digest))
    }
}

impl fmt::Debug for Hashed {
    /// Nobody is to guess at it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

/// Compares in a time that does not tell how much of a guess is right.
pub fn same(given: &[u8], right: &[u8]) -> bool {
    given.ct_eq(right).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `mosquitto_passwd -b` and `mosquitto_passwd -H sha512 -b` write for `secret`.
    const BY_MOSQUITTO: [&str; 2] = [
        "$7$101$sEIWWkh3RXy8YpQp$W39JBzoQ9vtpo0UtcJlLV5zuoOtsj+zAAtOJEQ5CUgXFb9qh5eVtPzBq2DXs3r4ue1zBsCVlwgADveA/ieF3CA==",
        "$6$Pm84Bacn23vZsS/I$i1TORflzD3A6Y8aYD/QhEC429Ne2WLlsU2OeX6ys1tj361wkEjwvNrX/xdbz05Rf2bYgZOu89DWnEWuUUq7Hrg==",
    ];

    #[test]
    fn digests_of_mosquitto_are_understood_and_written_as_they_were() {
        for text in BY_MOSQUITTO {
            let hashed = Hashed::parse(text).unwrap();
            assert!(hashed.is_of(b"secret"), "{text}");
            assert!(!hashed.is_of(b"Secret") && !hashed.is_of(b""), "{text}");
            assert_eq!(hashed.to_string(), text);
        }
    }

    #[test]
    fn a_new_digest_is_of_its_password_and_no_two_are_the_same() {
        let (one, other) = (Hashed::of(b"a").unwrap(), Hashed::of(b"a").unwrap());
        assert_ne!(one, other);
        assert!(Hashed::parse(&one.to_string()).unwrap().is_of(b"a"));
        assert!(!format!("{one:?}").contains('$'));
    }

    #[test]
    fn what_is_no_digest_is_refused_and_nothing_in_it_is_a_panic() {
        let whole = BY_MOSQUITTO[0];
        for end in 0..whole.len() {
            assert!(Hashed::parse(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        for bad in ["$7$0$YQ==$YQ==", "$7$1000001$YQ==$YQ==", "$argon2id$x", "plain", "$6$?$?"] {
            assert!(Hashed::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_right_password_is_the_same() {
        assert!(same(b"secret", b"secret") && same(b"", b""));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret"] {
            assert!(!same(wrong, b"secret"), "{wrong:?}");
        }
    }
}
