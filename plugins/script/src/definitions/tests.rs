use super::{README, text, told};
use crate::host;

#[test]
fn each_function_of_the_readme_is_there_with_what_it_does() {
    let text = text();
    for name in told(README).keys().filter(|name| !["print", "debug", "-"].contains(&name.as_str()))
    {
        assert!(
            host::functions().contains_key(name),
            "the README tells of `{name}`, which is not there"
        );
        assert!(text.contains(&format!("\nfn {name}(")), "{name}");
    }
    for line in [
        "/// rounds to a number of digits behind the point\nfn round(x: float, digits: int);",
        "fn hmac_sha256(key: String, x: Blob);",
        "fn local_time(millis: int, text: String);",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn nothing_that_scripts_cannot_call_is_offered() {
    let text = text();
    for name in ["sleep", "eval", "+", "anon$", "get$"] {
        assert!(!text.contains(&format!("\nfn {name}")), "{name}");
    }
}
