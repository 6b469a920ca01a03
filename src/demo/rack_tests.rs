//! A rack without daemons: what power off and a pulled cable do, and that nothing stays behind.

use super::*;

/// Says why a test cannot run here, on the terminal and in the file the test script shows.
pub(crate) fn skipped(test: &str) -> bool {
    let Some(why) = Rack::missing() else {
        return false;
    };
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        let mut file = log(Path::new(&path)).expect("the file of skipped tests");
        writeln!(file, "{test}: {why}").expect("the file of skipped tests");
    }
    true
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    !after.is_empty() && !after.trim_start().starts_with('Z')
}

/// Whether `to` answers a neighbour solicitation of `from`: no privilege, no ping program.
fn hears(from: &Machine, to: &Machine) -> bool {
    const PROBE: &str = "ip neigh flush dev eth0; echo x >\"/dev/udp/$1/9\"; \
        for i in {1..100}; do case $(ip neigh show to \"$1\" dev eth0) in \
            *REACHABLE*|*STALE*|*DELAY*) exit 0;; *FAILED*) exit 1;; esac; sleep 0.05; done; exit 2";
    let status = from
        .command("bash")
        .args(["-c", PROBE, "probe"])
        .arg(to.address().to_string())
        .stderr(Stdio::null())
        .status()
        .expect("nsenter");
    match status.code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("the probe ended with {other:?}"),
    }
}

#[test]
fn power_off_ends_everything_and_forgets_memory_while_a_cable_ends_nothing() {
    if skipped("power_off_ends_everything_and_forgets_memory_while_a_cable_ends_nothing") {
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let run = |name: &str| dir.path().join(name).join("run");
    let rack = Rack::build().expect("rack");
    let mut h1 = rack.power_on("h1", 1, &run("h1")).expect("h1");
    let mut h2 = rack.power_on("h2", 2, &run("h2")).expect("h2");

    // A process that left its parent, as a guest leaves a daemon that ends.
    let mark = dir.path().join("mark");
    let script = "echo x > \"$1/kept\"; (while :; do date +%s%N > \"$2\"; sleep 0.01; done) & \
                  hostname";
    let out = h1
        .command("sh")
        .args(["-c", script, "sh"])
        .arg(run("h1"))
        .arg(&mark)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut out = out;
    let mut line = String::new();
    let stdout = out.stdout.take().expect("pipe");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("hostname");
    assert_eq!(line, "h1\n");
    assert!(
        !run("h1").join("kept").exists(),
        "its memory file system is its own"
    );
    let read = || fs::read_to_string(&mark).unwrap_or_default();
    wait("the orphan to write", || !read().is_empty());

    assert!(hears(&h2, &h1), "hosts hear each other");
    rack.cable(&h1, false).expect("cable");
    let before = read();
    wait("the orphan to go on without a cable", || read() != before);
    assert!(h1.alive() && !hears(&h2, &h1));
    rack.cable(&h1, true).expect("cable");
    assert!(hears(&h2, &h1));

    h1.power_off().expect("power off");
    let last = read();
    h1 = rack.power_on("h1", 1, &run("h1")).expect("h1 again");
    let kept = h1.command("ls").arg(run("h1")).output().expect("ls");
    assert_eq!(
        String::from_utf8_lossy(&kept.stdout),
        "",
        "memory does not outlive power"
    );
    assert_eq!(read(), last, "nothing outlives power");
    assert!(hears(&h2, &h1), "the new boot has a cable");

    let pids = [rack.pid, h1.pid, h2.pid];
    assert!(pids.iter().all(|pid| alive(*pid)) && h2.alive());
    drop(rack);
    wait("every host to go with the rack", || {
        !pids.iter().any(|pid| alive(*pid))
    });
}
