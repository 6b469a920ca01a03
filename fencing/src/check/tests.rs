use super::*;

fn device(name: &str, agent: &str) -> Device {
    let parameters = BTreeMap::from([("ip".to_owned(), "10.0.0.7".to_owned())]);
    Device {
        name: name.to_owned(),
        agent: agent.to_owned(),
        parameters,
        class: None,
        limit_ms: 5_000,
    }
}

fn ipmi() -> Device {
    device("ipmi", "fence_ipmilan")
}

fn level(devices: Vec<Device>) -> Level {
    Level { devices }
}

/// The only fault of these levels, as people read it.
fn fault(levels: &[Level]) -> String {
    let faults = check(levels).expect_err("a fault");
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults[0].to_string()
}

#[test]
fn good_levels_pass() {
    let levels = [
        level(vec![device("dump", "fence_kdump")]),
        level(vec![device("ping", "fence_heuristics_ping"), ipmi()]),
        level(vec![
            device("left", "fence_apc"),
            device("right", "/usr/sbin/fence_apc"),
        ]),
    ];
    assert_eq!(check(&levels), Ok(()));
    assert_eq!(check(&[]), Ok(()), "no device at all: the lease alone");
}

#[test]
fn a_name_may_be_used_once() {
    let text = fault(&[level(vec![ipmi()]), level(vec![ipmi()])]);
    assert!(
        text.starts_with("level 2, device \"ipmi\": name: found"),
        "{text}"
    );
    assert!(text.contains("level 1"), "{text}");
}

#[test]
fn a_level_needs_a_device_and_not_too_many() {
    assert_eq!(
        fault(&[level(vec![])]),
        "level 1: devices: found 0; allowed: 1 to 16"
    );
    let many = (0..17)
        .map(|i| device(&format!("d{i}"), "fence_apc"))
        .collect();
    assert_eq!(
        fault(&[level(many)]),
        "level 1: devices: found 17; allowed: 1 to 16"
    );
}

#[test]
fn nine_levels_and_no_more() {
    let levels = |n: usize| -> Vec<Level> {
        (0..n)
            .map(|i| level(vec![device(&format!("d{i}"), "fence_apc")]))
            .collect()
    };
    assert_eq!(check(&levels(9)), Ok(()));
    assert!(fault(&levels(10)).starts_with("levels: found 10; allowed: at most 9"));
}

#[test]
fn limits_are_bounded() {
    for (limit_ms, good) in [(0, false), (1, true), (600_000, true), (600_001, false)] {
        let levels = [level(vec![Device { limit_ms, ..ipmi() }])];
        assert_eq!(check(&levels).is_ok(), good, "{limit_ms}");
        if !good {
            let text = fault(&levels);
            assert!(text.contains(&format!("limit_ms: found {limit_ms}; allowed: 1 to 600000")));
        }
    }
}

#[test]
fn a_level_must_prove_something() {
    let text = fault(&[level(vec![device("pill", "fence_sbd")])]);
    assert!(text.contains("\"pill\" is of class timed"), "{text}");
    assert!(text.contains("power or crash"), "{text}");
}

#[test]
fn classes_come_from_the_table_first() {
    let dummy = Device {
        class: Some(ProofClass::Power),
        ..device("d", "fence_dummy")
    };
    assert!(fault(&[level(vec![dummy])]).contains("agent: found fence_dummy"));
    let lying = Device {
        class: Some(ProofClass::Power),
        ..device("d", "fence_scsi")
    };
    let text = fault(&[level(vec![lying])]);
    assert!(
        text.contains("class: found power; allowed: fabric"),
        "{text}"
    );
    let unsaid = device("d", "fence_site");
    assert!(fault(&[level(vec![unsaid.clone()])]).contains("class: found none"));
    let said = Device {
        class: Some(ProofClass::Power),
        ..unsaid
    };
    assert_eq!(check(&[level(vec![said])]), Ok(()));
}

#[test]
fn a_dump_is_not_cut_short_by_a_power_device_beside_it() {
    let text = fault(&[level(vec![device("dump", "fence_kdump"), ipmi()])]);
    assert!(text.contains("a level of its own"), "{text}");
}

#[test]
fn parameters_are_held_to_the_protocol() {
    for (name, value) in [
        ("action", "on"),
        ("a=b", "1"),
        ("a\nb", "1"),
        ("user", "x\naction=on"),
    ] {
        let mut bad = ipmi();
        bad.parameters.insert(name.to_owned(), value.to_owned());
        let text = fault(&[level(vec![bad])]);
        assert!(
            text.starts_with("level 1, device \"ipmi\": parameters."),
            "{text}"
        );
        assert!(
            !text.contains('\n') && !text.contains("action=on"),
            "{text}"
        );
    }
}

#[test]
fn two_spellings_of_one_parameter_are_refused() {
    for (one, two) in [
        ("plug", "port"),
        ("login-timeout", "login_timeout"),
        ("ip", "IP"),
    ] {
        let mut bad = ipmi();
        bad.parameters.insert(one.to_owned(), "1".to_owned());
        bad.parameters.insert(two.to_owned(), "2".to_owned());
        assert!(
            fault(&[level(vec![bad])]).contains("one of the two"),
            "{one} {two}"
        );
    }
}

#[test]
fn agents_are_names_or_absolute_paths() {
    for agent in [
        "",
        "ipmilan",
        "./fence_ipmilan",
        "../fence_ipmilan",
        "/usr/../fence_ipmilan",
        "fence_ipmilan -o on",
        "/usr/sbin/",
    ] {
        let bad = Device {
            class: None,
            ..device("d", agent)
        };
        let faults = check(&[level(vec![bad])]).expect_err(agent);
        assert!(
            faults.iter().any(|f| f.key == "agent"),
            "{agent:?}: {faults:?}"
        );
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let bad = Device {
        limit_ms: 0,
        ..device("", "nothing")
    };
    let keys: Vec<String> = check(&[level(vec![bad])])
        .expect_err("faults")
        .into_iter()
        .map(|fault| fault.key)
        .collect();
    assert_eq!(keys, ["name", "agent", "limit_ms", "class"]);
}
