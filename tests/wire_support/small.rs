//! The numbers of enums that are small enough for one row.

use super::*;

/// Small enums: every variant in the order of its number, as one row of `WIRE.md`.
#[test]
fn small_enums_are_numbered_as_the_page_says() {
    fn row<T: Serialize>(name: &str, variants: &[(&str, T)]) {
        let words: Vec<String> = variants
            .iter()
            .enumerate()
            .map(|(number, (word, value))| {
                let bytes = encode(Kind::Record, value);
                assert_eq!(usize::from(bytes[codec::HEADER]), number, "{name}::{word}");
                format!("{number} {word}")
            })
            .collect();
        let row = format!("| `{name}` | {} |", words.join(", "));
        assert!(wire_md().contains(&row), "WIRE.md lacks the row {row}");
    }
    row(
        "ArmedClass",
        &[
            ("Guardian", ArmedClass::Guardian),
            ("Watchdog", ArmedClass::Watchdog),
        ],
    );
    row(
        "Proof",
        &[
            ("LeaseExpired", Proof::LeaseExpired),
            (
                "Fenced",
                Proof::Fenced {
                    device: String::new(),
                    class: String::new(),
                },
            ),
            ("Confirmed", Proof::Confirmed { by: String::new() }),
        ],
    );
    row(
        "AttemptEnd",
        &[
            ("Off", AttemptEnd::Off),
            ("Failed", AttemptEnd::Failed),
            ("Unknown", AttemptEnd::Unknown),
            ("NotLaunched", AttemptEnd::NotLaunched),
        ],
    );
    row(
        "Ground",
        &[
            ("Silent", Ground::Silent),
            ("Deaf", Ground::Deaf),
            ("Ordered", Ground::Ordered),
        ],
    );
    row(
        "Away",
        &[
            ("Stop", Away::Stop),
            ("Reboot", Away::Reboot),
            ("Shutdown", Away::Shutdown),
        ],
    );
    row(
        "Closure",
        &[
            ("Told", Closure::Told),
            ("Failed", failed()),
            ("LeaseEnded", Closure::LeaseEnded),
            ("ShutDown", Closure::ShutDown),
            ("Refused", Closure::Refused(String::new())),
            ("NotBegun", Closure::NotBegun(String::new())),
            ("Taken", Closure::Taken(Default::default())),
        ],
    );
    row("Source", &wire_support::sources());
    row("HoldReason", &wire_support::hold_reasons());
    row("ReleasedBy", &wire_support::released_by());
    row(
        "Wanted",
        &[("Running", Wanted::Running), ("Stopped", Wanted::Stopped)],
    );
    row(
        "ProofPolicy",
        &[
            ("Device", ProofPolicy::Device),
            ("DeviceAndLease", ProofPolicy::DeviceAndLease),
        ],
    );
    row(
        "ProofClass",
        &ProofClass::ALL.map(|class| {
            let word = match class {
                ProofClass::Power => "Power",
                ProofClass::Crash => "Crash",
                ProofClass::Timed => "Timed",
                ProofClass::Fabric => "Fabric",
                ProofClass::Veto => "Veto",
                ProofClass::Manual => "Manual",
            };
            (word, class)
        }),
    );
    row(
        "Definition",
        &[
            (
                "Command",
                Definition::Command {
                    argv: Vec::new(),
                    env: BTreeMap::new(),
                    images: Vec::new(),
                },
            ),
            ("Domain", Definition::Domain { xml: String::new() }),
            (
                "Ocf",
                Definition::Ocf {
                    agent: String::new(),
                    parameters: BTreeMap::new(),
                    every_ms: 1000,
                },
            ),
        ],
    );
    row(
        "OnShutdown",
        &[
            ("Leave", OnShutdown::Leave),
            ("Restart", OnShutdown::Restart),
        ],
    );
    row(
        "OnHang",
        &[("Recover", OnHang::Recover), ("Report", OnHang::Report)],
    );
}
