//! JSON as text: a map taken apart and put together again without reading its values, so that what
//! nobody touches leaves as it came, and at little cost.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
pub use serde_json::value::RawValue;

/// The members of a map, in order: names and the text of their values. A name may come twice; the
/// last one counts.
pub type Members<'a, T = &'a RawValue> = Vec<(Cow<'a, str>, T)>;

/// Takes a map apart. An error when the text is not a map in JSON.
pub fn members<'a, T: From<&'a RawValue>>(text: &'a str) -> serde_json::Result<Members<'a, T>> {
    serde_json::from_str(text).map(|All(members)| members)
}

/// Writes a value.
pub fn write(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // Values, texts and numbers can always be written, and so can anything to memory.
    let _ = serde_json::to_writer(out, value);
}

/// Writes the name of a member into a map that begins with `{`. Its value comes next.
pub fn write_name(name: &str, out: &mut Vec<u8>) {
    begin_member(out);
    write(name, out);
    out.push(b':');
}

/// Writes a member that was taken out of another map as it came: its name, and the text of its value.
#[expect(clippy::ptr_arg, reason = "owned tells that the name had escapes")]
pub fn write_member(name: &Cow<str>, value: &str, out: &mut Vec<u8>) {
    match name {
        // It has no escapes, so it is written as it stood there.
        Cow::Borrowed(name) => {
            begin_member(out);
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        }
        Cow::Owned(name) => write_name(name, out),
    }
    out.extend_from_slice(value.as_bytes());
}

/// Begins a member of a map that begins with `{`. Its name comes next.
pub fn begin_member(out: &mut Vec<u8>) {
    // Nothing but a map that was just begun ends like this.
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

struct All<'a, T>(Members<'a, T>);

/// Borrowed from the text when it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, T: From<&'de RawValue>> Deserialize<'de> for All<'de, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<All<'de, T>, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: From<&'de RawValue>> Visitor<'de> for Map<T> {
            type Value = All<'de, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                // Room for most payloads, so that it need not grow.
                let mut members = Vec::with_capacity(16);
                while let Some((Name(name), value)) = map.next_entry::<Name, &RawValue>()? {
                    members.push((name, value.into()));
                }
                Ok(All(members))
            }
        }
        deserializer.deserialize_map(Map(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_put_together_as_it_was_taken_apart() {
        let text = r#"{"a":1.10,"grün":{"b":[ 1 ]},"q\"":18446744073709551616,"a":null}"#;
        let mut out = vec![b'{'];
        for (name, value) in members::<&RawValue>(text).unwrap() {
            write_member(&name, value.get(), &mut out);
        }
        out.push(b'}');
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert!(members::<&RawValue>("[1]").is_err() && members::<&RawValue>("{} 1").is_err());
    }
}
