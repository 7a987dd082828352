//! Where a field stands in a payload: `power`, `meter.power`, `phases[0].volts`, or `.` for all.

/// The deepest that a path goes.
const MOST_STEPS: usize = 64;

/// Steps from the payload to one of its values. Empty for the payload itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a map.
    Name(String),
    /// Into a list, counted from 0.
    Index(usize),
}

impl Path {
    /// Reads a path; says what would be right when it cannot.
    pub(crate) fn parse(text: &str) -> Result<Path, String> {
        if text == "." {
            return Ok(Path::default());
        }
        let wrong =
            || format!("expected a path such as `power` or `phases[0].volts`, found `{text}`");
        let mut steps = Vec::new();
        for part in text.split('.') {
            let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
            if name.is_empty() || name.contains(['{', '}', ']']) {
                return Err(wrong());
            }
            steps.push(Step::Name(name.to_owned()));
            for index in indexes.split_inclusive(']') {
                let digits = index.strip_prefix('[').and_then(|index| index.strip_suffix(']'));
                let index = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
                steps.push(Step::Index(index));
            }
        }
        match steps.len() <= MOST_STEPS {
            true => Ok(Path(steps)),
            false => Err(format!("expected at most {MOST_STEPS} steps, found {}", steps.len())),
        }
    }

    /// Reads a path that can be made or left out: names only.
    pub(crate) fn parse_names(text: &str) -> Result<Path, String> {
        let path = Path::parse(text)?;
        match path.names() {
            Some(names) if !names.is_empty() => Ok(path),
            _ => Err(format!("expected a name such as `power` or `meter.power`, found `{text}`")),
        }
    }

    /// The names on the way, unless a list is on the way.
    pub(crate) fn names<'a>(&'a self) -> Option<Vec<&'a str>> {
        let name = |step: &'a Step| match step {
            Step::Name(name) => Some(name.as_str()),
            Step::Index(_) => None,
        };
        self.0.iter().map(name).collect()
    }
}
