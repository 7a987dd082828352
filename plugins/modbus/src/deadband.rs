//! Which values have moved far enough to be sent. Pure: it is told the time.

use std::time::Duration;

use forebay_sdk::{Deadband, Value};
use tokio::time::Instant;

/// When a value is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sending {
    /// How far it must move.
    pub deadband: Deadband,
    /// It is sent after this time though it has not moved.
    pub longest: Option<Duration>,
}

/// What was sent last.
#[derive(Clone, Debug)]
pub struct Sent {
    value: Value,
    at: Instant,
}

impl Sending {
    /// Whether a value is to be sent; takes note of it then.
    pub fn lets_through(&self, last: &mut Option<Sent>, value: &Value, now: Instant) -> bool {
        let moved = last.as_ref().is_none_or(|last| {
            self.longest.is_some_and(|longest| now - last.at >= longest)
                || self.deadband.has_moved(&last.value, value)
        });
        if moved {
            *last = Some(Sent { value: value.clone(), at: now });
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Which of the values, one a second, are sent.
    fn sent(sending: Sending, values: &[Value]) -> Vec<Value> {
        let (start, mut last) = (Instant::now(), None);
        let timed = values.iter().zip(0..).filter(|(value, second)| {
            sending.lets_through(&mut last, value, start + Duration::from_secs(*second))
        });
        timed.map(|(value, _)| value.clone()).collect()
    }

    const fn beyond(abs: f64, percent: f64) -> Sending {
        Sending { deadband: Deadband { abs, percent }, longest: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_is_sent_when_it_has_moved_from_what_was_sent_last() {
        let values = [json!(10), json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)];
        assert_eq!(
            sent(Sending::default(), &values),
            [json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)]
        );
        // A slow drift is not lost: 10.8 is 0.8 from 10.
        let half = beyond(0.5, 0.0);
        assert_eq!(sent(half, &values), [json!(10), json!(10.8)]);
        let both = beyond(0.5, 10.0);
        assert_eq!(sent(both, &values), [json!(10), json!(11.2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_stands_still_is_sent_now_and_then() {
        let wide = Sending { longest: Some(Duration::from_secs(3)), ..beyond(1000.0, 0.0) };
        assert_eq!(sent(wide, &vec![json!(1); 8]).len(), 3);
    }
}
