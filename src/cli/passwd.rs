//! `forebay passwd`: a user of the embedded broker, with a digest of its password.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use forebay_sdk::password::Hashed;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::output::{Ending, print};

/// Make a line for a user of the embedded broker, with a digest of its password.
///
/// The password is asked for at the terminal, or is the first line of standard input. The line belongs into the
/// `password_file` of a broker, which `--file` changes, or, behind the colon, into its `users`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The name of the user.
    user: String,
    /// Adds the user to this file, or changes the password there. The file is made when it is missing.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Deletes the user from the file.
    #[arg(long, requires = "file")]
    delete: bool,
}

/// No password is longer.
const MOST_BYTES: u64 = 4096;

pub(super) fn passwd(arguments: Arguments) -> anyhow::Result<Ending> {
    let Arguments { user, file, delete } = arguments;
    if user.is_empty() || user.starts_with('#') || user.contains([':', '\n', '\r']) {
        bail!(
            "`{user}` cannot be the name of a user: it has a colon or a new line in it, begins with `#`, or is empty"
        );
    }
    let line = match delete {
        true => None,
        false => Some(format!("{user}:{}", Hashed::of(ask()?.as_bytes())?)),
    };
    match (file, line) {
        (Some(file), line) => change(&file, &user, line.as_deref())?,
        (None, Some(line)) => print(&format!("{line}\n"))?,
        (None, None) => (),
    }
    Ok(Ending::Fine)
}

/// The password: typed twice at a terminal, which does not show it, or the first line of standard input.
fn ask() -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let (first, again) = (typed("Password: ")?, typed("Once more: ")?);
    match first == again {
        true => Ok(first),
        false => bail!("the two passwords are not the same"),
    }
}

fn typed(prompt: &str) -> anyhow::Result<String> {
    let terminal = io::stdin();
    let shows = tcgetattr(&terminal).context("asking the terminal")?;
    let mut hides = shows.clone();
    hides.local_modes.remove(LocalModes::ECHO);
    // First of all: what is typed as soon as the question is there is hidden, too.
    tcsetattr(&terminal, OptionalActions::Flush, &hides).context("hiding what is typed")?;
    eprint!("{prompt}");
    let line = read_line();
    tcsetattr(&terminal, OptionalActions::Now, &shows).context("showing what is typed again")?;
    eprintln!();
    line
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    let stdin = io::stdin().lock();
    io::Read::take(stdin, MOST_BYTES + 2).read_line(&mut line).context("reading the password")?;
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("there is no password: the first line of standard input is empty");
    }
    if password.len() as u64 > MOST_BYTES {
        bail!("the password is longer than {MOST_BYTES} bytes");
    }
    Ok(password.to_owned())
}

/// Puts a line into a file in the place of the one of that user, or takes that away. All else in it stays, and
/// whoever reads it meanwhile finds the old file or the new one.
fn change(file: &Path, user: &str, line: Option<&str>) -> anyhow::Result<()> {
    // Where a link leads to, so that it stays one.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let before = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("reading {}", file.display()))?,
    };
    let is_of_user = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name == user);
    if line.is_none() && !before.lines().any(|line| is_of_user(&line)) {
        bail!("no user `{user}` is in {}", file.display());
    }
    let mut is_written = false;
    let mut after = String::new();
    let mut write = |line: &str| {
        after += line;
        after.push('\n');
    };
    for known in before.lines() {
        match (is_of_user(&known), line) {
            (false, _) => write(known),
            (true, Some(line)) if !is_written => {
                write(line);
                is_written = true;
            }
            (true, _) => (),
        }
    }
    if let Some(line) = line.filter(|_| !is_written) {
        write(line);
    }
    replace(&file, after.as_bytes()).with_context(|| format!("writing {}", file.display()))
}

/// Writes a file that its owner alone may read, whole or not at all.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = file.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&fresh, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
