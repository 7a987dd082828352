//! What is shipped.

use std::{path::Path, process::Command};

use crate::support::python;

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
