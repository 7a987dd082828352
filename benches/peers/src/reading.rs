//! The message of the comparison: 200 bytes of JSON with ten fields, of which one is a number and one
//! the moment of sending, both of a fixed width.

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem::Finder;

/// Ten digits, so that numbers keep their width.
const FIRST_NUMBER: u64 = 1_000_000_000;

const TEMPLATE: &str = r#"{"seq":1000000000,"sent":1700000000000000,"device":"north-hall-boiler-3-meter-7","flow_temp":71.25,"return_temp":52.5,"power":18.402,"energy":104527.75,"pump":true,"valve":63,"state":"steady running"}"#;
pub const SIZE_BYTES: usize = 200;
const _: () = assert!(TEMPLATE.len() == SIZE_BYTES);

const NUMBER_AT: usize = r#"{"seq":"#.len();
const SENT_AT: usize = r#"{"seq":1000000000,"sent":"#.len();

/// Appends a reading.
pub fn write(to: &mut Vec<u8>, number: u64, sent_micros: u64) {
    let start = to.len();
    to.extend_from_slice(TEMPLATE.as_bytes());
    digits(&mut to[start + NUMBER_AT..start + NUMBER_AT + 10], FIRST_NUMBER + number);
    digits(&mut to[start + SENT_AT..start + SENT_AT + 16], sent_micros);
}

/// A reading as text.
pub fn text(number: u64) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes, number, 1_700_000_000_000_000);
    String::from_utf8(bytes).expect("the template is text")
}

fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Reads back what matters of a reading, or of what became of it.
pub struct Eye {
    number: Finder<'static>,
    sent: Finder<'static>,
    hot: Finder<'static>,
}

/// What an [`Eye`] sees.
#[derive(Clone, Copy)]
pub struct Seen {
    pub number: u64,
    pub sent_micros: u64,
}

impl Eye {
    pub fn new() -> Eye {
        Eye {
            number: Finder::new("\"seq\":"),
            sent: Finder::new("\"sent\":"),
            hot: Finder::new("\"hot\":true"),
        }
    }

    pub fn look(&self, payload: &[u8]) -> Option<Seen> {
        let number = number_after(payload, &self.number)?.checked_sub(FIRST_NUMBER)?;
        Some(Seen { number, sent_micros: number_after(payload, &self.sent)? })
    }

    /// Whether the changed script made this.
    pub fn is_hot(&self, payload: &[u8]) -> bool {
        self.hot.find(payload).is_some()
    }
}

impl Default for Eye {
    fn default() -> Eye {
        Eye::new()
    }
}

fn number_after(payload: &[u8], key: &Finder) -> Option<u64> {
    let rest = &payload[key.find(payload)? + key.needle().len()..];
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |value, byte| value * 10 + u64::from(byte - b'0')))
}

/// Microseconds since 1970.
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
