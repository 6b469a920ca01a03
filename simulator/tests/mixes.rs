//! The aimed mixes of faults break nothing that stands.

use quorate_simulator::cluster::Cluster;
use quorate_simulator::harness::{Hunt, Mixed, Order, Subject, hunt};

#[test]
fn every_mix_is_clean_and_makes_trouble() {
    for (mix, _) in Cluster.mixes() {
        let subject = Mixed {
            subject: &Cluster,
            mix: Some(mix),
        };
        let order = Order {
            seeds: 1..4,
            jobs: 1,
            go_on: false,
            bug: None,
            mix: subject.mix,
        };
        let found = hunt(&subject, &order, Hunt::default(), 1, |_| (), |_, _| Ok(()));
        let found = found.expect("nothing is written");
        assert_eq!(found.failure, None, "--mix {mix}: {:?}", found.kinds);
        assert_eq!(found.seeds, 3);
        assert!(found.exposure.of("starts") > 0, "{mix} starts no guest");
    }
}

#[cfg(not(feature = "mutants"))]
#[test]
fn without_its_feature_the_command_says_how_to_build_it() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .arg("mutants")
        .output()
        .expect("quorate-sim runs");
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("--features mutants"), "{said}");
}
