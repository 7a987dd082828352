use std::any::Any;

use forebay_sdk::{
    Busy, Level, Problem, Sends,
    testing::{configure, resolve},
};

use super::*;
use crate::{
    connection,
    rules::{ONE_BASED_ADDRESS, REGISTER_OVERLAP},
    sink, source,
};

const NO_ADDRESS: &str =
    "expected exactly one of `holding`, `input`, `coil`, `discrete` or `register`";

fn problems(text: &str) -> Vec<Problem> {
    resolve(&source(), text).1
}

/// What is wrong with one register, as `setting: label`. `fields` are those of a flow map.
#[track_caller]
fn check(fields: &str, expected: &[&str]) {
    let problems = problems(&format!("every: 1s\nregisters:\n  - {{ name: a, {fields} }}"));
    let said: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.setting, problem.label)).collect();
    assert_eq!(said, expected, "{fields}");
}

#[test]
fn every_kind_of_register_is_accepted() {
    for fields in [
        "holding: 0",
        "input: 0x34, kind: f32, order: CDAB, scale: 0.001, offset: -40, unit: kW",
        "coil: 65535",
        "discrete: 0, kind: bool",
        "holding: 65532, kind: f64",
        "holding: 0, bit: 15",
        "holding: 0, bit: 0, kind: bool, order: BADC",
        "holding: 0, bit: 7, kind: u16",
        "holding: 0, kind: string, length: 125, order: BADC",
        "input: 0, kind: i64, scale: -1",
    ] {
        check(fields, &[]);
    }
}

#[test]
fn a_register_stands_in_exactly_one_table() {
    check("kind: u16", &[&format!("registers[0]: {NO_ADDRESS}")]);
    check("holding: 1, input: 1", &[&format!("registers[0].input: {NO_ADDRESS}")]);
    check("input: 1, coil: 1, discrete: 1", &[&format!("registers[0].coil: {NO_ADDRESS}")]);
}

#[test]
fn a_value_ends_before_the_last_register() {
    const TABLE: &str = "holding";
    check(
        "holding: 65535, kind: u32",
        &[&format!("registers[0].{TABLE}: expected at most 65534 for 2 registers, found 65535")],
    );
    check(
        "input: 65533, kind: f64",
        &["registers[0].input: expected at most 65532 for 4 registers, found 65533"],
    );
}

#[test]
fn settings_that_clash_are_refused() {
    const LENGTH: &str = "only `string` and `bytes` have a length; other kinds know theirs";
    const SCALE: &str = "registers[0].scale: only numbers are scaled";
    for (fields, expected) in [
        ("coil: 0, kind: u16", "registers[0].kind: expected `bool`"),
        ("coil: 0, bit: 1", "registers[0].bit: a coil is one bit"),
        ("discrete: 0, scale: 2", SCALE),
        ("holding: 0, bit: 1, scale: 2", SCALE),
        ("holding: 0, kind: string, length: 2, scale: 2", SCALE),
        ("holding: 0, bit: 1, offset: 2", "registers[0].offset: only numbers have an offset"),
        ("holding: 0, length: 2", &format!("registers[0].length: {LENGTH}")),
        ("coil: 0, length: 2", &format!("registers[0].length: {LENGTH}")),
        ("holding: 0, bit: 2, length: 2", &format!("registers[0].length: {LENGTH}")),
        (
            "holding: 0, kind: bool",
            "registers[0].kind: expected `bit` beside it, or a coil: a holding register has 16 bits",
        ),
        (
            "holding: 0, kind: u32, bit: 3",
            "registers[0].kind: expected `bool`: `bit` counts the 16 bits of one register",
        ),
        ("holding: 0, kind: string", "registers[0]: `length` is missing: the number of registers"),
        ("holding: 0, kind: string, length: 1, bit: 1", "registers[0].bit: a `string` has no bits"),
        (
            "holding: 0, kind: string, length: 1, order: DCBA",
            "registers[0].order: expected `ABCD` or `BADC`",
        ),
        ("holding: 0, scale: 0", "registers[0].scale: expected a finite number other than 0"),
        ("holding: 0, scale: .nan", "registers[0].scale: expected a finite number other than 0"),
        ("holding: 0, offset: .inf", "registers[0].offset: expected a finite number"),
    ] {
        check(fields, &[expected]);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    check(
        "coil: 0, kind: f32, bit: 1, length: 1, scale: 1, offset: 1",
        &[
            "registers[0].kind: expected `bool`",
            "registers[0].bit: a coil is one bit",
            "registers[0].length: only `string` and `bytes` have a length; other kinds know theirs",
            "registers[0].scale: only numbers are scaled",
            "registers[0].offset: only numbers have an offset",
        ],
    );
}

/// A source of registers, each of them the fields of a flow map with a name of its own.
fn of_registers(registers: &[&str]) -> Vec<Problem> {
    let mut text = "every: 1s\nregisters:\n".to_owned();
    for (name, fields) in ('a'..).zip(registers) {
        text += &format!("  - {{ name: {name}, {fields} }}\n");
    }
    problems(&text)
}

/// Said nothing, and read a register far from the one that was meant.
#[test]
fn a_number_of_another_table_gets_a_hint() {
    for (fields, label) in [
        ("input: 40001", "registers[0].input: should it be one, write `register: 40001`"),
        ("holding: 30053", "registers[0].holding: should it be one, write `register: 30053`"),
        ("discrete: 40003", "registers[0].discrete: should it be one, write `register: 40003`"),
        ("coil: 10001", "registers[0].coil: should it be one, write `register: 10001`"),
    ] {
        check(fields, &[label]);
    }
    // A device that has others, too, really counts this far.
    assert!(of_registers(&["input: 40001", "input: 7"]).is_empty());
}

/// `register: 40083` of such a device would be another register.
#[test]
fn bits_beyond_a_request_from_zero_are_out_of_reach() {
    let of = |coil: u16| {
        format!("every: 1s\nbits_from_zero: true\nregisters: [{{ name: a, coil: {coil} }}]")
    };
    assert!(problems(&of(1999)).is_empty());
    let found = problems(&of(2000));
    assert_eq!(found[0].label, "expected 0 to 1999, with `bits_from_zero`");
}

#[test]
fn maps_that_mean_addresses_from_30001_and_40001_on_got_a_hint() {
    for registers in [
        // SolarEdge and Fronius, on the wire: power and its factor, energy, state.
        &["holding: 40083, kind: i16", "holding: 40084, kind: i16", "holding: 40093, kind: u32"][..],
        &["holding: 40071, kind: f32", "holding: 40091, kind: f32"],
        // With the texts in front.
        &["holding: 40004, kind: string, length: 16", "holding: 40037", "holding: 40069"],
        &["holding: 40002", "holding: 40083, kind: i16, scale_by: c", "holding: 40084, kind: i16"],
        // E3/DC: photovoltaics, battery, house, grid; charge.
        &["holding: 40067, kind: i32, order: CDAB", "holding: 40069, kind: i32, order: CDAB"],
        &["holding: 40082"],
        // SMA.
        &["holding: 30775, kind: i32", "holding: 30529, kind: u32"],
        &["input: 30053, kind: u32", "input: 30775, kind: i32"],
        &["holding: 40149, kind: i32", "holding: 40151, kind: u32"],
        // Huawei, GoodWe, Growatt and Sungrow.
        &["holding: 32080, kind: i32", "holding: 37113, kind: i32"],
        &["holding: 35105, kind: i32", "holding: 36025, kind: i32"],
        &["input: 13007, kind: i32, order: CDAB", "input: 5016, kind: u32, order: CDAB"],
    ] {
        let found = of_registers(registers);
        assert!(found.is_empty(), "{registers:?}: {found:?}");
    }
}

#[test]
fn numbers_of_a_manual_get_a_hint_and_no_refusal() {
    for (fields, label) in [
        ("holding: 40001", "registers[0].holding: should it be one, write `register: 40001`"),
        (
            "input: 30053, kind: f32",
            "registers[0].input: should it be one, write `register: 30053`",
        ),
        ("discrete: 10001", "registers[0].discrete: should it be one, write `register: 10001`"),
    ] {
        check(fields, &[label]);
    }
    for fields in ["holding: 40000", "holding: 50000", "holding: 10001", "coil: 1001"] {
        check(fields, &[]);
    }
    let two = of_registers(&["holding: 40011", "holding: 40013", "coil: 3"]);
    assert_eq!(two.len(), 1, "one hint is enough: {two:?}");
    assert_eq!((two[0].rule, two[0].level), (&ONE_BASED_ADDRESS, Level::Warning));
    assert!(two[0].message.starts_with("`holding: 40011` and 1 more look like numbers"));
    let both = of_registers(&["holding: 40011", "input: 30001"]);
    assert_eq!(both.len(), 2, "one for each table: {both:?}");
}

#[test]
fn the_number_of_a_manual_is_read_as_it_stands_there() {
    for (fields, block) in [
        ("register: 40108, kind: f32", "holding registers 107 to 108"),
        ("register: 30053", "input register 52"),
        ("register: 10001", "discrete input 0"),
        ("register: 17", "coil 16"),
        ("register: 400108", "holding register 107"),
    ] {
        let text = format!("every: 1s\nregisters: [{{ name: a, {fields} }}]");
        let configured = configure(&source(), &text).unwrap();
        let source = (&*configured as &dyn Any).downcast_ref::<ModbusSource>().unwrap();
        assert_eq!(source.reading.fields[0].block.to_string(), block, "{fields}");
    }
    check(
        "register: 25000",
        &["registers[0].register: expected such as 40001, 30001, 10001 or 1, found 25000"],
    );
    check("register: 40001, holding: 0", &[&format!("registers[0].register: {NO_ADDRESS}")]);
}

#[test]
fn what_is_made_of_numbers_fits_to_what_they_are() {
    for fields in [
        "holding: 0, kind: u8, byte: high",
        "holding: 0, bits: [4, 7], labels: { 0: stopped, 0x3: running }",
        "holding: 0, kind: u32, flags: { fault: 31, running: 0 }",
        "holding: 0, kind: i16, absent: [0x8000, -1], scale: 0.1, valid: [-40, 85], round: 1",
        "holding: 0, kind: string, length: 8, encoding: latin1",
        "holding: 0, kind: bytes, length: 8",
        "holding: 0, kind: packed_time, order: CDAB",
        "holding: 0, deadband: { abs: 0.5, percent: 1, max_interval: 5m }",
        "coil: 0, deadband: { max_interval: 5m }",
    ] {
        check(fields, &[]);
    }
    for (fields, expected) in [
        ("holding: 0, byte: high", "byte: only a `u8` or an `i8` is half a register"),
        ("holding: 0, kind: f32, bits: [0, 3]", "bits: only whole numbers have bits to take"),
        ("holding: 0, bits: [4, 16]", "bits: expected two bits from 0 to 15, the smaller first"),
        ("holding: 0, bits: [4, 3]", "bits: expected two bits from 0 to 15, the smaller first"),
        ("holding: 0, flags: { a: 16 }", "flags: expected at most 15, found 16"),
        ("holding: 0, kind: f32, labels: { 0: a }", "labels: only whole numbers have labels"),
        ("holding: 0, labels: { 0: a }, scale: 2", "scale: `labels` make a text of the number"),
        (
            "holding: 0, labels: { on: a }",
            "labels: expected a whole number in front of it, found `on`",
        ),
        ("coil: 0, labels: { 0: a }", "labels: only whole numbers have labels"),
        ("holding: 0, valid: [5, 1]", "valid: expected the least and the most, such as `[0, 500]`"),
        ("holding: 0, kind: unix_time, scale: 2", "scale: only numbers are scaled"),
        ("holding: 0, encoding: latin1", "encoding: only a `string` is written in one"),
        ("holding: 0, deadband: { abs: -1 }", "deadband.abs: expected 0 or more"),
        (
            "holding: 0, scale_by: b",
            "scale_by: expected the `name` of another register of this list",
        ),
    ] {
        check(fields, &[&format!("registers[0].{expected}")]);
    }
}

#[test]
fn a_device_that_really_counts_this_far_gets_no_hint() {
    // SunSpec begins at 40000, and others have registers all over.
    assert_eq!(of_registers(&["holding: 40000, kind: u32", "holding: 40071"]), []);
    assert_eq!(of_registers(&["holding: 32080, kind: i32", "holding: 40125"]), []);
    // Inverters of Huawei, GoodWe and Solis.
    assert_eq!(of_registers(&["holding: 32064, kind: i32", "holding: 32080, kind: i32"]), []);
    assert_eq!(of_registers(&["holding: 35105", "holding: 37007"]), []);
    assert_eq!(of_registers(&["input: 33079, kind: i32", "holding: 43135"]), []);
}

#[test]
fn registers_that_overlap_by_mistake_are_shown_together() {
    #[track_caller]
    fn check(registers: &[&str], expected: &[&str]) {
        let said = of_registers(registers).into_iter().map(|problem| {
            assert_eq!((problem.rule, problem.level), (&REGISTER_OVERLAP, Level::Warning));
            let also: Vec<_> =
                problem.also.iter().map(|(s, label)| format!("{s} {label}")).collect();
            let (setting, message, label) = (problem.setting, problem.message, problem.label);
            format!("{setting}: {message} [{label}] {}", also.join(", "))
        });
        assert_eq!(said.collect::<Vec<_>>(), expected, "{registers:?}");
    }
    check(
        &["input: 0, kind: f32", "input: 1, kind: f32"],
        &["registers[1].input: `a` and `b` share registers [expected 2 or more] \
           registers[0].input fills input registers 0 to 1"],
    );
    // Copied and not changed.
    check(
        &["input: 6, kind: f32", "input: 6, kind: f32, unit: A"],
        &["registers[1].input: `a` and `b` are the same input registers 6 to 7 \
           [another address, or one of the two is too many] \
           registers[0].input fills input registers 6 to 7"],
    );
    check(
        &["coil: 3", "coil: 3"],
        &["registers[1].coil: `a` and `b` are the same coil 3 \
           [another address, or one of the two is too many] registers[0].coil fills coil 3"],
    );
    // The order of the file does not matter, and a wide one overlaps all that are inside.
    check(
        &["holding: 12", "holding: 10, kind: string, length: 4", "holding: 13", "holding: 14"],
        &[
            "registers[1].holding: `a` and `b` share registers [fills holding registers 10 to 13] \
             registers[0].holding fills holding register 12",
            "registers[2].holding: `b` and `c` share registers [expected 14 or more] \
             registers[1].holding fills holding registers 10 to 13",
        ],
    );
    for fine in [
        &["input: 0, kind: f32", "input: 2, kind: f32"],
        &["input: 0, kind: f32", "holding: 1, kind: f32"],
        // Flags, as a word and bit by bit.
        &["holding: 5", "holding: 5, bit: 3"],
        &["holding: 5, bit: 2", "holding: 5, bit: 3"],
        &["holding: 4, kind: u32", "holding: 5, bit: 3"],
        // The same number in two units.
        &["holding: 5", "holding: 5, scale: 0.1"],
    ] {
        check(fine, &[]);
    }
}

#[test]
fn two_registers_cannot_have_one_name() {
    let text = "every: 1s\nregisters:\n  - {name: a, coil: 0}\n  - {name: a, coil: 1}";
    let problems = problems(text);
    assert_eq!(problems[0].setting, "registers[1].name");
    assert_eq!(problems[0].message, "two registers are named `a`");
    assert_eq!(problems[0].also, [("registers[0].name".to_owned(), "has this one".to_owned())]);
}

/// What is wrong with a source on a connection.
fn wrong_on(text: &str, bus: &str) -> Vec<Problem> {
    let (source, bus) =
        (configure(&source(), text).unwrap(), configure(&connection(), bus).unwrap());
    source.check_on(&*bus)
}

/// How busy sources keep a connection.
fn load(texts: &[&str], bus: &str) -> Vec<Busy> {
    let sources: Vec<_> = texts.iter().map(|text| configure(&source(), text).unwrap()).collect();
    let users: Vec<&dyn Any> = sources.iter().map(|source| &**source as &dyn Any).collect();
    configure(&connection(), bus).unwrap().load(&users)
}

#[test]
fn the_time_of_a_poll_is_that_of_its_requests() {
    #[track_caller]
    fn check(registers: &[&str], more: &str, bus: &str, expected: &str) {
        let mut text = format!("every: 250ms\n{more}\nregisters:\n");
        for (name, fields) in ('a'..).zip(registers) {
            text += &format!("  - {{ name: {name}, {fields} }}\n");
        }
        let said = load(&[&text], bus).pop().map_or("unknown".to_owned(), |busy| {
            assert_eq!((busy.user, &*busy.setting, busy.every.as_millis()), (0, "every", 250));
            let less = busy.less.map(|(change, time)| format!("; {change}: {}", time.as_millis()));
            format!("{} = {}{}", busy.takes.as_millis(), busy.why, less.unwrap_or_default())
        });
        assert_eq!(said, expected);
    }
    const LINE: &str = "url: tcp://gateway?baud=9600";
    let two = ["input: 0, kind: f32", "input: 6, kind: f32"];
    check(&two, "", "url: tcp://plc", "unknown");
    // Twice 25 ms on the wire, and 5 ms until the device answers.
    check(
        &two,
        "max_gap: 0",
        LINE,
        "60 = 2 requests at 9600 baud 8N1, each answered after 5ms; no `max_gap` (1 request): 42",
    );
    check(&two, "", LINE, "42 = 1 request at 9600 baud 8N1, each answered after 5ms");
    check(
        &two,
        "max_gap: 4",
        "{ url: tcp://plc, pause: 300ms }",
        "300 = 1 request, and `pause: 300ms` after each",
    );
    // Far apart: reading over the hole would take longer.
    check(
        &["input: 0", "input: 90"],
        "",
        LINE,
        "55 = 2 requests at 9600 baud 8N1, each answered after 5ms",
    );
}

#[test]
fn the_sources_on_a_bus_are_added_up_each_with_its_own_beat() {
    let text = |every: &str, registers: &str| format!("every: {every}\nregisters: [{registers}]");
    let quick = text("250ms", "{ name: a, input: 0 }");
    let slow = text("1h", "{ name: a, input: 0 }, { name: b, coil: 90 }");
    let busy = load(&[&slow, &quick], "{ url: tcp://plc, pause: 20ms }");
    let said: Vec<_> = busy.iter().map(|busy| (busy.user, busy.every, busy.takes)).collect();
    let millis = Duration::from_millis;
    assert_eq!(said, [(0, millis(3_600_000), millis(40)), (1, millis(250), millis(20))]);
    assert_eq!(busy[0].why, "2 requests, and `pause: 20ms` after each");

    // What is no Modbus source has its place in the list all the same.
    let (bus, source) = (
        configure(&connection(), "{ url: tcp://plc, pause: 20ms }").unwrap(),
        configure(&source(), &quick).unwrap(),
    );
    let busy = bus.load(&[&"something else", &*source]);
    assert_eq!(busy.iter().map(|busy| busy.user).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_device_on_a_serial_line_has_an_address_of_its_own() {
    let labels = |unit: u8, bus: &str| {
        let source = format!("every: 1s\nunit: {unit}\nregisters:\n  - {{name: a, coil: 0}}");
        wrong_on(&source, bus).into_iter().map(|problem| problem.label).collect::<Vec<_>>()
    };
    assert_eq!(labels(0, "url: tcp://gateway?baud=9600"), ["expected 1 to 247, found 0"]);
    assert_eq!(labels(255, "url: tcp://gateway?baud=9600"), ["expected 1 to 247, found 255"]);
    assert_eq!(labels(247, "url: tcp://gateway?baud=9600"), <[&str; 0]>::default());
    assert_eq!(labels(255, "url: tcp://plc"), <[&str; 0]>::default());
}

#[test]
fn what_a_source_sends_is_known() {
    let source = configure(&source(), "every: 1s\nregisters:\n  - {name: a b, coil: 0}").unwrap();
    assert_eq!(source.fields().sends, Sends::Only(["a b".to_owned()].into()));
    // A mistake in one register does not make all that reads it wrong too.
    let text = "every: 1s\nregisters:\n  - {name: a, coil: 0}\n  - {name: b}";
    let wrong = resolve(&self::source(), text).0.unwrap();
    assert_eq!(wrong.fields().sends, Sends::Only(["a".to_owned(), "b".to_owned()].into()));
}

#[test]
fn a_value_must_fit_in_one_request() {
    let text = "every: 1s\nmax_registers: 2\nregisters:\n  - {name: a, holding: 0, kind: f64}";
    let problems = problems(text);
    assert_eq!(problems[0].setting, "registers[0]");
    assert_eq!(problems[0].label, "fills 4 registers, and `max_registers` is 2");
}

#[test]
fn the_beat_has_bounds() {
    for (every, fine) in
        [("10ms", true), ("31d", true), ("9ms", false), ("0s", false), ("32d", false)]
    {
        let problems = problems(&format!("every: {every}\nregisters:\n  - {{name: a, coil: 0}}"));
        assert_eq!(problems.is_empty(), fine, "{every}: {problems:?}");
    }
}

#[test]
fn the_schema_refuses_what_is_out_of_range() {
    let label = |text: &str| configure(&source(), text).err().unwrap().join("\n");
    let register = |fields: &str| {
        label(&format!("every: 1s\nregisters:\n  - {{ name: a, holding: 0, {fields} }}"))
    };
    assert!(register("bit: 16").contains("expected 0 to 15, found 16"));
    assert!(register("kind: string, length: 126").contains("expected 1 to 125, found 126"));
    assert!(register("kind: f8").contains("expected `u8`, `i8`, `u16`"));
    assert!(register("order: abcd").contains("expected `ABCD`, `CDAB`, `BADC` or `DCBA`"));
    assert!(register("dead: 1").contains("has no setting `dead`"));
    assert!(label("every: 1s\nregisters: []").contains("expected at least 1, found 0"));
    assert!(label("registers:\n  - {name: a, coil: 70000}").contains("expected 0 to 65535"));
    assert!(label("registers:\n  - {name: '', coil: 0}").contains("modbus source needs `every`"));
    let source = |setting: &str| {
        label(&format!("every: 1s\n{setting}\nregisters:\n  - {{ name: a, coil: 0 }}"))
    };
    assert!(source("unit: 256").contains("expected 0 to 255, found 256"));
    assert!(source("max_registers: 0").contains("expected 1 to 125, found 0"));
    assert!(source("max_gap: 125").contains("expected 0 to 124, found 125"));
}

#[track_caller]
fn check_connection(text: &str, expected: &[&str]) {
    assert_eq!(configure(&connection(), text).err().unwrap_or_default(), expected);
}

#[test]
fn a_gateway_may_say_what_line_is_behind_it() {
    check_connection("url: tcp://gateway:502/?baud=9600&parity=even&stop=1", &[]);
    let (to, line) = place::parse("tcp://gateway?baud=9600").unwrap();
    assert_eq!(to.to_string(), "gateway:502");
    assert_eq!(line.unwrap().words(), "9600 baud 8N1");
    check_connection(
        "url: tcp://gateway?baud=fast",
        &["setting-value: `url` does not lead to a bus [expected `baud` from 300 to 921600]"],
    );
}

#[test]
fn a_url_without_its_scheme_is_completed() {
    let instead = |url: &str| {
        let (bus, problems) = resolve(&connection(), &format!("url: '{url}'"));
        assert!(bus.is_none());
        problems[0].instead.clone()
    };
    assert_eq!(instead("gateway:1502").as_deref(), Some("tcp://gateway:1502"));
    assert_eq!(instead("gateway?baud=9600").as_deref(), Some("tcp://gateway?baud=9600"));
    assert_eq!(instead("rtu:///dev/rs485"), None);
    assert_eq!(instead("tcp://user@host"), None);
}

#[test]
fn a_serial_line_needs_its_speed() {
    check_connection("url: rtu:///dev/rs485?baud=9600", &[]);
    let ignores = |url: &str| format!("url: {url}\nignore_transaction: true");
    check_connection(&ignores("tcp://plc"), &[]);
    for url in ["rtu:///dev/rs485?baud=9600", "rtu+tcp://gateway"] {
        let expected = "setting-value: there is no transaction id to ignore [only answers of `tcp://` have one]";
        check_connection(&ignores(url), &[expected]);
    }
    check_connection("url: rtu+tcp://gateway:4196", &[]);
    check_connection(
        "url: rtu:///dev/rs485",
        &["setting-value: `url` does not lead to a bus \
           [expected its speed behind it, such as `rtu:///dev/rs485?baud=9600`]"],
    );
}

#[test]
fn two_connections_on_one_serial_line_are_found() {
    let claims = |url: &str| configure(&connection(), &format!("url: '{url}'")).unwrap().claims();
    let [one] = &claims("rtu:///dev/ttyUSB0?baud=9600")[..] else { panic!() };
    let [other] = &claims("rtu:///dev/../dev/ttyUSB0?baud=19200")[..] else { panic!() };
    assert!(one.clashes(other));
    let [meter] = &claims("tcp://meter")[..] else { panic!() };
    let [again] = &claims("tcp://METER.:502?baud=9600")[..] else { panic!() };
    assert!(meter.clashes(again) && !meter.clashes(one));
}

#[test]
fn patience_has_bounds() {
    check_connection("url: tcp://plc\ntimeout: 10ms\nconnect_timeout: 1m\npause: 0s", &[]);
    check_connection(
        "url: tcp://plc\ntimeout: 9ms\nconnect_timeout: 61s\npause: 99999999999d",
        &[
            "setting-value: `timeout` is out of range [expected 10ms to 1m, found 9ms]",
            "setting-value: `connect_timeout` is out of range [expected 10ms to 1m, found 61s]",
            "setting-value: `pause` is out of range [expected 0s to 1m, found 99999999999d]",
        ],
    );
    check_connection(
        "timeout: 1s",
        &["missing-setting: modbus connection needs `url` [`url` is missing]"],
    );
}

/// What is wrong with one register of a sink, as `setting: label`.
#[track_caller]
fn check_point(fields: &str, expected: &[&str]) {
    let text = format!("registers:\n  - {{ name: a, {fields} }}");
    let problems = resolve(&sink(), &text).1;
    let said: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.setting, problem.label)).collect();
    assert_eq!(said, expected, "{fields}");
}

#[test]
fn limits_that_no_value_meets_are_refused() {
    const NO_NUMBER: &str = "only numbers have one";
    const READ_ONLY: &str = "only a `holding` register or a `coil` is written";
    check_point("holding: 9, min: 0, max: 10, allow: [1, 2.5]", &[]);
    check_point("coil: 9, allow: [true]", &[]);
    check_point("input: 9", &[]);
    check_point("kind: f32", &[&format!("registers[0]: {NO_ADDRESS}")]);
    check_point(
        "holding: 9, min: 5, max: 4",
        &["registers[0].max: expected at least 5, which is `min`, found 4"],
    );
    check_point("coil: 9, min: 0", &[&format!("registers[0].min: {NO_NUMBER}")]);
    check_point("holding: 9, bit: 1, max: 1", &[&format!("registers[0].max: {NO_NUMBER}")]);
    check_point(
        "holding: 9, kind: string, length: 2, max: 1",
        &[&format!("registers[0].max: {NO_NUMBER}")],
    );
    check_point("input: 9, allow: [1]", &[&format!("registers[0].allow: {READ_ONLY}")]);
}

#[test]
fn a_sink_says_what_the_engine_must_know() {
    let resolve =
        |more: &str| resolve(&sink(), &format!("registers: [{{ name: a, holding: 9 }}]\n{more}"));
    let (once, _) = resolve("");
    assert!(!once.unwrap().capabilities().repeats);
    let (often, _) = resolve("repeat: true");
    let often = often.unwrap();
    assert!(often.capabilities().repeats);
    assert_eq!((often.capabilities().batch_messages, often.outputs()), (1, vec!["answers".into()]));
    let (_, problems) = resolve("expires_after: 10ms");
    assert_eq!(problems[0].label, "expected 1s to 31d, found 10ms");
    let twice = "registers: [{ name: a, coil: 1 }, { name: a, coil: 2 }]";
    let problems = forebay_sdk::testing::resolve(&sink(), twice).1;
    assert_eq!(problems[0].setting, "registers[1].name");
}

#[test]
fn a_name_with_the_unit_in_it_was_that_of_another_register() {
    let text =
        "every: 1s\nunits: 1-3\nregisters: [{ name: 'a_{unit}', coil: 1 }, { name: a_2, coil: 2 }]";
    let problems = resolve(&source(), text).1;
    assert_eq!(problems[0].setting, "registers[1].name");
    assert_eq!(problems[0].message, "two registers are named `a_2`");
    let text = text.replace("1-3", "4-5");
    assert_eq!(resolve(&source(), &text).1, []);
}

#[test]
fn registers_of_models_have_one_name_where_a_device_has_one_of_the_models() {
    let problems = |models: &str| {
        let text = "{ name: a, holding: 2, sunspec: [101, 103] }";
        let text = format!("every: 1s\nregisters: [{text}, {{ name: a, holding: 2{models} }}]");
        resolve(&source(), &text).1.into_iter().map(|problem| problem.message).collect::<Vec<_>>()
    };
    assert_eq!(problems(", sunspec: [111, 113]"), <[&str; 0]>::default());
    assert_eq!(problems(", sunspec: [103, 113]")[0], "two registers are named `a`");
    assert_eq!(problems("")[0], "two registers are named `a`");
    let text = "every: 1s\nregisters: [{ name: a, input: 2, sunspec: [101] }]";
    assert_eq!(resolve(&source(), text).1[0].message, "register `a` is in no SunSpec model");
}
