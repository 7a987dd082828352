//! The users, with what is known of their passwords.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use forebay_sdk::{
    Secret,
    password::{Hashed, is_digest, same},
};

/// A file of users is no larger.
const MOST_BYTES: u64 = 1 << 20;

/// The users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll(BTreeMap<String, Credential>);

/// What a password is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Plain(Secret),
    Hashed(Hashed),
}

impl Credential {
    /// Reads what stands behind the name of a user: a password, or a digest of one.
    ///
    /// # Errors
    ///
    /// Why a digest is none, in words that follow on its name.
    pub fn read(text: &Secret) -> Result<Credential, &'static str> {
        match is_digest(text.expose()) {
            true => Hashed::parse(text.expose()).map(Credential::Hashed),
            false => Ok(Credential::Plain(text.clone())),
        }
    }

    /// Whether this is the password. Takes as long as the digest wants.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Credential::Plain(right) => same(password, right.expose().as_bytes()),
            Credential::Hashed(hashed) => hashed.is_of(password),
        }
    }
}

impl Roll {
    /// With these users.
    pub fn new(users: BTreeMap<String, Credential>) -> Roll {
        Roll(users)
    }

    /// Nobody is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What the password of a user is compared with.
    pub fn credential(&self, user: &str) -> Option<&Credential> {
        self.0.get(user)
    }

    /// Adds the users of a file that are not there yet. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and in which line.
    pub fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let reading = || format!("reading `password_file` ({})", path.display());
        for (user, hashed) in read(path).and_then(|text| parse(&text)).with_context(reading)? {
            self.0.entry(user).or_insert(Credential::Hashed(hashed));
        }
        Ok(())
    }
}

/// The file of a setting, relative to the folder of the configuration.
pub fn path_of(folder: &Path, file: &str) -> PathBuf {
    let path = folder.join(file);
    std::path::absolute(&path).unwrap_or(path)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow::anyhow!("there is no such file; `forebay passwd` makes one")
        }
        _ => error.into(),
    })?;
    if !found.is_file() {
        bail!("it is not a regular file");
    }
    if found.len() > MOST_BYTES {
        bail!("it is larger than 1 MiB");
    }
    Ok(fs::read_to_string(path)?)
}

/// The users in the text of a file: a line `USER:DIGEST` for each.
fn parse(text: &str) -> anyhow::Result<Vec<(String, Hashed)>> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
    let said = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| {
        let (user, digest) = line
            .split_once(':')
            .with_context(|| format!("line {number} is not of the form `USER:DIGEST`"))?;
        let hashed = Hashed::parse(digest).map_err(|why| {
            anyhow::anyhow!("line {number}: the digest of the password of `{user}` {why}")
        })?;
        Ok((user.to_owned(), hashed))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_that_are_wrong_are_named_and_what_is_in_them_is_not_shown() {
        let good = Hashed::of(b"secret").unwrap();
        let users = parse(&format!("# the plant\n\nplc:{good}\r\nhmi:{good}\n")).unwrap();
        assert_eq!(users.iter().map(|(user, _)| &**user).collect::<Vec<_>>(), ["plc", "hmi"]);
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("plc"), "line 1 is not of the form `USER:DIGEST`");
        assert_eq!(
            error("\nplc:secret"),
            "line 2: the digest of the password of `plc` is of a kind that is not known here"
        );
    }
}
