//! The judge, on records that no healthy cluster writes.

use super::*;

const MS: u64 = 1_000_000;

/// Lines of one life, every 20 ms from `first` to `last` (milliseconds).
fn life(host: &str, pid: u32, first: u64, last: u64) -> Vec<(u64, String)> {
    (first..=last)
        .step_by(20)
        .map(|ms| (ms, format!("{} {host} 00{pid} {pid}\n", ms * MS)))
        .collect()
}

/// The file as the storage saw it: by time.
fn file(mut lives: Vec<Vec<(u64, String)>>) -> String {
    let mut lines: Vec<(u64, String)> = lives.drain(..).flatten().collect();
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn verdict(text: &str, expected: &[Expected], end_ms: u64) -> Vec<Charge> {
    let records = BTreeMap::from([("g".to_owned(), text.to_owned())]);
    judge(&records, expected, end_ms * MS).1
}

fn back_from(off: &str, failed_ms: u64) -> Expected {
    Expected {
        guest: "g".into(),
        off: off.into(),
        failed_at: failed_ms * MS,
    }
}

#[test]
fn a_guest_that_ends_and_starts_elsewhere_is_fine() {
    let text = file(vec![life("h1", 7, 0, 1000), life("h2", 7, 5000, 6000)]);
    assert_eq!(verdict(&text, &[back_from("h1", 1000)], 6010), []);
    let records = BTreeMap::from([("g".to_owned(), text)]);
    let (findings, _) = judge(&records, &[], 6010 * MS);
    assert_eq!(findings["g"].least_gap_ns, Some(4000 * MS));
    assert_eq!(findings["g"].runs.len(), 2);
}

#[test]
fn two_copies_at_once_are_found_however_short() {
    for begin in [500, 980, 1000] {
        let text = file(vec![life("h1", 7, 0, 1000), life("h2", 9, begin, 2000)]);
        let charges = verdict(&text, &[], 2000);
        assert!(
            charges.iter().any(|c| matches!(c, Charge::Twice { .. })),
            "{begin}: {charges:?}"
        );
    }
}

#[test]
fn a_gap_the_records_cannot_resolve_is_not_believed() {
    let close = file(vec![life("h1", 7, 0, 1000), life("h2", 9, 1020, 2000)]);
    assert!(matches!(
        verdict(&close, &[], 2000)[..],
        [Charge::Twice { .. }]
    ));
    let apart = file(vec![life("h1", 7, 0, 1000), life("h2", 9, 1040, 2000)]);
    assert_eq!(verdict(&apart, &[], 2000), []);
}

#[test]
fn a_copy_that_wakes_for_one_line_is_found() {
    let mut text = file(vec![life("h1", 7, 0, 1000), life("h2", 9, 3000, 4000)]);
    text.push_str(&format!("{} h1 007 7\n", 4010 * MS));
    let charges = verdict(&text, &[], 4010);
    assert!(matches!(charges[0], Charge::Twice { .. }), "{charges:?}");
}

#[test]
fn interleaved_lines_are_found_even_if_a_clock_lies() {
    // By their times the lives are apart; by the order of the writes they are not.
    let (a, b) = (life("h1", 7, 0, 100), life("h2", 9, 5000, 5100));
    let mut text: String = a[..3].iter().chain(&b[..3]).map(|l| l.1.as_str()).collect();
    text.extend(a[3..].iter().map(|l| l.1.as_str()));
    let charges = verdict(&text, &[], 5100);
    assert!(matches!(charges[0], Charge::Twice { .. }), "{charges:?}");
}

#[test]
fn a_second_process_on_the_same_host_is_another_copy() {
    let text = file(vec![life("h1", 7, 0, 1000), life("h1", 8, 500, 1000)]);
    assert!(matches!(verdict(&text, &[], 1000)[0], Charge::Twice { .. }));
}

#[test]
fn a_life_hidden_inside_a_longer_one_is_found() {
    let text = file(vec![
        life("h1", 7, 0, 5000),
        life("h2", 8, 1000, 1200),
        life("h3", 9, 3000, 3200),
    ]);
    let found = verdict(&text, &[], 5000);
    let twice = |c: &&Charge| matches!(c, Charge::Twice { second, .. } if second.host == "h3");
    assert!(found.iter().any(|c| twice(&c)), "{found:?}");
}

#[test]
fn a_missing_restart_is_charged() {
    let stayed = file(vec![life("h1", 7, 0, 6000)]);
    assert_eq!(
        verdict(&stayed, &[back_from("h1", 1000)], 6000),
        [Charge::NotBack {
            guest: "g".into(),
            off: "h1".into()
        }]
    );
    // A life elsewhere *before* the failure is no restart after it.
    let before = file(vec![life("h2", 7, 0, 100), life("h1", 8, 500, 6000)]);
    assert!(matches!(
        verdict(&before, &[back_from("h1", 1000)], 6000)[..],
        [Charge::NotBack { .. }]
    ));
}

#[test]
fn silence_at_the_end_and_a_guest_that_never_ran_are_charged() {
    let text = file(vec![life("h1", 7, 0, 1000)]);
    assert!(matches!(
        verdict(&text, &[], 3100)[..],
        [Charge::Silent { .. }]
    ));
    assert_eq!(verdict(&text, &[], 2900), []);
    assert_eq!(
        verdict("", &[], 0),
        [Charge::NeverRan { guest: "g".into() }]
    );
}

#[test]
fn what_is_no_record_is_charged_but_an_unfinished_line_is_not() {
    let mut text = file(vec![life("h1", 7, 0, 1000)]);
    text.push_str("1020000000 h1 0");
    assert_eq!(verdict(&text, &[], 1000), []);
    for bad in [
        "hello\n",
        "12 h1 1\n",
        "x h1 1 1\n",
        "1 h1 1 1 1\n",
        "1  1 1\n",
    ] {
        let text = format!("{bad}{}", file(vec![life("h1", 7, 0, 1000)]));
        assert!(
            matches!(
                verdict(&text, &[], 1000)[0],
                Charge::Unreadable { line: 1, .. }
            ),
            "{bad:?}"
        );
    }
}
