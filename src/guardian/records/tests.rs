use super::*;

fn lease() -> LeaseRecord {
    LeaseRecord {
        boot: BootId(u128::MAX),
        incarnation: Incarnation {
            counter: u64::MAX,
            random: 7,
        },
        end: Time(u64::MAX),
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    assert_eq!(decode::<LeaseRecord>(&encode(&lease())), Ok(lease()));
}

#[test]
fn no_single_changed_or_missing_byte_goes_unseen() {
    let good = encode(&lease());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(decode::<LeaseRecord>(&bad).is_err(), "byte {at} changed");
        assert!(decode::<LeaseRecord>(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_record_of_another_kind_is_refused() {
    let go = encode(&GoRecord { not_after: Time(1) });
    assert!(decode::<LeaseRecord>(&go).is_err());
}

#[test]
fn names_say_what_a_file_is() {
    let key = "00000000000000ff-0001000000000002";
    let (guest, epoch) = (GuestId(255), Token(0x0001_0000_0000_0002));
    assert_eq!(Entry::of(key), Entry::Guest(guest, epoch));
    assert_eq!(
        Entry::of(&format!("{key}.00000000000000aa.intent")),
        Entry::Intent(guest, epoch)
    );
    for other in [".00000000000000aa.held", ".go", "."] {
        assert_eq!(Entry::of(&format!("{key}{other}")), Entry::Other);
    }
    for garbage in [
        "",
        "-",
        ".x.intent",
        "00ff-0001",
        "+0000000000000ff-0001000000000002",
    ] {
        assert_eq!(Entry::of(garbage), Entry::Other, "{garbage:?}");
    }
}

#[test]
fn a_lease_of_another_boot_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = RunDir::create(dir.path()).expect("made");
    assert!(run.lease_end(BootId(1)).is_err());
    slots::Slots::new(run.lease())
        .write(&lease())
        .expect("written");
    assert_eq!(run.lease_end(BootId(u128::MAX)), Ok(Time(u64::MAX)));
    assert!(run.lease_end(BootId(1)).is_err());
    fs::write(run.lease(), b"garbage").expect("written");
    assert!(run.lease_end(BootId(u128::MAX)).is_err());
}
