//! Scripts with what they import.

use std::sync::Arc;

use forebay_sdk::{
    Emitter, Fault, Format, Import, Input, Message, ModuleSource, Payload, Transform, testing,
};

use super::imports;
use crate::{
    lint::{self, Around},
    own_settings::OwnSettings,
    settings::{default_max_operations, default_timeout},
    transform::{Program, ScriptNode},
};

const UNITS: &str = "\
export const ZERO = 273.15;
fn kelvin(celsius) { celsius + global::ZERO }
fn twice(x) { half(x) * 4 }
private fn half(x) { x / 2 }
";

fn source(name: &str, text: &str) -> ModuleSource {
    ModuleSource { name: name.into(), path: format!("lib/{name}.rhai").into(), text: text.into() }
}

/// What a script makes of `{"a":1}`, as JSON, or its error with the file that it is in.
fn made(script: &str, modules: &[ModuleSource]) -> String {
    let (code, problems) = lint::script(script, modules, &Around::script(&[]));
    assert_eq!(problems, [], "{script}");
    let limits = crate::host::Limits {
        max_operations: default_max_operations(),
        timeout: default_timeout().0,
    };
    let program = Program::new(code.unwrap(), &OwnSettings::new(), [].into(), limits);
    let mut node = ScriptNode::new(Arc::new(program), &testing::site(None));
    let mut out = Emitter::default();
    let payload = Payload::encoded(r#"{"a":1}"#.to_owned(), Format::Json);
    let input = Input { message: Message::new("t", payload), from: "meter".into() };
    match node.apply(input, &mut out) {
        Ok(()) => {
            let bytes = |message: Message| message.payload.to_bytes(Format::Json);
            let made = out.drain().map(|(_, envelope)| bytes(envelope.message)).next().unwrap();
            String::from_utf8(made.to_vec()).unwrap()
        }
        Err(error) => {
            let fault = error.downcast_ref::<Fault>().unwrap();
            format!("{fault} ({})", fault.used)
        }
    }
}

/// What is wrong with a script and its modules: the module, line and column, rule, words and label.
#[track_caller]
fn check_problems(script: &str, modules: &[ModuleSource], expected: &[&str]) {
    let (_, problems) = lint::script(script, modules, &Around::script(&[]));
    let shown = problems.iter().map(|problem| {
        let (line, column) = problem.inside.unwrap_or_default();
        let module = problem.module.as_deref().unwrap_or("script");
        let (rule, message, label) = (problem.rule, &problem.message, &problem.label);
        format!("{module}:{line}:{column} {rule}: {message} [{label}]")
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected, "{script}");
}

#[test]
fn what_a_text_imports_is_known_whether_or_not_it_compiles() {
    let text = "// import \"no\" as n;\nimport \"lib/a\" as a;\nlet x = `import \"no\"`;\nimport \"b\" as b; ?";
    let import = |name: &str, inside| Import { name: name.to_owned(), inside };
    assert_eq!(imports(text), [import("lib/a", (2, 8)), import("b", (4, 8))]);
    assert_eq!(imports("msg"), []);
}

#[test]
fn functions_and_constants_of_a_module_are_called_by_its_name() {
    let modules = [source("units", UNITS)];
    let script = "import \"units\" as u; msg.payload.a = u::kelvin(msg.payload.a); msg";
    assert_eq!(made(script, &modules), r#"{"a":274.15}"#);
    let script = "import \"units\" as u; msg.payload.a = u::ZERO; msg.payload.b = u::twice(5); msg";
    assert_eq!(made(script, &modules), r#"{"a":273.15,"b":8}"#);
    // From within a function of the script, too.
    let script = "import \"units\" as u; fn f(x) { u::kelvin(x) } msg.payload.a = f(0); msg";
    assert_eq!(made(script, &modules), r#"{"a":273.15}"#);
}

#[test]
fn a_module_imports_another() {
    let heat = "import \"units\" as u; fn double(c) { u::kelvin(c) * 2.0 }";
    let modules = [source("units", UNITS), source("heat", heat)];
    let script = "import \"heat\" as h; msg.payload.a = h::double(0.0); msg";
    assert_eq!(made(script, &modules), r#"{"a":546.3}"#);
}

#[test]
fn an_error_in_a_module_names_its_file() {
    let modules = [source("units", "fn f(x) {\n    x.b.c + 1\n}")];
    let script = "import \"units\" as u;\nu::f(msg.payload);\nmsg";
    assert_eq!(
        made(script, &modules),
        "lib/units.rhai:2:9: `x.b` is missing or null, so it has no field `c`; called at line 2, column 4 ()"
    );
    // A module that is not at fault is not named.
    let script = "import \"units\" as u;\nlet x = msg.payload.a / 0;\nmsg";
    assert_eq!(
        made(script, &modules),
        "line 2, column 23: division by zero: 1 / 0 (msg.payload.a = 1)"
    );
}

#[test]
fn a_module_has_the_limits_of_its_script() {
    let script = "import \"m\" as m; m::f(1); msg";
    let loops = made(script, &[source("m", "fn f(x) {\n    loop { x += 1; }\n}")]);
    assert!(loops.starts_with("lib/m.rhai:2:12: script ran for "), "{loops}");
    assert!(loops.ends_with("; called at line 1, column 21 ()"), "{loops}");
    // What names no variable, or catches what ends it, ends too.
    for text in ["fn f(x) { loop { } }", "fn f(x) { loop { try { x += 1; } catch { } } }"] {
        let loops = made(script, &[source("m", text)]);
        assert!(loops.contains(": script ran for "), "{loops}");
    }
    let recurses = made(script, &[source("m", "fn f(x) { f(x + 1) }")]);
    assert!(recurses.contains("functions call each other"), "{recurses}");
    let script = "import \"m\" as m; m::f(#{}); msg";
    for text in ["fn f(x) { \"a\" + x.b }", "fn f(x) { `a${x.b}` }"] {
        let joins = made(script, &[source("m", text)]);
        let expected = "lib/m.rhai:1:1";
        assert!(joins.starts_with(expected), "{joins}");
        assert!(joins.contains("`x.b` is missing or null"), "{joins}");
    }
}

#[test]
fn a_mistake_is_found_in_the_module_where_it_is() {
    let script = "import \"m\" as m; msg.payload.a = m::f(1); msg";
    let check = |module: &str, expected: &[&str]| {
        check_problems(script, &[source("m", module)], expected);
    };
    check("fn f(x) { x + }", &["m:1:15 script-syntax: script cannot be read [unexpected '}']"]);
    check(
        "fn f(x) { ruond(x) }",
        &[
            "m:1:11 unknown-function: script has no function `ruond` [not found, did you mean `round`?]",
        ],
    );
    check(
        "fn f(x) { y }",
        &[
            "m:1:11 unknown-variable: function has no variable `y` [functions see only their parameters; pass it as one]",
        ],
    );
    check(
        "fn f(x) { msg.topic }",
        &[
            "m:1:11 unknown-variable: function has no variable `msg` [functions see only their parameters; pass it as one]",
        ],
    );
    check(
        "const K = 2; fn f(x) { x * K }",
        &[
            "m:1:28 unknown-variable: function has no variable `K` [functions see constants of the script as `global::K`]",
        ],
    );
    check(
        "let a = 1; fn f(x) { x }",
        &[
            "m:1:1 script-syntax: a module has statements that nobody runs [expected functions, and constants such as `export const ZERO = 273.15;`]",
        ],
    );
    check(
        "const A = loops(); fn loops() { loop { } } fn f(x) { x }",
        &[
            "m:1:11 script-syntax: a constant of the module cannot be computed [script ran for more than 100000 operations (`max_operations`)]",
        ],
    );
    check(
        " ",
        &[
            "m:1:1 script-syntax: module is empty [expected functions, such as `fn half(x) { x / 2 }`]",
        ],
    );
}

#[test]
fn a_call_into_a_module_is_checked() {
    let modules = [source("units", UNITS)];
    let check = |rest: &str, expected: &[&str]| {
        check_problems(&format!("import \"units\" as u;\n{rest}\nmsg"), &modules, expected);
    };
    check(
        "u::kelvn(1);",
        &[
            "script:2:4 unknown-function: module `units` has no function `kelvn` [not found, did you mean `kelvin`?]",
        ],
    );
    check(
        "u::kelvin(1, 2);",
        &[
            "script:2:4 unknown-function: `kelvin` gets the wrong number of values [expected 1, found 2]",
        ],
    );
    check(
        "u::half(1);",
        &[
            "script:2:4 unknown-function: module `units` has no function `half` [there it is `private`]",
        ],
    );
    check(
        "v::kelvin(1);",
        &[
            "script:2:1 script-syntax: script cannot be read [there is no module `v`; expected `import \"lib/...\" as v;` above]",
        ],
    );
    check(
        "import msg.topic as x;",
        &[
            "script:2:1 script-syntax: script has an `import` that cannot be used [expected the name of a module in quotes, such as \"lib/units\"]",
        ],
    );
    check(
        "import \"units\";",
        &[
            "script:2:1 script-syntax: script has an `import` that cannot be used [expected `import \"units\" as` and a name for it]",
        ],
    );
    check_problems(
        "let a = `${1}`; import \"units\" as u; `${2}`; msg",
        &[],
        &[
            "script:1:17 script-syntax: script cannot import `units` here [expected at the beginning of the script]",
        ],
    );
}

#[test]
fn who_looks_for_an_answer_and_asks_nobody_is_told_how_to_ask() {
    check_problems(
        "answer.payload",
        &[],
        &[
            "script:1:1 unknown-variable: script has no variable `answer` [it is there where plugin.yaml says who may be asked: `allow: { http: [\"https://...\"] }`]",
        ],
    );
}
