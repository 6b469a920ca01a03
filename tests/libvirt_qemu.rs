//! The libvirt driver with a real libvirtd and a real QEMU: root, and a libvirtd of its own in a
//! mount namespace, whose files all lie in a temporary directory.
//!
//! `QUORATE_QEMU` names the emulator if it is not /usr/bin/qemu-system-x86_64.

#[cfg(not(feature = "libvirt"))]
#[test]
fn a_real_domain() {
    let (test, why) = ("libvirt_qemu", "built without the feature `libvirt`");
    println!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("QUORATE_SKIPPED") {
        use std::io::Write;
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        let mut file = file.expect("the file of skipped tests");
        writeln!(file, "{test}: {why}").expect("the file of skipped tests");
    }
}

#[cfg(feature = "libvirt")]
#[path = "libvirt_support/mod.rs"]
mod libvirt_support;

#[cfg(feature = "libvirt")]
mod qemu {
    use super::libvirt_support::sector::{self, Tell};
    use super::libvirt_support::{E, G, House, gate};
    use quorate::clock::Clock;
    use quorate::guardian::processes::{self, leader};
    use quorate::guardian::records::{self, GuestRecord};
    use quorate::hypervisor::{Driver, Gate, Gone, Notice};
    use quorate::libvirt::Libvirt;
    use quorate_membership::Token;
    use quorate_recovery::contract::GuestSeen;
    use quorate_recovery::guest::Probe;
    use quorate_recovery::observation::{Agent, Cause, GuestEvent, Held, Observation, Sample};
    use rustix::process::Signal;
    use std::time::{Duration, Instant};
    use tokio::sync::mpsc;

    fn seen(epoch: Token, paused: bool) -> Vec<GuestSeen> {
        vec![GuestSeen {
            guest: G,
            epoch,
            paused,
        }]
    }

    type Told = mpsc::UnboundedReceiver<Notice>;

    /// The next thing that is told.
    fn next(house: &House, told: &mut Told) -> Notice {
        let mut notice = None;
        house.until("something is told", || {
            notice = told.try_recv().ok();
            notice.is_some()
        });
        notice.expect("told")
    }

    /// Waits until the guest is seen reading its disk.
    fn works(house: &House, driver: &Libvirt) {
        let before = sampled(house, driver, "it is there", |_| true);
        sampled(house, driver, "it reads again", |s| {
            s.disk_requests > before.disk_requests
        });
    }

    /// The next end that is told.
    fn gone(house: &House, told: &mut Told) -> Gone {
        loop {
            if let Notice::Gone(gone) = next(house, told) {
                return gone;
            }
        }
    }

    /// Waits until this is told of the guest; what else happens to it meanwhile may be anything
    /// but an end.
    fn heard(house: &House, told: &mut Told, wanted: &GuestEvent) {
        loop {
            match next(house, told) {
                Notice::Seen(guest, _, Observation::Event(event)) => {
                    println!("told: {event:?}; wanted: {wanted:?}");
                    assert_eq!(guest, G);
                    if event == *wanted {
                        return;
                    }
                }
                other => panic!("{other:?} before {wanted:?}"),
            }
        }
    }

    /// A sample that shows what is waited for; `None` in between is a look that came to nothing.
    fn sampled(
        house: &House,
        driver: &Libvirt,
        what: &str,
        fits: impl Fn(&Sample) -> bool,
    ) -> Sample {
        let (mut found, mut last) = (None, Instant::now());
        house.until(what, || {
            let all = driver.sample();
            if last.elapsed() > Duration::from_secs(20) {
                last = Instant::now();
                println!("waiting for this: {what}; now: {all:?}");
            }
            let all = all.unwrap_or_default();
            assert!(all.len() <= 1, "{all:?}");
            found = all.into_iter().map(|(_, _, sample)| sample).find(&fits);
            found.is_some()
        });
        found.expect("found")
    }

    fn signal(house: &House, epoch: Token, signal: Signal) {
        let process = house.record(epoch).as_ref().and_then(leader).expect("runs");
        processes::signal(&process, signal).expect("signalled");
    }

    const PANIC: &str = "<panic model='isa'/>\n<video><model type='vga'/></video>\n";

    #[test]
    fn what_a_guest_does_to_itself_is_told_as_that() {
        let test = "what_a_guest_does_to_itself_is_told_as_that";
        let Some(house) = House::build(test) else {
            return;
        };
        house.long_lease();
        sector::install(&house.disk());
        let tell = |what| sector::tell(&house.disk(), what);
        let driver = house.driver();
        let (teller, mut told) = mpsc::unbounded_channel();
        driver.watch(teller).expect("watches");
        let spec = house.spec_with(PANIC);
        driver.create(G, E, &spec, &gate()).expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        heard(&house, &mut told, &GuestEvent::Continued);
        let first = sampled(&house, &driver, "it reads its disk", |s| {
            s.disk_requests.is_some_and(|n| n > 10)
        });
        assert_eq!((first.held, first.vcpus), (None, 1));
        assert_eq!((first.agent, &first.job), (Agent::None, &None));
        assert!(first.cpu_ns > 0, "{first:?}");

        let begun = Instant::now();
        tell(Tell::Panic);
        heard(&house, &mut told, &GuestEvent::Panicked);
        println!(
            "a panic is told {} ms after its order",
            begun.elapsed().as_millis()
        );
        assert_eq!(house.state(), "crashed", "it is kept as it is");
        let stands = sampled(&house, &driver, "it stands", |s| s.held.is_some());
        assert_eq!(stands.held, Some(Held::Other));
        driver
            .capture(G, E, "its kernel panicked", &gate())
            .expect("kept");
        let of = house.evidence().join("web1-000000000000beef");
        let one = std::fs::read_dir(of).expect("kept").next();
        let one = one.expect("one").expect("one").path();
        let size = |name: &str| std::fs::metadata(one.join(name)).map_or(0, |m| m.len());
        for name in [
            "why.txt",
            "events.txt",
            "samples.txt",
            "domain.xml",
            "stats.txt",
        ] {
            assert!(size(name) > 0, "{name}");
        }
        let picture = size("screen.ppm").max(size("screen.png"));
        let why = std::fs::read_to_string(one.join("why.txt")).expect("written");
        assert!(picture > 0, "{why}");
        let events = std::fs::read_to_string(one.join("events.txt")).expect("written");
        assert!(events.contains("Panicked"), "{events}");

        tell(Tell::Nothing);
        driver.reset(G, E, &gate()).expect("reset");
        // A reset that was asked for is told or not: two within a moment are told once.
        works(&house, &driver);
        assert_eq!(house.state(), "running");
        // A panic in its next life inside the same process is news again.
        tell(Tell::Panic);
        heard(&house, &mut told, &GuestEvent::Panicked);
        tell(Tell::Nothing);
        driver.reset(G, E, &gate()).expect("reset");
        works(&house, &driver);
        // It resets itself: told, and no end.
        tell(Tell::Reset);
        heard(&house, &mut told, &GuestEvent::Rebooted);
        assert!(house.record(E).as_ref().and_then(leader).is_some());
        tell(Tell::Nothing);
        works(&house, &driver);

        let begun = Instant::now();
        tell(Tell::Off);
        let end = gone(&house, &mut told);
        println!(
            "a shutdown is told {} ms after its order",
            begun.elapsed().as_millis()
        );
        assert_eq!((end.epoch, end.cause), (E, Cause::ShutDown), "{}", end.how);
        house.until("nothing is left", || driver.list() == Ok(vec![]));
        assert_eq!(house.files(), 0);
    }

    #[test]
    fn samples_tell_what_works_from_what_does_not() {
        let test = "samples_tell_what_works_from_what_does_not";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        sector::install(&house.disk());
        let driver = house.driver();
        let (teller, mut told) = mpsc::unbounded_channel();
        driver.watch(teller).expect("watches");
        let channel = "<channel type='unix'><target type='virtio' \
                       name='org.qemu.guest_agent.0'/></channel>\n";
        let spec = house.spec_with(channel);
        driver.create(G, E, &spec, &gate()).expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        sampled(&house, &driver, "it reads its disk", |s| {
            s.disk_requests.is_some_and(|n| n > 10)
        });
        // Nobody is at the other end of the channel.
        let silent = sampled(&house, &driver, "its agent was asked", |s| {
            s.agent != Agent::None
        });
        assert_eq!(silent.agent, Agent::Silent);

        // Held by hand: nothing moves, and the reason is there.
        house.virsh(&["suspend", "web1"]).expect("suspended");
        let held = sampled(&house, &driver, "it is held", |s| s.held.is_some());
        assert_eq!(held.held, Some(Held::Told));
        let still = sampled(&house, &driver, "another", |s| s.at > held.at);
        // The thread may have been on its way to bed.
        assert!(
            still.cpu_ns - held.cpu_ns < 10_000_000,
            "{held:?} {still:?}"
        );
        assert_eq!(still.disk_requests, held.disk_requests);
        let why = driver.reset(G, E, &gate()).expect_err("held");
        assert!(why.contains("Told"), "{why}");
        house.virsh(&["resume", "web1"]).expect("resumed");
        sampled(&house, &driver, "it goes on", |s| {
            s.held.is_none() && s.disk_requests > held.disk_requests
        });

        // QEMU stopped: libvirt's calls hang, a sample does not.
        signal(&house, E, Signal::STOP);
        let stopped = sampled(&house, &driver, "its process is stopped", |s| {
            s.held.is_some()
        });
        assert_eq!(
            (stopped.held, stopped.disk_requests),
            (Some(Held::Other), None)
        );
        signal(&house, E, Signal::CONT);
        sampled(&house, &driver, "it answers again", |s| {
            s.held.is_none() && s.disk_requests.is_some()
        });

        // libvirt stopped: blind, and nothing follows.
        house.stop_libvirtd();
        assert!(driver.sample().is_err());
        assert!(driver.list().is_err());
        let why = driver.answering().expect_err("silent");
        assert!(why.contains("no answer for"), "{why}");
        house.continue_libvirtd();
        house.until("libvirt answers", || driver.list().is_ok());
        assert_eq!(driver.answering(), Ok(()));

        // A dead kernel: its CPU turns, its disk does not.
        sector::tell(&house.disk(), Tell::Busy);
        let mut last = sampled(&house, &driver, "it is there", |s| {
            s.disk_requests.is_some()
        });
        house.until("only its CPU moves", || {
            let now = sampled(&house, &driver, "a later one", |s| {
                s.disk_requests.is_some() && s.cpu_ns > last.cpu_ns
            });
            let flat = now.disk_requests == last.disk_requests;
            let much = (now.cpu_ns - last.cpu_ns) * 2 > now.at.since(last.at).as_nanos() as u64;
            // On a busy host it gets less, and that shows.
            let waits = now.wait_ns.zip(last.wait_ns);
            let waited = waits.is_some_and(|(now, then)| now > then);
            last = now;
            flat && (much || waited)
        });
        driver.end(G, E, &gate()).expect("ended");
        while let Ok(notice) = told.try_recv() {
            assert!(!matches!(notice, Notice::Gone(_)), "{notice:?}");
        }
    }

    #[test]
    fn an_agent_is_asked_and_runs_probes() {
        let test = "an_agent_is_asked_and_runs_probes";
        let Some(house) = House::build(test) else {
            return;
        };
        let Some(spec) = house.linux(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        driver.create(G, E, &spec, &gate()).expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        sampled(&house, &driver, "the agent answers", |s| {
            s.agent == Agent::Answered
        });
        let probe = |argv: &[&str], limit_ms| {
            let probe = Probe {
                argv: argv.iter().map(|w| (*w).to_owned()).collect(),
                every_ms: 1000,
                limit_ms,
                failures: 1,
            };
            let limit = Duration::from_millis(limit_ms);
            let gate = Gate::new(None, Clock.now() + limit);
            driver.probe(G, E, &probe, &gate)
        };
        let shell = |line, limit_ms| probe(&["/bin/sh", "-c", line], limit_ms);
        assert_eq!(shell("exit 0", 60_000), Ok(Ok(())));
        let bad = shell("echo all is lost >&2; exit 3", 60_000);
        assert_eq!(bad, Ok(Err("exit status 3: all is lost".to_owned())));
        let none = probe(&["/nonexistent"], 60_000);
        assert!(none.is_err(), "it was not run: {none:?}");
        // It is still at work when its time is over; no second is started beside it.
        house.until("the time was enough to start it", || {
            matches!(shell("sleep 3600", 2000), Ok(Err(_)))
        });
        house.until("it is known to run", || {
            shell("exit 0", 5000) == Ok(Err("the run before it has not ended".to_owned()))
        });
        driver.end(G, E, &gate()).expect("ended");

        let next = Token(6);
        driver.create(G, next, &spec, &gate()).expect("created");
        driver.resume(G, next, &gate()).expect("runs");
        sampled(&house, &driver, "the agent answers", |s| {
            s.agent == Agent::Answered
        });
        // The agent alone is stopped: it is silent, and the guest is not.
        let line = "/bin/busybox killall -STOP qemu-ga";
        let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        let probe = Probe {
            argv,
            every_ms: 1000,
            limit_ms: 5000,
            failures: 1,
        };
        let short = Gate::new(None, Clock.now() + Duration::from_secs(5));
        let ran = driver.probe(G, next, &probe, &short);
        assert!(ran.is_err(), "the agent is away: nothing follows; {ran:?}");
        let silent = sampled(&house, &driver, "it is silent", |s| {
            s.agent == Agent::Silent
        });
        assert_eq!(silent.held, None);
        sampled(&house, &driver, "its disk is not", |s| {
            s.agent == Agent::Silent && s.disk_requests > silent.disk_requests
        });
        driver.end(G, next, &gate()).expect("ended");
    }

    #[test]
    fn a_domain_is_a_registered_process_before_it_runs() {
        let test = "a_domain_is_a_registered_process_before_it_runs";
        let Some(house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        driver
            .create(G, E, &house.spec(), &gate())
            .expect("created");
        let record = house.record(E).expect("registered");
        assert!(leader(&record).is_some(), "the process is there");
        assert_eq!(house.state(), "paused");
        assert_eq!(driver.list(), Ok(seen(E, true)));
        driver
            .create(G, E, &house.spec(), &gate())
            .expect("is that guest");
        driver.resume(G, E, &gate()).expect("runs");
        assert_eq!(house.state(), "running");
        assert_eq!(driver.list(), Ok(seen(E, false)));
        assert!(driver.create(G, Token(9), &house.spec(), &gate()).is_err());
        driver.pause(G, E, &gate()).expect("held");
        assert_eq!(house.state(), "paused");
        // The other hypervisor of this host leaves it alone.
        let embedded = house.embedded();
        assert_eq!(embedded.list(), Ok(vec![]));
        embedded.end(G, Token(4), &gate()).expect("nothing so old");
        assert_eq!(house.state(), "paused");
        // A daemon that comes back finds it.
        let next = house.driver();
        assert_eq!(next.list(), Ok(seen(E, true)));
        next.end(G, E, &gate()).expect("ended");
        assert!(leader(&record).is_none());
        assert_eq!(next.list(), Ok(vec![]));
        assert_eq!(house.files(), 0);
    }

    #[test]
    fn the_guardian_ends_it_whatever_libvirt_does() {
        let test = "the_guardian_ends_it_whatever_libvirt_does";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        driver
            .create(G, E, &house.spec(), &gate())
            .expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        let record = house.record(E).expect("registered");
        house.stop_libvirtd();
        house.end_lease();
        house.guard();
        house.until("QEMU is gone", || leader(&record).is_none());
        assert!(driver.resume(G, E, &gate()).is_err(), "the lease is over");
        house.continue_libvirtd();
        house.until("libvirt says so too", || driver.list() == Ok(vec![]));
    }

    #[test]
    fn a_silent_libvirt_is_no_obstacle_to_an_end_and_no_proof_of_one() {
        let test = "a_silent_libvirt_is_no_obstacle_to_an_end_and_no_proof_of_one";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        driver
            .create(G, E, &house.spec(), &gate())
            .expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        let record = house.record(E).expect("registered");
        house.stop_libvirtd();
        assert!(driver.list().is_err(), "blind");
        driver.end(G, E, &gate()).expect("ended by its process");
        assert!(leader(&record).is_none());

        house.continue_libvirtd();
        house.until("libvirt answers", || driver.list() == Ok(vec![]));

        // A start that hangs in libvirt is no start that failed.
        let later = Token(6);
        let spec = house.spec();
        std::thread::scope(|scope| {
            let order = scope.spawn(|| {
                let short = Gate::new(None, Clock.now() + Duration::from_secs(5));
                driver.create(G, later, &spec, &short)
            });
            // Written right before libvirt is asked; QEMU takes longer than this look.
            house.until("libvirt is about to be asked", || house.files() > 0);
            house.stop_libvirtd();
            order.join().expect("no panic").expect_err("no answer")
        });
        let short = Gate::new(None, Clock.now() + Duration::from_secs(2));
        let why = driver
            .end(G, later, &short)
            .expect_err("libvirt may have it still");
        assert!(why.contains("libvirt has not answered"), "{why}");
        house.continue_libvirtd();
        driver.end(G, later, &gate()).expect("now it is known");
        house.until("nothing came of it", || driver.list() == Ok(vec![]));
        assert_eq!(house.state(), "");
        // And the next start is free.
        driver
            .create(G, Token(7), &house.spec(), &gate())
            .expect("created");
        driver.end(G, Token(7), &gate()).expect("ended");
    }

    #[test]
    fn ends_are_told_with_and_without_libvirt() {
        let test = "ends_are_told_with_and_without_libvirt";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        let (tell, mut told) = mpsc::unbounded_channel();
        driver.watch(tell).expect("watches");
        let end = |record: &GuestRecord| {
            let process = leader(record).expect("runs");
            processes::signal(&process, Signal::KILL).expect("ended");
        };
        let start = |house: &House, epoch| {
            driver
                .create(G, epoch, &house.spec(), &gate())
                .expect("created");
            driver.resume(G, epoch, &gate()).expect("runs");
            house.record(epoch).expect("registered")
        };
        let record = start(&house, E);
        let begun = Instant::now();
        end(&record);
        let Gone {
            epoch, how, cause, ..
        } = gone(&house, &mut told);
        println!(
            "an end is told {} ms after it: {how}",
            begun.elapsed().as_millis()
        );
        // libvirt may take longer to say how than the guest can wait.
        assert_eq!((epoch, cause), (E, Cause::Died));
        assert!(how.starts_with("QEMU ended"), "{how}");
        // libvirt may still be clearing up, which no poll takes for a guest.
        assert_eq!(driver.list(), Ok(vec![]));
        // Its next life waits for that; and then a libvirt that cannot say anything.
        let record = start(&house, Token(6));
        house.stop_libvirtd();
        let begun = Instant::now();
        end(&record);
        let Gone {
            epoch, how, cause, ..
        } = gone(&house, &mut told);
        println!(
            "without libvirt {} ms after it: {how}",
            begun.elapsed().as_millis()
        );
        assert_eq!((epoch, cause), (Token(6), Cause::Died));
        assert!(how.contains("libvirt has not said"), "{how}");
        house.continue_libvirtd();
        // A libvirtd that is gone and comes back is blindness between.
        let record = start(&house, Token(7));
        house.restart_libvirtd(|| assert!(driver.list().is_err(), "blind"));
        house.until("it is seen again", || {
            driver.list() == Ok(seen(Token(7), false))
        });
        assert!(leader(&record).is_some(), "the guest did not notice");
        driver.end(G, Token(7), &gate()).expect("ended");
        while let Ok(notice) = told.try_recv() {
            let ended = matches!(notice, Notice::Gone(_));
            assert!(!ended, "an end that was ordered is not told: {notice:?}");
        }
        // What is ended from outside did not shut itself down.
        start(&house, Token(8));
        house.virsh(&["destroy", "web1"]).expect("destroyed");
        let Gone { epoch, cause, .. } = gone(&house, &mut told);
        assert_eq!((epoch, cause), (Token(8), Cause::Died));
        start(&house, Token(9));
        signal(&house, Token(9), Signal::TERM);
        let Gone {
            epoch, how, cause, ..
        } = gone(&house, &mut told);
        assert_eq!((epoch, cause), (Token(9), Cause::Died), "{how}");
    }

    #[test]
    fn a_start_called_off_by_the_guardian_never_runs() {
        let test = "a_start_called_off_by_the_guardian_never_runs";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        let spec = house.spec();
        let why = std::thread::scope(|scope| {
            let order = scope.spawn(|| {
                let gate = Gate::new(None, Clock.now() + Duration::from_secs(60));
                driver.create(G, E, &spec, &gate)
            });
            // Written right before libvirt is asked; QEMU takes longer than this look.
            house.until("libvirt is about to be asked", || house.files() > 0);
            house.stop_libvirtd();
            house.end_lease();
            house.guard();
            house.until("the start is called off", || house.intents() == 0);
            house.continue_libvirtd();
            order
                .join()
                .expect("no panic")
                .expect_err("the lease is over")
        });
        println!("the order ended so: {why}");
        house.until("nothing of it is left", || driver.list() == Ok(vec![]));
        assert!(records::read::<GuestRecord>(&house.run.guest(G, E)).is_ok_and(|r| r.is_none()));
        assert!(!house.marked(), "no process carries its marks");
    }

    #[test]
    fn a_frozen_qemu_hides_nobody_and_ends() {
        let test = "a_frozen_qemu_hides_nobody_and_ends";
        let Some(house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        driver
            .create(G, E, &house.spec(), &gate())
            .expect("created");
        driver.resume(G, E, &gate()).expect("runs");
        let process = house.record(E).as_ref().and_then(leader).expect("runs");
        processes::signal(&process, Signal::STOP).expect("frozen");
        let short = Gate::new(None, Clock.now() + Duration::from_secs(1));
        assert!(driver.pause(G, E, &short).is_err(), "QEMU does not answer");
        assert_eq!(
            driver.list(),
            Ok(seen(E, false)),
            "others are seen all the same"
        );
        driver.end(G, E, &gate()).expect("ended");
        house.until("libvirt has taken note", || driver.list() == Ok(vec![]));
        driver
            .create(G, Token(6), &house.spec(), &gate())
            .expect("the next is free");
        driver.end(G, Token(6), &gate()).expect("ended");
    }

    #[test]
    fn a_libvirtd_that_is_lost_during_a_start_leaves_nothing() {
        let test = "a_libvirtd_that_is_lost_during_a_start_leaves_nothing";
        let Some(mut house) = House::build(test) else {
            return;
        };
        house.long_lease();
        let driver = house.driver();
        let spec = house.spec();
        std::thread::scope(|scope| {
            let order = scope.spawn(|| driver.create(G, E, &spec, &gate()));
            house.until("libvirt is about to be asked", || house.files() > 0);
            house.restart_libvirtd(|| {
                let why = order.join().expect("no panic").expect_err("no libvirt");
                println!("the order ended so: {why}");
                let short = Gate::new(None, Clock.now() + Duration::from_secs(1));
                let end = driver.end(G, E, &short);
                assert!(end.is_err(), "what libvirt did with it nobody knows");
            });
        });
        // Also for a daemon that knows only what the run directory says.
        drop(driver);
        let driver = house.driver();
        driver.end(G, E, &gate()).expect("now it is known");
        assert_eq!(driver.list(), Ok(vec![]));
        assert!(!house.marked(), "no process carries its marks");
        assert_eq!((house.files(), house.state()), (0, String::new()));
    }
}
