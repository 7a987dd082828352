//! The profiles that are compiled in, each a file of `profiles/`.

use forebay_sdk::Profile;

/// All of them, by name.
pub static NATIVE: [Profile; 3] = [
    Profile { name: "sdm120", text: include_str!("../profiles/sdm120.yaml") },
    Profile { name: "sdm230", text: include_str!("../profiles/sdm230.yaml") },
    Profile { name: "sdm630", text: include_str!("../profiles/sdm630.yaml") },
];

/// What users may write after `profile:`, beside names of their own.
pub fn names() -> Vec<&'static str> {
    NATIVE.iter().map(|profile| profile.name).collect()
}
