//! What an answer means, without a server.

use std::time::Duration;

use forebay_sdk::{Timestamp, node::LONGEST_PAUSE};
use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::answer::{Verdict, verdict, wait};

#[test]
fn only_what_is_the_fault_of_a_message_is_rejected() {
    #[track_caller]
    fn check(statuses: &[u16], retry_also: &[u16], expected: Verdict) {
        for status in statuses {
            let status = StatusCode::from_u16(*status).unwrap();
            assert_eq!(verdict(status, retry_also), expected, "{status}");
        }
    }
    check(&[200, 201, 202, 204, 207], &[], Verdict::Settled);
    check(&[301, 302, 303, 304, 307, 308], &[], Verdict::Retry);
    check(&[401, 403, 404, 405, 407, 410], &[], Verdict::Barred);
    check(&[408, 421, 423, 425, 429, 500, 501, 502, 503, 504, 511, 599], &[], Verdict::Retry);
    check(&[400, 402, 406, 409, 411, 413, 414, 415, 417, 422, 431, 499], &[], Verdict::Reject);
    check(&[409, 413], &[409, 413], Verdict::Retry);
    check(&[400], &[409, 413], Verdict::Reject);
}

#[test]
fn a_pause_is_read_in_both_of_its_forms_and_has_a_bound() {
    let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    };
    let now = Timestamp::from_unix_nanos(1_795_252_440_000_000_000);
    let check = |pairs: &[(&'static str, &'static str)], expected: Option<u64>| {
        let expected = expected.map(Duration::from_secs);
        assert_eq!(wait(&headers(pairs), now), expected, "{pairs:?}");
    };
    check(&[], None);
    check(&[("retry-after", "120")], Some(120));
    check(&[("retry-after", " 5 ")], Some(5));
    check(&[("retry-after", "0")], None);
    check(&[("retry-after", "99999999999")], Some(LONGEST_PAUSE.as_secs()));
    check(&[("retry-after", "99999999999999999999999")], None);
    check(&[("retry-after", "-1")], None);
    check(&[("retry-after", "soon")], None);
    check(&[("retry-after", "Sat, 21 Nov 2026 09:15:00 GMT")], Some(60));
    check(&[("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")], None);
    check(&[("retry-after", "Sun, 22 Nov 2026 09:15:00 GMT")], Some(LONGEST_PAUSE.as_secs()));
    // Our clock stands at a time long ago, the server's does not.
    let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
    check(&[("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT"), date], Some(30));
}
