use super::*;

fn device(agent: &str, class: Option<ProofClass>) -> Device {
    let name = agent.trim_start_matches("fence_").to_owned();
    Device {
        name,
        agent: agent.to_owned(),
        parameters: BTreeMap::new(),
        class,
        limit_ms: 20_000,
    }
}

fn level(agents: &[&str]) -> Level {
    Level {
        devices: agents.iter().map(|a| device(a, None)).collect(),
    }
}

#[test]
fn the_table_knows_the_class_of_common_agents() {
    let expected = [
        ("fence_ipmilan", ProofClass::Power),
        ("/usr/sbin/fence_redfish", ProofClass::Power),
        ("fence_quorate_demo", ProofClass::Power),
        ("fence_kdump", ProofClass::Crash),
        ("fence_sbd", ProofClass::Timed),
        ("fence_scsi", ProofClass::Fabric),
        ("fence_mpath", ProofClass::Fabric),
        ("fence_heuristics_ping", ProofClass::Veto),
        ("fence_ack_manual", ProofClass::Manual),
    ];
    for (agent, class) in expected {
        assert_eq!(device(agent, None).class(), Ok(class), "{agent}");
    }
}

#[test]
fn no_agent_is_in_the_table_twice() {
    for agent in POWER {
        assert!(!FABRIC.contains(agent), "{agent}");
        assert_eq!(POWER.iter().filter(|a| a == &agent).count(), 1, "{agent}");
    }
    assert!(POWER.is_sorted() && FABRIC.is_sorted());
}

#[test]
fn a_worthless_agent_gets_no_class_by_configuration() {
    let dummy = device("fence_dummy", Some(ProofClass::Power));
    assert!(matches!(dummy.class(), Err(NoClass::Nothing { .. })));
}

#[test]
fn an_unknown_agent_needs_a_class_and_keeps_it() {
    let agent = "/opt/site/fence_ours";
    assert_eq!(
        device(agent, None).class(),
        Err(NoClass::Unsaid {
            agent: agent.to_owned()
        })
    );
    assert_eq!(
        device(agent, Some(ProofClass::Fabric)).class(),
        Ok(ProofClass::Fabric)
    );
}

#[test]
fn the_configuration_may_repeat_the_table_but_not_contradict_it() {
    assert_eq!(
        device("fence_sbd", Some(ProofClass::Timed)).class(),
        Ok(ProofClass::Timed)
    );
    let error = device("fence_sbd", Some(ProofClass::Power))
        .class()
        .expect_err("contradiction");
    assert_eq!(
        error.to_string(),
        "agent fence_sbd is of class timed, the configuration says power"
    );
}

#[test]
fn a_level_proves_by_its_best_device() {
    assert_eq!(
        level(&["fence_heuristics_ping", "fence_ipmilan"]).proves(),
        Ok(ProofClass::Power)
    );
    assert_eq!(level(&["fence_kdump"]).proves(), Ok(ProofClass::Crash));
    assert_eq!(
        level(&["fence_scsi", "fence_apc"]).proves(),
        Ok(ProofClass::Power)
    );
}

#[test]
fn a_level_without_a_proving_device_says_why() {
    for agent in [
        "fence_sbd",
        "fence_scsi",
        "fence_heuristics_ping",
        "fence_ack_manual",
    ] {
        let error = level(&[agent]).proves().expect_err(agent);
        let NoProof::NoProvingDevice { class, why, .. } = &error else {
            panic!("{agent}: {error}");
        };
        assert!(!class.proves() && class.why_not() == Some(why) && !why.is_empty());
        assert!(error.to_string().contains(class.as_str()), "{error}");
    }
    assert_eq!(level(&[]).proves(), Err(NoProof::Empty));
}

#[test]
fn one_device_without_class_spoils_the_level() {
    let error = level(&["fence_ipmilan", "fence_dummy"])
        .proves()
        .expect_err("dummy");
    assert!(
        matches!(error, NoProof::Class { ref device, .. } if device == "dummy"),
        "{error}"
    );
}

#[test]
fn the_limit_of_a_level_is_the_veto_then_the_slowest_device() {
    let mut level = level(&["fence_ipmilan", "fence_heuristics_ping", "fence_scsi"]);
    for (device, limit) in level.devices.iter_mut().zip([20_000, 3_000, 7_000]) {
        device.limit_ms = limit;
    }
    assert_eq!(level.limit(), Duration::from_secs(23));
    // Two that must be off at once are looked at again.
    level.devices[2].agent = "fence_apc".to_owned();
    assert_eq!(level.limit(), Duration::from_secs(33));
}
