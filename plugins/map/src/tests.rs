use forebay_sdk::{
    Emitter, Fields, Format, Input, Message, Node, Payload, Sends, Timestamp, Value, testing,
};

use super::map;

/// What a node of these settings makes of a message.
fn apply(settings: &str, message: Message) -> Result<Message, String> {
    let Node::Transform(mut node) = testing::build(&map(), settings, None) else {
        panic!("a map is a transform")
    };
    let mut out = Emitter::default();
    let input = Input { message, from: "meter".into() };
    node.apply(input, &mut out).map_err(|error| format!("{error:#}"))?;
    let [(_, envelope)] = <[_; 1]>::try_from(out.drain().collect::<Vec<_>>()).unwrap();
    Ok(envelope.message)
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload.to_bytes(Format::Json).to_vec()).unwrap()
}

/// As bytes and as a value that was read before, the same comes out.
#[track_caller]
fn check(settings: &str, came: &'static str, expected: &str) {
    let value: Value = serde_json::from_str(came).unwrap();
    for payload in [Payload::encoded(came, Format::Json), Payload::from(value)] {
        let made = apply(settings, Message::new("meters/hall-3/raw", payload)).unwrap();
        assert_eq!(text(&made), expected, "{settings}");
    }
}

#[track_caller]
fn check_fails(settings: &str, came: &'static str, expected: &str) {
    let payload = Payload::encoded(came, Format::Json);
    let error = apply(settings, Message::new("meters/hall-3/raw", payload)).unwrap_err();
    assert_eq!(error, expected, "{settings}");
}

#[track_caller]
fn check_topic(template: &str, came: &'static str, expected: Result<&str, &str>) {
    let message = Message::new("meters/hall-3/raw", Payload::encoded(came, Format::Json));
    let made = apply(&format!("topic: '{template}'"), message);
    let topic = made.map(|made| {
        assert_eq!(text(&made), came, "the payload has nothing to do with it");
        made.topic.to_string()
    });
    assert_eq!(topic.as_deref().map_err(|error| error.as_str()), expected);
}

#[track_caller]
fn check_finding(settings: &str, expected: &str) {
    let findings = testing::configure(&map(), settings).err().unwrap_or_default();
    assert_eq!(findings, [expected]);
}

#[test]
fn an_item_of_a_list_is_taken_or_missing_wherever_it_stands() {
    for (index, expected) in [("0", "[1]"), ("1", r#"{"a":[2]}"#), ("2", "3.0")] {
        let settings = format!("fields: {{one: 'all[{index}]'}}\nrest: drop");
        check(&settings, r#"{"all":[[1],{"a":[2]},3.0]}"#, &format!(r#"{{"one":{expected}}}"#));
    }
}

#[test]
fn a_field_is_taken_under_another_name_and_the_rest_stays() {
    check("fields: {power: watts}", r#"{"watts":5,"volts":230}"#, r#"{"volts":230,"power":5}"#);
    check(
        "fields: {power: meter.watts}",
        r#"{"meter":{"watts":5,"id":"x"},"on":true}"#,
        r#"{"meter":{"id":"x"},"on":true,"power":5}"#,
    );
    check("fields: {l2: 'phases[1].volts'}", r#"{"phases":[{},{"volts":230}]}"#, {
        r#"{"phases":[{},{"volts":230}],"l2":230}"#
    });
    check("fields: {a: a, b: a}", r#"{"x":0,"a":1}"#, r#"{"x":0,"a":1,"b":1}"#);
}

#[test]
fn only_what_is_named_goes_out_when_the_rest_is_dropped() {
    check(
        "{fields: {b: b, a: list}, rest: drop}",
        r#"{"list":[1,{"x":2}],"b":null,"c":3}"#,
        r#"{"b":null,"a":[1,{"x":2}]}"#,
    );
}

#[test]
fn what_is_removed_does_not_go_out() {
    check("remove: [raw, meter.id]", r#"{"raw":1,"meter":{"id":7,"on":true},"x":2}"#, {
        r#"{"meter":{"on":true},"x":2}"#
    });
    check("remove: [meter.id]", r#"{"meter":{"id":7},"x":2}"#, r#"{"x":2}"#);
    check("remove: [meter.id]", r#"{"meter":5}"#, r#"{"meter":5}"#);
}

#[test]
fn numbers_are_scaled_shifted_and_rounded_in_this_order() {
    let check_one = |how: &str, came: &'static str, expected: &str| {
        check(&format!("{{fields: {{x: {{from: x, {how}}}}}, rest: drop}}"), came, expected);
    };
    check_one("scale: 0.001", r#"{"x":1234}"#, r#"{"x":1.234}"#);
    check_one("scale: 1.8, offset: 32, round: 1", r#"{"x":21.37}"#, r#"{"x":70.5}"#);
    check_one("round: 0", r#"{"x":21.5}"#, r#"{"x":22}"#);
    check_one("round: 2", r#"{"x":21.0}"#, r#"{"x":21.0}"#);
    // A reading that could not be read stays one.
    check_one("scale: 10, default: 1", r#"{"x":null}"#, r#"{"x":null}"#);
}

#[test]
fn rounding_damages_no_whole_number() {
    let check_one = |how: &str, came: &str, expected: &str| {
        let settings = format!("{{fields: {{x: {{from: x, {how}}}}}, rest: drop}}");
        let encoded = Payload::encoded(format!(r#"{{"x":{came}}}"#), Format::Json);
        let read: Value = serde_json::from_str(&format!(r#"{{"x":{came}}}"#)).unwrap();
        let expected = format!(r#"{{"x":{expected}}}"#);
        for payload in [encoded, read.into()] {
            let made = apply(&settings, Message::new("t", payload)).unwrap();
            assert_eq!(text(&made), expected, "{how}");
        }
    };
    for whole in
        ["1764086400123456", "-1764086400123456", "9007199254740993", "18446744073709551615", "0"]
    {
        for how in ["round: 0", "round: 2", "round: 15", "scale: 1, offset: 0, round: 0"] {
            check_one(how, whole, whole);
        }
    }
    check_one("round: 0", "1764086400123456.0", "1764086400123456");
    check_one("round: 0", "1764086400123.456", "1764086400123");
    check_one("scale: 1000, round: 0", "1764086400123456", "1764086400123456000");
    check_one("round: 0", "1e20", "100000000000000000000");
    check_one("round: 0", "1E5", "100000");
    check_one("round: 0", "-0.4", "0");
    check_one("round: 0", "1e21", "1e+21");
    check_one("round: 1", "1764086400123456.7", "1764086400123456.8");
    check_one("round: 15", "123456.789", "123456.789");
}

#[test]
fn what_nobody_computes_with_leaves_as_it_came() {
    let came = r#"{"id":18446744073709551616,"price":1.10,"name":"gr\u00fcn","a":{"b":[ 1 ]}}"#;
    let payload = Payload::encoded(came, Format::Json);
    let made = apply("fields: {site: {value: a}}", Message::new("t", payload)).unwrap();
    let expected = format!("{},\"site\":\"a\"}}", came.strip_suffix('}').unwrap());
    assert_eq!(text(&made), expected);
}

#[test]
fn a_field_that_is_not_there_is_left_out_unless_there_is_a_default() {
    check("{fields: {a: a, b: b.c}, rest: drop}", r#"{"b":5}"#, "{}");
    check("{fields: {a: {from: a, scale: 2, default: 0}}, rest: drop}", "{}", r#"{"a":0}"#);
    check("{fields: {a: {from: a, default: null}}, rest: drop}", "{}", r#"{"a":null}"#);
    check("{fields: {a: {topic_level: 9, default: none}}, rest: drop}", "{}", r#"{"a":"none"}"#);
}

#[test]
fn fields_are_made_inside_others() {
    check(
        "{fields: {state.reported.temp: t, state.reported.site: {value: a}}, rest: drop}",
        r#"{"t":21.5}"#,
        r#"{"state":{"reported":{"temp":21.5,"site":"a"}}}"#,
    );
    check("fields: {meter.kw: {from: meter.w, scale: 0.001}}", r#"{"meter":{"id":1,"w":500}}"#, {
        r#"{"meter":{"id":1,"kw":0.5}}"#
    });
    check("fields: {meter.kw: {value: 1}}", r#"{"meter":"none"}"#, r#"{"meter":{"kw":1}}"#);
    check("{fields: {a.b: x}, rest: drop}", "{}", "{}");
}

#[test]
fn the_whole_payload_can_be_taken() {
    let settings = "fields: {temp: {from: ., round: 1}, site: {value: a}}";
    check(settings, "21.46", r#"{"temp":21.5,"site":"a"}"#);
    check("fields: {reading: .}", r#"{"a":1}"#, r#"{"reading":{"a":1}}"#);
}

#[test]
fn the_example_of_the_readme_does_what_it_says() {
    let readme = include_str!("../README.md");
    let mut blocks = readme.split("```");
    let mut block = |kind: &str| blocks.find_map(|block| block.strip_prefix(kind)).unwrap();
    let settings = block("yaml\n").split_once("type: map\n").unwrap().1;
    let (came, expected) = block("text\n").trim().split_once('\n').unwrap();
    let made = apply(settings, message(came)).unwrap();
    assert_eq!((text(&made).as_str(), &*made.topic), (expected, "site/a/power"));
}

fn message(text: &str) -> Message {
    Message::new("t", Payload::encoded(text.to_owned(), Format::Json))
}

#[test]
fn time_and_topic_become_fields() {
    let settings = "{fields: {at: {time: iso}, ms: {time: unix_ms}, s: {time: unix_s}, \
                    from: {topic_level: 2}}, rest: drop}";
    let mut message = Message::new("meters/hall-3/raw", Payload::encoded("{}", Format::Json));
    message.time = Timestamp::from_unix_nanos(1_790_000_000_123_456_789);
    let expected =
        r#"{"at":"2026-09-21T14:13:20.123Z","ms":1790000000123,"s":1790000000,"from":"hall-3"}"#;
    assert_eq!(text(&apply(settings, message).unwrap()), expected);
}

#[test]
fn a_time_that_was_written_before_the_clock_was_set_is_put_right_with_its_message() {
    const WEEKS: i64 = 14 * 86_400_000_000_000;
    let first = "{fields: {at: {time: iso}, m.s: {time: unix_s}}, topic: plant}";
    let second = "{fields: {when: at}, remove: [m], topic: 'plant/{m.s}'}";
    let mut message = message(r#"{"x":1.50}"#);
    message.time = Timestamp::before_clock_was_set(1_794_042_000_123_456_789);
    let mut made = apply(second, apply(first, message).unwrap()).unwrap();
    assert_eq!(text(&made), r#"{"x":1.50,"when":"2026-11-07T09:00:00.123Z"}"#);
    made.restamp_by(|time| Timestamp::from_unix_nanos(time.unix_nanos() + WEEKS));
    assert_eq!(text(&made), r#"{"x":1.50,"when":"2026-11-21T09:00:00.123Z"}"#);
    assert_eq!(&*made.topic, "plant/1795251600");
}

#[test]
fn the_topic_is_filled_in() {
    check_topic("site/a/power", "no JSON", Ok("site/a/power"));
    check_topic("{topic_level: 2}/{topic_level:1}", "no JSON", Ok("hall-3/meters"));
    check_topic("site/{id}/{m.n}", r#"{"id":"gr\u00fcn","m":{"n":7}}"#, Ok("site/grün/7"));
    check_topic("{id}", "{}", Err("`topic` needs `id`, which is not there"));
    check_topic("{id}", r#"{"id":[1]}"#, {
        Err("`topic` needs `id` as a text or number, and it is a list")
    });
    check_topic("{payload.n}/{{{topic_level: 2..}", r#"{"n":1.50}"#, Ok("1.50/{hall-3/raw"));
    check_topic("{payload}", "21.50", Ok("21.50"));
    check_topic("{meta.device}", "{}", Err("`topic` needs `meta.device`, which is not there"));
    check_topic("{topic_level:9}", "{}", {
        Err("`topic` needs level 9 of the topic, and there are fewer: meters/hall-3/raw")
    });
}

#[test]
fn a_payload_cannot_choose_other_levels_of_the_topic() {
    for id in [r#"{"id":"a/b"}"#, r##"{"id":"#"}"##, r#"{"id":"+"}"#, r#"{"id":""}"#] {
        let message = Message::new("t", Payload::encoded(id, Format::Json));
        let error = apply("topic: 'site/{id}/x'", message).unwrap_err();
        assert!(error.starts_with("`id` cannot stand in a topic: "), "{error}");
    }
}

#[test]
fn what_is_no_map_is_an_error_that_says_what_it_is() {
    check_fails("fields: {a: b}", "21.5", "payload is a number; expected a map");
    check_fails("remove: [a]", r#""on""#, "payload is a text; expected a map");
    check_fails("fields: {a: b}", "{oops", {
        "payload is not JSON: key must be a string at line 1 column 2"
    });
    check_fails("fields: {a: .}", "1},{\"forged\":1", {
        "payload is not JSON: trailing characters at line 1 column 2"
    });
    check_fails("fields: {a: {from: b, scale: 2}}", r#"{"b":"5"}"#, {
        "`a` is a text; expected a number to compute with"
    });
    check_fails("fields: {a: {from: b, scale: 1e308}}", r#"{"b":1e308}"#, "`a` is too large");
    check_fails("fields: {a: {from: b, scale: 0.1}}", r#"{"b":1e999}"#, "`a` is too large");
}

#[test]
fn a_name_with_half_a_letter_takes_nothing_else_with_it() {
    let came = r#"{"a":{"\ud800":1,"b":2,"c":3}}"#;
    let half = "payload is not JSON: unexpected end of hex escape at line 1 column 9";
    check_fails("remove: [a.b]", came, half);
    check_fails("fields: {x: a.b}", came, half);
    check_fails("topic: '{a.b}'", came, half);
    check_fails("topic: '{a}'", r#"{"a":"\ud800"}"#, &half.replace('9', "8"));
}

#[test]
fn of_two_fields_of_the_same_name_the_last_one_counts() {
    let made = apply("fields: {b: a}", message(r#"{"a":1,"a":2}"#)).unwrap();
    assert_eq!(text(&made), r#"{"b":2}"#);
    let made = apply("fields: {a: a}", message(r#"{"a":1,"a":2}"#)).unwrap();
    assert_eq!(text(&made), r#"{"a":2}"#);
}

#[test]
fn deep_and_wide_payloads_are_no_trouble() {
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let payload = Payload::encoded(deep.clone(), Format::Json);
    let made = apply("fields: {b: {value: 1}}", Message::new("t", payload)).unwrap();
    assert_eq!(text(&made), deep.replace("]}", r#"],"b":1}"#));
}

/// `reads > sends`: each field that is read with the setting that says so.
#[track_caller]
fn check_fields(settings: &str, expected: &str) {
    let Fields { reads, sends } = testing::configure(&map(), settings).unwrap().fields();
    let reads: Vec<String> =
        reads.iter().map(|read| format!("{} by {}", read.field, read.setting)).collect();
    let sends = match sends {
        Sends::Unknown => "anything".to_owned(),
        Sends::Only(fields) => format!("only {}", Vec::from_iter(fields).join(" ")),
        Sends::Also(fields) => format!("also {}", Vec::from_iter(fields).join(" ")),
    };
    assert_eq!(format!("{} > {sends}", reads.join(", ")), expected, "{settings}");
}

#[test]
fn lint_hears_which_fields_a_map_reads_and_sends() {
    check_fields(
        "{fields: {power: meter.watts, site: {value: a}, m.n: 'l[0]'}, rest: drop}",
        "meter by fields.power.from, l by fields.m.n.from > only m power site",
    );
    check_fields("fields: {a: x, b: {from: x, default: 1}}", "x by fields.a.from > also a b");
    check_fields("{remove: [raw], topic: 'a/{id.x}/{topic_level:2}'}", "id by topic > also ");
    // What came in stands inside another field then.
    check_fields("fields: {reading: .}", " > only reading");
    check_fields("topic: a", " > also ");
}

#[test]
fn nothing_is_said_about_a_map_that_was_not_understood() {
    let (configured, problems) = testing::resolve(&map(), "fields: {a: b, c: d..e}");
    assert!(configured.is_none());
    assert_eq!(problems.len(), 1);
    let (configured, problems) =
        testing::resolve(&map(), "{fields: {a: b}, remove: [c], rest: drop}");
    assert!(configured.is_some(), "a warning does not keep it from running");
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_mistake_is_found_where_it_stands() {
    check_finding(
        "{}",
        "setting-value: a map without `fields`, `remove` and `topic` does nothing [expected one of them]",
    );
    check_finding(
        "rest: drop",
        "setting-value: `rest: drop` without `fields` leaves nothing of a message [name the fields that stay in `fields`]",
    );
    check_finding(
        "fields: {a: 5}",
        "setting-type: `fields.a` has the wrong type [expected text or a map, found 5]",
    );
    check_finding("fields: {a: {form: b}}", "unknown-setting: `fields.a` has no setting `form` []");
    check_finding(
        "fields: {a: {}}",
        "setting-value: `fields.a` needs one thing that it is made of [expected `from`, `value`, `compute`, `time` or `topic_level`, found none]",
    );
    check_finding(
        "fields: {a: {from: b, value: 1}}",
        "setting-value: `fields.a` needs one thing that it is made of [expected `from`, `value`, `compute`, `time` or `topic_level`, found `from`, `value`]",
    );
    check_finding(
        "fields: {a: b..c}",
        "setting-value: `fields.a` takes a field that cannot be [expected a path such as `power` or `phases[0].volts`, found `b..c`]",
    );
    check_finding(
        "fields: {a: 'b[x]'}",
        "setting-value: `fields.a` takes a field that cannot be [expected a path such as `power` or `phases[0].volts`, found `b[x]`]",
    );
    check_finding(
        "fields: {a: {value: 1, scale: 2}}",
        "setting-value: `fields.a.scale` does nothing beside `value` [goes with `from`]",
    );
    check_finding(
        "fields: {a: {from: b, scale: .nan}}",
        "setting-type: `fields.a.scale` is out of range [expected a finite number, found .nan]",
    );
    check_finding(
        "fields: {a: {from: b, round: 20}}",
        "setting-type: `fields.a.round` is out of range [expected 0 to 15, found 20]",
    );
    check_finding(
        "fields: {a: x, a.b: y}",
        "setting-value: `a.b` lies inside `a`, and `fields` makes both [`a` is made above]",
    );
    check_finding(
        "fields: {'a[0]': x}",
        "setting-value: `fields` has a name that cannot be made: \"a[0]\" [expected a name such as `power` or `meter.power`, found `a[0]`]",
    );
    check_finding(
        "remove: ['a.']",
        "setting-value: `remove` has an entry that is no field: \"a.\" [expected a path such as `power` or `phases[0].volts`, found `a.`]",
    );
    check_finding(
        "topic: 'a/{b'",
        "bad-topic: `topic` cannot be published to [expected `{field}`, found `{b`, or `{{` for a brace]",
    );
    check_finding(
        "topic: 'a/+'",
        "bad-topic: `topic` cannot be published to [expected a topic without `+` and `#`]",
    );
    check_finding(
        "topic: '{topic_level: 0}'",
        "bad-topic: `topic` cannot be published to [expected `topic_level: 1` or more, or `topic_level: 2..`, found `topic_level: 0`]",
    );
}
