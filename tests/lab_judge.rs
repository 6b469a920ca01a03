//! The lab's judge must see two writers where there are two, and none where there are none.

#[path = "lab/disk.rs"]
#[allow(dead_code, unreachable_pub)]
mod disk;
#[path = "lab/image.rs"]
#[allow(dead_code, unreachable_pub)]
mod image;
#[path = "lab/judge.rs"]
#[allow(unreachable_pub)]
mod judge;

use disk::{Record, Slots};
use judge::{Charge, judge};

/// The name of that start: it begins with the time its first program ran.
fn name(slot: u64, begin: u64) -> String {
    format!("{}-{slot}", begin + 1)
}

/// A start in slot `slot`, whose kernel began at `begin`, that wrote `records` records, one a
/// second from two seconds after that.
fn start(slot: u64, begin: u64, records: u64, seen: &[(&str, u64)]) -> Vec<Record> {
    (0..records)
        .map(|counter| Record {
            start: name(slot, begin),
            slot,
            counter,
            host: format!("h{slot}"),
            rtc: begin + 2 + counter,
            uptime: 2.0 + counter as f64,
            seen: if counter == 0 {
                seen.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect()
            } else {
                Vec::new()
            },
        })
        .collect()
}

fn slots(starts: &[Vec<Record>]) -> Slots {
    let slot = |records: &Vec<Record>| records.iter().cloned().map(|r| Ok(Some(r))).collect();
    starts.iter().map(slot).collect()
}

fn charges(starts: &[Vec<Record>]) -> Vec<Charge> {
    judge(&slots(starts)).1
}

#[test]
fn lives_one_after_the_other_are_no_charge() {
    // The first wrote at 102 .. 111; the second came up in that very second, or later.
    for begin in [110, 112, 200] {
        let mut starts = [start(0, 100, 10, &[]), start(1, begin, 5, &[("101-0", 9)])];
        assert_eq!(charges(&starts), [], "begin {begin}");
        // Its own clock ran far faster than true time, as it does on a starved machine.
        for record in &mut starts[1] {
            record.uptime *= 30.0;
        }
        assert_eq!(charges(&starts), [], "begin {begin}");
        let (lives, _) = judge(&slots(&starts));
        assert_eq!(lives.len(), 2);
        assert_eq!((lives[1].host.as_str(), lives[1].last.counter), ("h1", 4));
    }
}

#[test]
fn a_start_that_writes_on_is_found_without_a_clock() {
    let mut late = start(0, 100, 10, &[]);
    // Its clock stood still while it was held.
    for record in &mut late {
        record.rtc = 100;
    }
    let starts = [late, start(1, 200, 5, &[("101-0", 6)])];
    let found = charges(&starts);
    assert!(
        matches!(found.as_slice(), [Charge::WroteOn { records: 3, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_start_that_writes_when_another_is_up_is_found_by_the_clock() {
    let starts = [start(0, 100, 10, &[]), start(1, 109, 5, &[("101-0", 9)])];
    let found = charges(&starts);
    assert!(
        matches!(found.as_slice(), [Charge::Overlap { .. }]),
        "{found:?}"
    );
}

#[test]
fn two_starts_in_one_slot_are_found() {
    let mut mixed = start(0, 100, 10, &[]);
    let other = start(0, 100, 10, &[]);
    mixed[4] = Record {
        start: "other".into(),
        ..other[4].clone()
    };
    let found = charges(&[mixed]);
    assert!(
        matches!(found.as_slice(), [Charge::OneSlot { slot: 0, .. }]),
        "{found:?}"
    );
}

#[test]
fn a_start_that_saw_nothing_of_an_earlier_one_is_found() {
    let found = charges(&[start(0, 100, 10, &[]), start(1, 300, 5, &[])]);
    assert!(
        matches!(found.as_slice(), [Charge::Unseen { .. }]),
        "{found:?}"
    );
}

#[test]
fn what_no_guest_writes_is_found() {
    let mut broken = slots(&[start(0, 100, 10, &[])]);
    broken[0][3] = Err("no record".into());
    broken[0][5] = Ok(None);
    let (_, found) = judge(&broken);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_disk_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("disk");
    disk::make(&path).expect("made");
    assert_eq!(disk::last(&path).expect("read"), None);
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    let file = file.expect("opened");
    let put = |slot: u64, index: u64, text: &str| {
        let at = (slot + 1) * disk::SLOT + index * disk::SECTOR;
        std::os::unix::fs::FileExt::write_all_at(&file, format!("{text:<511}\n").as_bytes(), at)
            .expect("written");
    };
    put(0, 0, "LAB a 0 0 h1 1700000000 2.40");
    put(0, 1, "LAB a 0 1 h1 1700000001 3.41");
    put(1, 0, "LAB b 1 0 h2 1700000009 2.10 a=1");
    disk::command(&path, 1, "b", "panic").expect("written");
    let last = disk::last(&path).expect("read").expect("a record");
    assert_eq!((last.start.as_str(), last.counter), ("b", 0));
    assert_eq!(last.seen, [("a".to_owned(), 1)]);
    let (lives, found) = judge(&disk::read(&path).expect("read"));
    assert_eq!(found, []);
    assert_eq!(lives.len(), 2);
    put(1, 1, "rubbish");
    let (_, found) = judge(&disk::read(&path).expect("read"));
    assert_eq!(found.len(), 1, "{found:?}");
}
