//! What is shipped.

use std::{fs, path::Path, process::Command};

use crate::support::{Folder, is_long, python};

#[test]
fn every_part_of_the_program_has_a_licence_by_which_it_may_be_shipped() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("release/crates");
    let output = Command::new(python()).arg(&crates).arg("check").output();
    let output = output.expect("the test tools have Python");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("0 with a licence that it cannot be shipped with"), "{printed}");
}

#[test]
fn a_choice_of_licences_is_read_as_one() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("release/crates");
    for (expression, may_ship) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-2.0-only", true),
        ("MIT AND GPL-2.0-only", false),
        ("(MIT OR GPL-2.0-only) AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("SSPL-1.0 OR BUSL-1.1", false),
    ] {
        let ask = "import runpy, sys; print(runpy.run_path(sys.argv[1])['may_ship'](sys.argv[2]))";
        let output = Command::new(python()).args(["-c", ask]).arg(&crates).arg(expression).output();
        let output = output.expect("the test tools have Python");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), if may_ship { "True" } else { "False" }, "{expression}");
    }
}

/// What the program is made of.
const SOURCES: [&str; 9] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "pipelines",
    "plugins",
    "release",
    "schemas",
    "src",
    "yaml",
];

/// What a crate is built with differs from machine to machine: the places of sources, and what is drawn by lot. The smallest
/// program with TLS and scripts, in which both once left traces.
#[test]
fn a_program_has_the_same_bytes_wherever_it_is_built() {
    if !is_long() {
        eprintln!("skipped: two builds take long; `FOREBAY_LONG=1 tests/run` does them");
        return;
    }
    let [first, second] = ["short", "a longer one, with spaces"].map(|name| {
        let place = Folder::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (sources, target) = (place.path().join(name), place.path().join("target"));
        fs::create_dir(&sources).expect("the folder is ours");
        let mut copy = Command::new("cp");
        let copied =
            copy.arg("-r").args(SOURCES.map(|part| root.join(part))).arg(&sources).status();
        assert!(copied.is_ok_and(|status| status.success()), "sources");
        let mut build = Command::new(sources.join("release/binary"));
        build.args(["arm64", "--no-default-features", "--features", "forebay-mqtt,forebay-script"]);
        let built = build.env("CARGO_TARGET_DIR", &target).output().expect("it is a program");
        let printed = String::from_utf8_lossy(&built.stdout);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::read(printed.trim_end()).expect("it says where it is")
    });
    assert!(first == second, "{} and {} bytes", first.len(), second.len());
}
