//! What users write, and what they are told.

use std::time::Duration;

use forebay_sdk::{node::LONGEST_TRY, testing};

use crate::http;

const URL: &str = "url: https://example.com/ingest";

#[track_caller]
fn check(settings: &str, expected: &[&str]) {
    let findings = testing::configure(&http(), settings).err().unwrap_or_default();
    assert_eq!(findings, expected, "{settings}");
}

#[test]
fn a_url_is_for_http_and_shows_no_password() {
    let expected = |label: &str| format!("setting-value: `url` cannot be used [{label}]");
    check(URL, &[]);
    check("url: http://[::1]:8080/?a=b", &[]);
    check("url: ftp://example.com", &[&expected("expected `http://` or `https://`")]);
    let such =
        |why: &str| expected(&format!("expected such as `https://example.com/ingest`: {why}"));
    for url in ["example.com:80/x", "/ingest", "example.com", "https:/example.com"] {
        let front = "with `http://` or `https://` in front";
        let label = format!("expected such as `https://example.com/ingest`, {front}");
        check(&format!("url: {url}"), &[&expected(&label)]);
    }
    check("url: https://", &[&such("the host is missing")]);
    check("url: https://example.com:99999/", &[&such("a port is a number from 1 to 65535")]);
    check("url: 'https://example.com/a b'", &[&such("a blank is written `%20`")]);
    check("url: 'https://fe80::1/'", &[&such("a port is a number from 1 to 65535")]);
    check(
        "url: 'https://[fe80::1/'",
        &[&such("an IPv6 address stands in brackets, as in `[fe80::1]`")],
    );
    check("url: 'https://exa^mple.com'", &[&such("the host has a character that no host has")]);
    check("url: https://10.0.0.256", &[&such("this is no IPv4 address")]);
    let user = expected("expected no user and password");
    check("url: https://me:hunter2@example.com", &[&user]);
    check("url: https://me@example.com", &[&user]);
}

#[test]
fn what_leaves_the_site_in_clear_is_a_warning() {
    for url in
        ["http://plc", "http://192.168.1.9:8086/write", "http://[fd00::1]/", "https://a.example"]
    {
        check(&format!("url: '{url}'"), &[]);
    }
    check(
        "url: http://ingest.example:8080/x?token=hunter2",
        &["unencrypted: `url` has no TLS, and ingest.example is no local host \
           [expected `https://ingest.example`]"],
    );
}

#[test]
fn the_way_to_log_in_is_told_to_who_writes_a_password_into_the_url() {
    let (sink, problems) = testing::resolve(&http(), "url: https://me:hunter2@example.com");
    assert!(sink.is_none());
    let note = problems[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("`headers`") && note.contains("${file:"), "{note}");
    assert!(!format!("{problems:?}").contains("hunter2"));
}

#[test]
fn a_header_is_one_that_may_be_set_and_its_value_is_not_shown() {
    let headers = |headers: &str| format!("{URL}\nheaders: {headers}");
    check(&headers("{ Authorization: Bearer x, X-Key: k }"), &[]);
    check(
        &headers("{ 'X Key': k }"),
        &["setting-value: `X Key` is no name of a header \
           [expected letters, digits and `-`, such as `X-Api-Key`]"],
    );
    check(
        &headers("{ Content-Length: '5' }"),
        &["setting-value: `Content-Length` cannot be set [it follows from the request]"],
    );
    check(
        &headers("{ X-Key: \"hunter2\\n\" }"),
        &["setting-type: `headers.X-Key` holds a line break [expected text of one line]"],
    );
    check(
        &headers("{ X-Key: \"hunter2\\x01\" }"),
        &["setting-type: `headers.X-Key` holds the control character U+0001 \
           [expected text without control characters]"],
    );
    check(&headers("{ Authorization: k4711 }"), &[]);
    for empty in ["Bearer ", "bearer", "Basic", "ApiKey "] {
        check(
            &headers(&format!("{{ authorization: '{empty}' }}")),
            &["setting-value: `authorization` has no token \
               [expected one behind the scheme; without it, leave out the header]"],
        );
    }
    check(
        &headers("{ X-Key: a, x-key: b }"),
        &["setting-value: `x-key` stands here twice \
           [the names of headers differ by more than upper and lower case]"],
    );
}

#[test]
fn other_settings_have_bounds() {
    let with = |line: &str| format!("{URL}\n{line}");
    check(&with("timeout: 1h"), &[]);
    check(
        &with("timeout: 2h"),
        &["setting-value: `timeout` is out of range [expected 10ms to 1h, found 2h]"],
    );
    check(
        &with("connect_timeout: 1ms"),
        &["setting-value: `connect_timeout` is out of range [expected 10ms to 1h, found 1ms]"],
    );
    check(
        &with("retry_also: [302]"),
        &["setting-type: `retry_also[0]` is out of range [expected 400 to 499, found 302]"],
    );
    check(&with("ca: ''"), &["setting-type: `ca` is empty [expected a text that is not empty]"]);
    check(
        &with("body: array\nformat: text"),
        &["setting-value: `format` does not go with this `body` \
           [expected `json`, `cbor` or `msgpack`]"],
    );
    check(
        &with("body: lines\nformat: cbor"),
        &["setting-value: `format` does not go with this `body` [expected `json`]"],
    );
    check(&with("body: array\nformat: msgpack\ncompression: zstd"), &[]);
}

#[test]
fn a_batch_is_as_large_as_the_body_allows() {
    let batch = |line: &str| {
        let settings = testing::configure(&http(), &format!("{URL}\n{line}"));
        settings.unwrap().capabilities().batch_messages
    };
    assert_eq!(batch("body: single"), 1);
    assert_eq!(batch("body: array"), 100);
    assert_eq!(batch("body: lines"), 100);
}

#[test]
fn the_engine_waits_for_as_long_as_the_settings_say() {
    let longest = |line: &str| {
        let settings = testing::configure(&http(), &format!("{URL}\n{line}"));
        settings.unwrap().capabilities().longest_try
    };
    assert_eq!(longest("timeout: 10s"), LONGEST_TRY);
    assert!(longest("timeout: 5m") > Duration::from_secs(300));
    assert!(longest("timeout: 1h\nconnect_timeout: 1h") > Duration::from_secs(3600));
}

#[test]
fn what_the_server_answers_is_an_output() {
    assert_eq!(testing::configure(&http(), URL).unwrap().outputs(), ["answers"]);
}
