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
    use super::libvirt_support::{E, G, House, gate};
    use quorate::clock::Clock;
    use quorate::guardian::processes::{self, leader};
    use quorate::guardian::records::{self, GuestRecord};
    use quorate::hypervisor::{Driver, Gate, Gone, Notice};
    use quorate_membership::Token;
    use quorate_recovery::contract::GuestSeen;
    use rustix::process::Signal;
    use std::time::Duration;
    use tokio::sync::mpsc;

    fn seen(epoch: Token, paused: bool) -> Vec<GuestSeen> {
        vec![GuestSeen {
            guest: G,
            epoch,
            paused,
        }]
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
        end(&record);
        let Notice::Gone(Gone { epoch, how, .. }) = told.blocking_recv().expect("told") else {
            panic!("not gone");
        };
        // libvirt may take longer to say how than the guest can wait.
        assert_eq!(epoch, E);
        assert!(how.starts_with("QEMU ended"), "{how}");
        // Its next life, and a libvirt that cannot say anything.
        let record = start(&house, Token(6));
        house.stop_libvirtd();
        end(&record);
        let Notice::Gone(Gone { epoch, how, .. }) = told.blocking_recv().expect("told") else {
            panic!("not gone");
        };
        assert_eq!(epoch, Token(6));
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
        assert!(
            told.try_recv().is_err(),
            "an end that was ordered is not told"
        );
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
