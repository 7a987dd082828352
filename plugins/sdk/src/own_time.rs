//! Times that a node wrote into a message while the clock was not set, so that they can be put right
//! when the message gets its real time.
//!
//! While the clock is set nothing of this exists, and costs nothing.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    path::{Path, Step},
    payload::{Format, Payload, Value},
    timestamp::Timestamp,
};

/// How a time is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeForm {
    /// `2026-11-21T09:14:02.120Z`, in UTC.
    #[default]
    Iso,
    /// Milliseconds since 1970.
    UnixMs,
    /// Seconds since 1970.
    UnixS,
}

/// A time that stands in a message, and that this machine's clock gave before it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTime {
    /// Where it stands in the payload. None when it is a part of the topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// How it is written there.
    pub form: TimeForm,
    /// The time that was written, in nanoseconds since 1970.
    pub unix_nanos: i64,
}

impl TimeForm {
    /// A time in this form.
    pub fn value(self, time: Timestamp) -> Value {
        match self {
            TimeForm::Iso => time.to_rfc3339().into(),
            TimeForm::UnixMs => time.unix_millis().into(),
            TimeForm::UnixS => (time.unix_millis() / 1000).into(),
        }
    }

    /// The same as text, as it stands in a topic.
    pub fn text(self, time: Timestamp) -> String {
        match self.value(time) {
            Value::String(text) => text,
            number => number.to_string(),
        }
    }
}

impl OwnTime {
    /// The topic with the real time in the place of the one that was written.
    pub(crate) fn in_topic(&self, topic: &str, real: Timestamp) -> String {
        let written = Timestamp::from_unix_nanos(self.unix_nanos);
        topic.replacen(&self.form.text(written), &self.form.text(real), 1)
    }

    /// The payload with the real time in the place of the one that was written. None when something
    /// else stands there.
    pub(crate) fn in_payload(&self, payload: &Payload, real: Timestamp) -> Option<Payload> {
        let written = Timestamp::from_unix_nanos(self.unix_nanos);
        replaced(payload, self.path.as_ref()?, &self.form.value(written), &self.form.value(real))
    }

    /// Every place in a payload at which a time stands, for who cannot know what was written there.
    pub(crate) fn all_in(payload: &Value, time: Timestamp) -> Vec<OwnTime> {
        let forms = [TimeForm::Iso, TimeForm::UnixMs].map(|form| (form, form.value(time)));
        let mut found = Vec::new();
        find(payload, &forms, &mut Path::default(), &mut found);
        // A name with dots in it is no path that can be written down.
        found.retain(|(path, _)| Path::parse(&path.to_string()).as_ref() == Ok(path));
        let unix_nanos = time.unix_nanos();
        let own = |(path, form)| OwnTime { path: Some(path), form, unix_nanos };
        found.into_iter().map(own).collect()
    }
}

/// Every place at which one of these values stands.
fn find(
    value: &Value,
    forms: &[(TimeForm, Value)],
    here: &mut Path,
    found: &mut Vec<(Path, TimeForm)>,
) {
    let mut inside = |step: Step, value: &Value| {
        here.0.push(step);
        find(value, forms, here, found);
        here.0.pop();
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| inside(Step::Name(name.clone()), value));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| inside(Step::Index(at), value));
        }
        _ => {
            let form = forms.iter().find(|(_, written)| written == value);
            found.extend(form.map(|(form, _)| (here.clone(), *form)));
        }
    }
}

/// The payload with another value at a path. None when something else stands there than `before`.
/// All else stays to the last digit, so it is done in the text.
fn replaced(payload: &Payload, path: &Path, before: &Value, after: &Value) -> Option<Payload> {
    let bytes = payload.to_bytes(Format::Json);
    let text = std::str::from_utf8(&bytes).ok()?;
    let mut place: &str = serde_json::from_str::<&RawValue>(text).ok()?.get();
    for step in &path.0 {
        place = match step {
            Step::Name(name) => {
                let fields: BTreeMap<Cow<str>, &RawValue> = serde_json::from_str(place).ok()?;
                fields.get(name.as_str())?.get()
            }
            Step::Index(index) => {
                let items: Vec<&RawValue> = serde_json::from_str(place).ok()?;
                items.get(*index)?.get()
            }
        };
    }
    if serde_json::from_str::<Value>(place).ok()? != *before {
        return None;
    }
    let start = place.as_ptr() as usize - text.as_ptr() as usize;
    let (head, tail) = (&text[..start], &text[start + place.len()..]);
    Some(Payload::encoded(format!("{head}{after}{tail}"), Format::Json))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::Message;

    const SHIFT: i64 = 14 * 86_400_000_000_000;
    const STAMP: i64 = 1_794_042_000_123_000_000;

    fn real(time: Timestamp) -> Timestamp {
        match time.clock_was_set() {
            true => time,
            false => Timestamp::from_unix_nanos(time.unix_nanos() + SHIFT),
        }
    }

    fn message(payload: &str) -> Message {
        let mut message = Message::new("t", Payload::encoded(payload.to_owned(), Format::Json));
        message.time = Timestamp::before_clock_was_set(STAMP);
        message
    }

    fn own(path: Option<&str>, form: TimeForm) -> OwnTime {
        let path = path.map(|path| Path::parse(path).unwrap());
        OwnTime { path, form, unix_nanos: STAMP }
    }

    #[track_caller]
    fn check(before: &str, path: &str, form: TimeForm, after: &str) {
        let mut message = message(before);
        message.meta.add_own_time(own(Some(path), form));
        message.restamp_by(real);
        assert_eq!(message.payload.to_bytes(Format::Json), after.as_bytes());
        assert!(message.meta.own_times().is_empty());
        assert_eq!(message.time.unix_nanos(), STAMP + SHIFT);
        assert!(message.time.clock_was_set());
    }

    #[test]
    fn a_time_in_a_payload_follows_the_message() {
        let iso = r#"{"a":{"t":"2026-11-07T09:00:00.123Z"},"x":123456789012345678901234567890}"#;
        let put_right =
            r#"{"a":{"t":"2026-11-21T09:00:00.123Z"},"x":123456789012345678901234567890}"#;
        check(iso, "a.t", TimeForm::Iso, put_right);
        check(
            r#"{"l":[1, 1794042000123 ]}"#,
            "l[1]",
            TimeForm::UnixMs,
            r#"{"l":[1, 1795251600123 ]}"#,
        );
        check(r#"{"t":1794042000}"#, "t", TimeForm::UnixS, r#"{"t":1795251600}"#);
        check("1794042000", ".", TimeForm::UnixS, "1795251600");
    }

    #[test]
    fn what_somebody_changed_since_stays() {
        for changed in [r#"{"t":1794042001}"#, r#"{"u":1794042000}"#, "7", "{oops"] {
            check(changed, "t", TimeForm::UnixS, changed);
        }
    }

    #[test]
    fn a_time_in_a_topic_follows_the_message() {
        let mut message = message("{}");
        message.topic = "site/1794042000/1794042000".into();
        message.meta.add_own_time(own(None, TimeForm::UnixS));
        message.restamp_by(real);
        assert_eq!(&*message.topic, "site/1795251600/1794042000");
    }

    #[test]
    fn nothing_is_noted_while_the_clock_is_set_and_nothing_forgotten_until_it_is() {
        let payload =
            r#"{"at":1794042000123,"in":["2026-11-07T09:00:00.123Z",3],"x.y":1794042000123}"#;
        let mut message = message(payload);
        message.note_own_time(Timestamp::from_unix_nanos(STAMP));
        assert!(message.meta.own_times().is_empty());
        message.note_own_time(message.time);
        let noted = [own(Some("at"), TimeForm::UnixMs), own(Some("in[0]"), TimeForm::Iso)];
        assert_eq!(message.meta.own_times(), noted);
        message.restamp_by(|time| time);
        assert_eq!(message.meta.own_times(), noted);
        message.restamp_by(real);
        let put_right = json!({"at": 1_795_251_600_123_i64, "in": ["2026-11-21T09:00:00.123Z", 3], "x.y": 1_794_042_000_123_i64});
        assert_eq!(message.payload.value(), Ok(&put_right));
    }
}
