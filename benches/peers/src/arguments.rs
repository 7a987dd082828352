//! Arguments as `name=value`.

use std::{collections::HashMap, env, str::FromStr};

use anyhow::{Context, anyhow};

/// What stands on the command line.
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    pub fn read() -> anyhow::Result<Arguments> {
        let pair = |argument: String| {
            let (name, value) =
                argument.split_once('=').with_context(|| format!("`{argument}` is not name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        env::args().skip(1).map(pair).collect::<anyhow::Result<_>>().map(Arguments)
    }

    /// The value called `name`.
    pub fn get<T: FromStr>(&self, name: &str) -> anyhow::Result<T> {
        let text = self.0.get(name).with_context(|| format!("`{name}=` is missing"))?;
        text.parse().map_err(|_| anyhow!("`{name}={text}` cannot be read"))
    }

    /// The value called `name`, or another.
    pub fn get_or<T: FromStr>(&self, name: &str, other: T) -> anyhow::Result<T> {
        match self.0.contains_key(name) {
            true => self.get(name),
            false => Ok(other),
        }
    }
}
