//! The profiles that are compiled in, each a file of `profiles/`.

use forebay_sdk::Profile;

/// All of them, by name.
pub static NATIVE: [Profile; 16] = [
    Profile { name: "em24", text: include_str!("../profiles/em24.yaml") },
    Profile { name: "em24-e1", text: include_str!("../profiles/em24-e1.yaml") },
    Profile { name: "iem3000", text: include_str!("../profiles/iem3000.yaml") },
    Profile { name: "janitza-umg", text: include_str!("../profiles/janitza-umg.yaml") },
    Profile { name: "pm5000", text: include_str!("../profiles/pm5000.yaml") },
    Profile { name: "sdm120", text: include_str!("../profiles/sdm120.yaml") },
    Profile { name: "sdm230", text: include_str!("../profiles/sdm230.yaml") },
    Profile { name: "sdm630", text: include_str!("../profiles/sdm630.yaml") },
    Profile { name: "sma", text: include_str!("../profiles/sma.yaml") },
    Profile { name: "sun2000", text: include_str!("../profiles/sun2000.yaml") },
    Profile { name: "sunspec-inverter", text: include_str!("../profiles/sunspec-inverter.yaml") },
    Profile { name: "sunspec-meter", text: include_str!("../profiles/sunspec-meter.yaml") },
    Profile { name: "teltonika", text: include_str!("../profiles/teltonika.yaml") },
    Profile { name: "victron-grid", text: include_str!("../profiles/victron-grid.yaml") },
    Profile { name: "victron-gx", text: include_str!("../profiles/victron-gx.yaml") },
    Profile { name: "victron-vebus", text: include_str!("../profiles/victron-vebus.yaml") },
];

/// What users may write after `profile:`, beside names of their own.
pub fn names() -> Vec<&'static str> {
    NATIVE.iter().map(|profile| profile.name).collect()
}
