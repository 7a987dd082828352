//! Which values have moved far enough to be sent. Pure: it is told the time.

use std::time::Duration;

use forebay_sdk::Value;
use tokio::time::Instant;

/// How far a value must move to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deadband {
    /// By more than this.
    pub abs: f64,
    /// And by more than this share of what was sent last, in percent.
    pub percent: f64,
    /// It is sent after this time though it has not moved.
    pub longest: Option<Duration>,
}

/// What was sent last.
#[derive(Clone, Debug)]
pub struct Sent {
    value: Value,
    at: Instant,
}

impl Deadband {
    /// Whether a value is to be sent; takes note of it then.
    pub fn lets_through(&self, last: &mut Option<Sent>, value: &Value, now: Instant) -> bool {
        let moved = last.as_ref().is_none_or(|last| self.has_moved(last, value, now));
        if moved {
            *last = Some(Sent { value: value.clone(), at: now });
        }
        moved
    }

    fn has_moved(&self, last: &Sent, value: &Value, now: Instant) -> bool {
        if self.longest.is_some_and(|longest| now - last.at >= longest) {
            return true;
        }
        match (last.value.as_f64(), value.as_f64()) {
            (Some(was), Some(is)) => {
                let distance = (is - was).abs();
                distance > self.abs && distance > was.abs() * self.percent / 100.0
            }
            _ => last.value != *value,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Which of the values, one a second, are sent.
    fn sent(deadband: Deadband, values: &[Value]) -> Vec<Value> {
        let (start, mut last) = (Instant::now(), None);
        let timed = values.iter().zip(0..).filter(|(value, second)| {
            deadband.lets_through(&mut last, value, start + Duration::from_secs(*second))
        });
        timed.map(|(value, _)| value.clone()).collect()
    }

    const NONE: Deadband = Deadband { abs: 0.0, percent: 0.0, longest: None };

    #[tokio::test(start_paused = true)]
    async fn a_value_is_sent_when_it_has_moved_from_what_was_sent_last() {
        let values = [json!(10), json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)];
        assert_eq!(
            sent(NONE, &values),
            [json!(10), json!(10.4), json!(10.8), json!(11.2), json!(10.5)]
        );
        // A slow drift is not lost: 10.8 is 0.8 from 10.
        let half = Deadband { abs: 0.5, ..NONE };
        assert_eq!(sent(half, &values), [json!(10), json!(10.8)]);
        let both = Deadband { abs: 0.5, percent: 10.0, ..NONE };
        assert_eq!(sent(both, &values), [json!(10), json!(11.2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_number_is_sent_when_it_is_another() {
        let wide = Deadband { abs: 1000.0, ..NONE };
        let values = [json!(1), json!(null), json!(null), json!(2), json!(true), json!(false)];
        assert_eq!(
            sent(wide, &values),
            [json!(1), json!(null), json!(2), json!(true), json!(false)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_that_stands_still_is_sent_now_and_then() {
        let wide = Deadband { abs: 1000.0, longest: Some(Duration::from_secs(3)), ..NONE };
        assert_eq!(sent(wide, &vec![json!(1); 8]).len(), 3);
    }
}
