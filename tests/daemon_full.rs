//! A host whose run directory is full: its guests go on, under a daemon that starts anew as well, and
//! end with its lease.

mod common;

use common::Lab;

#[test]
fn a_full_run_directory_ends_no_guest_and_keeps_none_from_its_end() {
    let test = "a_full_run_directory_ends_no_guest_and_keeps_none_from_its_end";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::new(&["h1", "h2", "h3"]);
    lab.add("h1", &["g1", "g2", "g3"]);
    let here = lab.on("h2");
    assert!(!here.is_empty(), "{:?}", lab.lives());
    let before = lab.lives();
    let filler = lab.path().join("h2/run/filler").display().to_string();
    let sh = |lab: &Lab, script: &str| {
        let mut sh = lab.site.program("h2", "sh").expect("power");
        let out = sh.args(["-c", script, "sh", &filler]).output();
        out.expect("runs")
    };
    let out = sh(&lab, "cat /dev/zero >\"$1\"");
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("No space left"),
        "{out:?}"
    );
    lab.go_on();
    let alerts = lab.events("h2", &["alert"]);
    let failed = |e: &serde_json::Value| e["text"].to_string().contains("the store failed");
    assert!(!alerts.iter().any(failed), "it votes on: {alerts:?}");
    let earlier = lab.incarnation("h2");
    lab.signal("h2", "KILL");
    lab.back("h1", "h2", earlier);
    for _ in 0..3 {
        lab.go_on();
    }
    assert_eq!(lab.lives(), before, "every guest goes on");
    lab.nobody_judged("h1");

    let after = lab.expect("h2", &here);
    lab.break_outlet("h2");
    lab.site.cable("h2", false).expect("unplugged");
    lab.moved(&here, "h2", after);
    lab.site.cable("h2", true).expect("plugged");
    let out = sh(&lab, "rm \"$1\"");
    assert!(out.status.success(), "{out:?}");
    lab.whole("h1");
    lab.settled("h1");
    lab.judge();
}
