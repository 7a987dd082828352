//! Mosquitto's file of rights.

use super::yaml::quoted;

/// Whose topics come next.
enum Whose {
    Anonymous,
    User(String),
}

/// The rules in it, each as an entry of `access`, and the lines that are none.
pub(super) fn rules(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut rules, mut left) = (Vec::new(), Vec::new());
    // What stands in front of the first user is for those without a name.
    let mut whose = Whose::Anonymous;
    let lines = text.lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let whom = match (word, &whose) {
            ("user", _) if !rest.trim().is_empty() => {
                whose = Whose::User(rest.trim().to_owned());
                continue;
            }
            ("topic", Whose::Anonymous) => ", anonymous: true".to_owned(),
            ("topic", Whose::User(user)) => format!(", users: [{}]", quoted(user)),
            ("pattern", _) => String::new(),
            _ => {
                left.push(line.to_owned());
                continue;
            }
        };
        match topic(rest.trim()) {
            Some((allow, topic)) => {
                let topic = quoted(topic);
                rules.push(format!("- {{ topic: {topic}, allow: {allow}{whom} }}"));
            }
            None => left.push(line.to_owned()),
        }
    }
    (rules, left)
}

/// What a line allows, and for which topics.
fn topic(text: &str) -> Option<(&'static str, &str)> {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let rest = rest.trim();
    let (allow, topic) = match word {
        _ if rest.is_empty() => ("readwrite", word),
        "read" => ("read", rest),
        "write" => ("write", rest),
        "readwrite" => ("readwrite", rest),
        "deny" => ("deny", rest),
        _ => return None,
    };
    is_filter(topic).then_some((allow, topic))
}

fn is_filter(topic: &str) -> bool {
    let mut levels = topic.split('/').peekable();
    let mut is_one = !topic.is_empty() && !topic.contains('\0');
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        is_one &= !level.contains('#') || level == "#" && is_last;
        is_one &= !level.contains('+') || level == "+";
    }
    is_one
}
