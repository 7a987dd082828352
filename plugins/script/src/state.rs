//! What a script remembers from one message to the next: the map `state`, which is data.

use std::mem;

use forebay_sdk::Value;
use rhai::{Dynamic, Identifier, Map, Scope};

use crate::{
    convert::{self, MAX_LEVELS, kind},
    host::{MAX_LIST_VALUES, MAX_MAP_VALUES, MAX_TEXT_BYTES},
    uses::StateUse,
};

/// How `state` is written down. Grows when it is done in another way.
pub(crate) const VERSION: u32 = 1;

/// As it is written down.
pub(crate) type Written = serde_json::Map<String, Value>;

/// What a run may change, as it was before.
pub(crate) enum Before {
    Unchanged,
    Fields(Vec<(Identifier, Option<Dynamic>)>),
    Whole(Dynamic),
}

impl Before {
    /// Copies what a script may change.
    pub(crate) fn of(scope: &Scope, uses: &StateUse) -> Before {
        if !uses.may_change() {
            return Before::Unchanged;
        }
        let Some(state) = scope.get("state") else { return Before::Unchanged };
        match uses {
            StateUse::Nothing | StateUse::Reads => Before::Unchanged,
            StateUse::Fields(names) => {
                let Ok(state) = state.as_map_ref() else { return Before::Unchanged };
                let field = |name: &Identifier| (name.clone(), state.get(name).cloned());
                Before::Fields(names.iter().map(field).collect())
            }
            // A function may share it, and then a clone would be the same.
            StateUse::Whole => Before::Whole(state.flatten_clone()),
        }
    }

    /// Puts it back: a run that failed has changed nothing.
    pub(crate) fn restore(self, scope: &mut Scope) {
        let Some(state) = scope.get_mut("state") else { return };
        match self {
            Before::Unchanged => (),
            Before::Whole(before) => *state = before,
            Before::Fields(fields) => {
                let Ok(mut state) = state.as_map_mut() else { return };
                for (name, before) in fields {
                    match before {
                        Some(before) => state.insert(name, before),
                        None => state.remove(&name),
                    };
                }
            }
        }
    }
}

/// Looks after a run whether `state` is data, and not too much of it.
pub(crate) fn check(scope: &mut Scope, uses: &StateUse) -> Result<(), String> {
    if !uses.may_change() {
        return Ok(());
    }
    let Some(state) = scope.get_mut("state") else { return Ok(()) };
    if !state.is_map() {
        return Err(format!("`state` is {}; expected a map", kind(state)));
    }
    let mut sizes = Sizes::default();
    sizes.add(state, MAX_LEVELS).map_err(|fault| match fault {
        Fault::TooDeep => format!("`state` is nested more than {MAX_LEVELS} levels deep"),
        Fault::NoData { path, kind } => {
            format!("`state{path}` is {kind}, which `state` cannot hold")
        }
    })?;
    let fits = sizes.text_bytes <= MAX_TEXT_BYTES
        && sizes.list_values <= MAX_LIST_VALUES
        && sizes.map_values <= MAX_MAP_VALUES;
    if !fits {
        return Err("`state` holds more than a script may keep; remove old values".to_owned());
    }
    Ok(())
}

/// Brings back what was written down.
pub(crate) fn read(written: &Written) -> Map {
    convert::to_map(written)
}

/// Writes it down.
pub(crate) fn write(scope: &Scope) -> Option<Value> {
    // It was checked after the last run.
    convert::to_value(scope.get("state")?).ok()
}

/// Like those by which the engine measures a value.
#[derive(Default)]
struct Sizes {
    text_bytes: usize,
    list_values: usize,
    map_values: usize,
}

/// Why a value cannot be kept.
enum Fault {
    TooDeep,
    NoData { path: String, kind: &'static str },
}

impl Fault {
    fn inside(self, step: impl FnOnce() -> String) -> Fault {
        match self {
            Fault::TooDeep => Fault::TooDeep,
            Fault::NoData { path, kind } => Fault::NoData { path: step() + path.as_str(), kind },
        }
    }
}

impl Sizes {
    /// Adds a value and what lies in it. Makes it what it would come back as: a character is a text,
    /// and bytes are a list.
    fn add(&mut self, value: &mut Dynamic, levels: usize) -> Result<(), Fault> {
        let Some(levels) = levels.checked_sub(1) else { return Err(Fault::TooDeep) };
        if value.is_shared() {
            *value = value.flatten_clone();
        }
        value.set_tag(0);
        if value.is_int() || value.is_bool() || value.is_unit() {
            return Ok(());
        }
        if let Ok(float) = value.as_float() {
            let no_data = Fault::NoData { path: String::new(), kind: "no finite number" };
            return if float.is_finite() { Ok(()) } else { Err(no_data) };
        }
        if value.is_blob() {
            let bytes = mem::take(value).into_blob().unwrap_or_default();
            let list = bytes.into_iter().map(|byte| Dynamic::from(i64::from(byte)));
            *value = Dynamic::from_array(list.collect());
        }
        if let Ok(letter) = value.as_char() {
            *value = letter.to_string().into();
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            self.text_bytes += text.len();
            return Ok(());
        }
        if let Ok(mut fields) = value.as_map_mut() {
            self.map_values += fields.len();
            return fields.iter_mut().try_for_each(|(name, value)| {
                self.add(value, levels).map_err(|fault| fault.inside(|| format!(".{name}")))
            });
        }
        if let Ok(mut items) = value.as_array_mut() {
            self.list_values += items.len();
            return items.iter_mut().enumerate().try_for_each(|(index, value)| {
                self.add(value, levels).map_err(|fault| fault.inside(|| format!("[{index}]")))
            });
        }
        Err(Fault::NoData { path: String::new(), kind: kind(value) })
    }
}
