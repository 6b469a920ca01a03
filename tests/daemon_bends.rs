//! Daemons whose surroundings fail: a log nobody reads, clients that say nothing, an address that
//! comes late, voters that stand still while a change is asked for.

mod common;

use common::{Lab, PROGRAM, ended, host};
use serde_json::Value;
use std::io::{PipeReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};

#[test]
fn a_daemon_outlives_its_log_reader_idle_clients_and_a_late_address() {
    let test = "a_daemon_outlives_its_log_reader_idle_clients_and_a_late_address";
    if common::skipped(test) {
        return;
    }
    let mut lab = Lab::bare(&["h1", "h2", "h3"]);
    lab.found();
    let (daemon, reader) = with_full_log(&lab, "h1");
    let _daemon = Ended(daemon);
    for name in ["h2", "h3"] {
        lab.site.start_daemon(name).expect("a daemon");
    }
    lab.whole("h2");
    lab.wait("h1 to be armed", || lab.status("h1").map(|_| ()));
    lab.add("h2", &["g1", "g2", "g3"]);
    idle_clients(&lab);
    // The reader of the log is gone for good.
    drop(reader);
    lab.go_on();
    lab.nobody_judged("h2");
    late_address(&lab);
    outcomes(&mut lab);
    followers(&lab);
    lab.judge();
}

/// A daemon that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a daemon with few descriptors whose standard error is a pipe that is full from the start.
fn with_full_log(lab: &Lab, name: &str) -> (Child, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let flags = rustix::fs::fcntl_getfl(&writer).expect("flags");
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).expect("set");
    while (&writer).write(&[b'.'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).expect("set");
    let mut command = lab.site.program(name, "sh").expect("power");
    let child = command
        .args(["-c", "ulimit -n 256; exec \"$@\"", "sh", PROGRAM])
        .args(["daemon", "--config"])
        .arg(lab.site.config(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer)
        .spawn();
    (child.expect("started"), reader)
}

/// More clients than the daemon has descriptors connect and ask nothing: others are answered, and
/// the host keeps its lease.
fn idle_clients(lab: &Lab) {
    let socket = lab.site.socket("h1");
    let crowd: Vec<UnixStream> = (0..600)
        .filter_map(|_| UnixStream::connect(&socket).ok())
        .collect();
    assert!(crowd.len() > 256, "{} are connected", crowd.len());
    let status = lab.status("h1").expect("an answer beside the crowd");
    assert!(status["lease_left"].as_f64() > Some(0.0), "{status}");
    lab.go_on();
}

/// A host gets power, and its address only after its daemon is there.
fn late_address(lab: &Lab) {
    let earlier = lab.incarnation("h3");
    lab.power_off("h3");
    lab.site.power_on("h3").expect("power on");
    let ip = |args: &[&str]| {
        let mut command = lab.site.program("h3", "ip").expect("power");
        let out = command.args(args).output().expect("runs");
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let shown = ip(&["-o", "-4", "addr", "show", "dev", "eth0"]);
    let address = shown.split_ascii_whitespace().nth(3).expect("an address");
    ip(&["addr", "flush", "dev", "eth0"]);
    lab.site.start_daemon("h3").expect("a daemon");
    lab.wait("h3 to say what is missing", || {
        let remarks = lab.status("h3")?["remarks"].to_string();
        let both =
            remarks.contains("link bridge is closed") && remarks.contains("no session can come in");
        if both { Ok(()) } else { Err(remarks) }
    });
    ip(&["addr", "add", address, "dev", "eth0"]);
    ip(&["route", "replace", "224.0.0.0/4", "dev", "eth0"]);
    lab.back("h2", "h3", earlier);
    lab.settled("h2");
}

/// A change that no quorum answers is unknown if it was proposed, and certainly not made if it was
/// not.
fn outcomes(lab: &mut Lab) {
    lab.signal("h3", "STOP");
    lab.site.cable("h1", false).expect("unplugged");
    let stop = ["guest", "stop", "g1"];
    let out = command(lab, "h2", &stop);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(
        said.contains("unknown") && !said.contains("nothing was changed"),
        "{said}"
    );
    let out = command(lab, "h2", &["guest", "stop", "g2"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    lab.site.cable("h1", true).expect("plugged");
    lab.signal("h3", "CONT");
    lab.wait("a quorum again", || {
        let status = lab.status("h2")?;
        let led = !status["view"]["coordinator"].is_null();
        let all = ["h1", "h2", "h3"]
            .iter()
            .all(|n| host(&status, n)["state"] == "member");
        if status["quorate"] == true && led && all {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    // Whatever became of the first one, the second was not made. What the first one proposed may be
    // decided at any time, so that it is outrun by its opposite, not looked at.
    let g2 = lab.wait("a row", || lab.guest("h2", "g2"));
    assert_eq!(g2["wanted"], "running");
    lab.wait("g1 to be wanted again", || {
        lab.ask("h2", &["guest", "start", "g1"])?;
        let row = lab.guest("h2", "g1")?;
        if row["wanted"] == "running" {
            Ok(())
        } else {
            Err(row.to_string())
        }
    });
    lab.settled("h2");
}

/// Whoever follows the events learns that the daemon has ended; so does the one who took the host
/// out of service.
fn followers(lab: &Lab) {
    let start = |args: &[&str]| {
        let socket = lab.site.socket("h3").display().to_string();
        Command::new(PROGRAM)
            .args(args)
            .args(["--socket", &socket])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started")
    };
    let follower = start(&["events", "--follow", "--json"]);
    let out = ended(start(&["host", "leave"]));
    assert!(out.status.success(), "{out:?}");
    let out = ended(follower);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let last: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["ended"], "recorded");
    lab.settled("h2");
}

fn command(lab: &Lab, by: &str, args: &[&str]) -> Output {
    let socket = lab.site.socket(by).display().to_string();
    let child = Command::new(PROGRAM)
        .args(args)
        .args(["--socket", &socket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    ended(child.expect("started"))
}
