use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_limit_is_the_largest_of_one_three_tenths_and_k() {
    let expected = [
        (0, 0, 1),
        (3, 0, 1),
        (5, 2, 2),
        (6, 1, 1),
        (7, 1, 2),
        (10, 1, 3),
        (64, 2, 19),
    ];
    for (hosts, k, most) in expected {
        assert_eq!(limit(hosts, k), most, "{hosts} hosts, k {k}");
    }
    assert_eq!(limit(u32::MAX, 0), 1_288_490_188);
}

#[test]
fn five_hosts_that_promise_two_may_cut_two_and_not_three() {
    let one = [(1, MINUTE)];
    assert_eq!(allows(5, 2, WINDOW, &one, 2), Ok(()));
    let two = [(1, MINUTE), (2, Duration::ZERO)];
    let braked = allows(5, 2, WINDOW, &two, 3).expect_err("third host");
    assert_eq!((braked.limit, braked.used), (2, 2));
    // Host 1 leaves the window first.
    assert_eq!(
        braked.free_in,
        Duration::from_secs(540) + Duration::from_nanos(1)
    );
}

#[test]
fn another_attempt_on_a_counted_host_takes_no_new_place() {
    assert_eq!(
        allows(3, 1, WINDOW, &[(7, MINUTE), (7, MINUTE * 2)], 7),
        Ok(())
    );
    assert!(allows(3, 1, WINDOW, &[(7, MINUTE), (7, MINUTE * 2)], 8).is_err());
}

#[test]
fn an_attempt_counts_up_to_the_end_of_the_window() {
    assert!(allows(3, 1, WINDOW, &[(1, WINDOW)], 2).is_err());
    let past = WINDOW + Duration::from_nanos(1);
    assert_eq!(allows(3, 1, WINDOW, &[(1, past)], 2), Ok(()));
}

fn attempts() -> impl Strategy<Value = Vec<(u32, Duration)>> {
    proptest::collection::vec(
        (0_u32..12, (0_u64..1200).prop_map(Duration::from_secs)),
        0..20,
    )
}

proptest! {
    #[test]
    fn more_attempts_never_loosen_it_for_a_new_host(
        n in 0_u32..40, k in 0_u32..4, list in attempts(), more in attempts(),
    ) {
        let mut longer = list.clone();
        longer.extend(more);
        // Host 99 is in neither list.
        if allows(n, k, WINDOW, &longer, 99).is_ok() {
            prop_assert!(allows(n, k, WINDOW, &list, 99).is_ok());
        }
    }

    #[test]
    fn more_hosts_more_k_and_older_attempts_never_tighten_it(
        n in 0_u32..40, k in 0_u32..4, list in attempts(), add in 0_u32..9, host in 0_u32..14,
        later in (0_u64..900).prop_map(Duration::from_secs),
    ) {
        if allows(n, k, WINDOW, &list, host).is_ok() {
            prop_assert!(allows(n + add, k, WINDOW, &list, host).is_ok());
            prop_assert!(allows(n, k + add, WINDOW, &list, host).is_ok());
        }
        let older: Vec<_> = list.iter().map(|(h, age)| (*h, *age + later)).collect();
        if allows(n, k, WINDOW, &list, 99).is_ok() {
            prop_assert!(allows(n, k, WINDOW, &older, 99).is_ok());
        }
    }

    #[test]
    fn never_more_hosts_in_the_window_than_the_limit(
        n in 0_u32..40, k in 0_u32..4, wanted in proptest::collection::vec(0_u32..30, 0..60),
    ) {
        let mut cut: Vec<(u32, Duration)> = Vec::new();
        for host in wanted {
            if allows(n, k, WINDOW, &cut, host).is_ok() {
                cut.push((host, Duration::ZERO));
            }
        }
        let hosts: std::collections::BTreeSet<u32> = cut.iter().map(|(h, _)| *h).collect();
        prop_assert!(hosts.len() <= limit(n, k) as usize);
    }

    #[test]
    fn it_is_free_exactly_when_it_says(
        n in 0_u32..40, k in 0_u32..4, list in attempts(),
    ) {
        if let Err(braked) = allows(n, k, WINDOW, &list, 99) {
            let after = |wait: Duration| -> Vec<(u32, Duration)> {
                list.iter().map(|(h, age)| (*h, *age + wait)).collect()
            };
            let just_before = braked.free_in - Duration::from_nanos(1);
            prop_assert!(allows(n, k, WINDOW, &after(just_before), 99).is_err());
            prop_assert!(allows(n, k, WINDOW, &after(braked.free_in), 99).is_ok());
        }
    }
}
