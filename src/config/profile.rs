//! Takes a profile into the settings of a node: the user's own, in the folder `profiles` beside
//! `forebay.yaml`, or one that is compiled in.

#[cfg(test)]
mod tests;

use std::{fs, path::PathBuf};

use forebay_sdk::{
    Finding, Profile, Profiles, Span, Taken,
    finding::{nearest, quoted},
};
use forebay_yaml::{self as yaml, Limits, Yaml};

use super::{draft::Part, folder::whole, read_part::Reader};
use crate::rules::UNKNOWN_PROFILE;

/// The setting that names one.
const PROFILE: &str = "profile";
const ENDING: &str = ".yaml";

impl Reader<'_> {
    /// Does nothing for a type without profiles, and for a node that names none.
    pub(super) fn take_in_profile(&mut self, part: &mut Part) {
        let profiles = part.node_type.as_ref().and_then(|node_type| node_type.profiles());
        let (Some(profiles), Some(named)) = (profiles, part.settings.get(PROFILE)) else { return };
        // What is no text is reported with the settings.
        let Some(name) = named.text().map(str::to_owned) else { return };
        let span = named.span;
        if let Some(profile) = self.profile(&name, span, profiles) {
            let taken = Taken { name: &name, span, profile: &profile };
            (profiles.take_in)(taken, &mut part.settings, &mut self.draft.findings);
        }
    }

    fn profile(&mut self, name: &str, span: Span, profiles: Profiles) -> Option<Yaml> {
        let native = profiles.native.iter().find(|profile| profile.name == name);
        // A path would lead out of the folder.
        let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        let path = self.profile_folder().join(format!("{name}{ENDING}"));
        if is_name {
            self.draft.watched.file(&path);
        }
        let limits = Limits::default();
        let has_own = is_name && self.folder.has(&path);
        let shown = match has_own {
            true => self.folder.shown(&path),
            false => format!("built-in profile {name}"),
        };
        let texts = &mut self.draft.texts;
        // Several nodes take in one.
        let file = match (texts.find(&shown), native) {
            (Some(file), _) => file,
            (None, _) if has_own => match self.folder.read(&path, limits.size_bytes) {
                Ok(text) => texts.add(shown, text),
                Err(problem) => {
                    let message = format!("profile {shown} {}", problem.message);
                    self.error(&UNKNOWN_PROFILE, span, message, problem.label);
                    return None;
                }
            },
            (None, Some(Profile { text, .. })) => texts.add_native(shown, text),
            (None, None) => return self.unknown_profile(name, span, profiles),
        };
        let text = self.draft.texts.text(file);
        let tree = yaml::parse(&text, file, limits, &mut self.draft.findings);
        if tree.is_none() {
            self.draft.texts.not_read(file);
        }
        tree
    }

    fn profile_folder(&self) -> PathBuf {
        self.folder.root.join("profiles")
    }

    fn unknown_profile(&mut self, name: &str, span: Span, profiles: Profiles) -> Option<Yaml> {
        let folder = self.profile_folder();
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let own = entries
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(ENDING)?.to_owned()));
        let native = profiles.native.iter().map(|profile| profile.name.to_owned());
        let mut names: Vec<String> = native.chain(own).collect();
        names.sort_unstable();
        names.dedup();
        let names = || names.iter().map(String::as_str);
        let message = format!("there is no profile `{name}`");
        let finding = Finding::error(&UNKNOWN_PROFILE, span, message, "");
        let note = format!("your own stand in {}", whole(&folder).join("NAME.yaml").display());
        self.draft.findings.push(match nearest(name, names()) {
            Some(near) => finding.edit("a profile with a similar name exists", span, near),
            None => finding.help(format!("profiles are {}", quoted(names()))).note(note),
        });
        None
    }
}
