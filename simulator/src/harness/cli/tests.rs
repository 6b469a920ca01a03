//! A hunt over something that does not repeat, and over something that does.

use super::{Cli, obey};
use crate::protocol::{Broken, Ctx, Promise, Protocol, Test, Told, Truth, Verdict};
use clap::Parser;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// Starts of all nodes of all runs: what no protocol may depend on.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// Tells how many nodes were ever started, or what `random` gives.
struct Counts<const GLOBAL: bool>;

impl<const GLOBAL: bool> Protocol for Counts<GLOBAL> {
    type Message = ();
    type Write = ();
    type Fact = u64;

    fn start(ctx: &mut Ctx<'_, Self>) -> Self {
        let number = if GLOBAL {
            STARTS.fetch_add(1, Ordering::Relaxed)
        } else {
            ctx.random(4, 1000)
        };
        ctx.tell(number);
        Counts
    }

    fn message(&mut self, _ctx: &mut Ctx<'_, Self>, _from: usize, _message: ()) {}
}

/// No node tells the number 3; in a program that counts starts, one of its first runs does, once.
#[derive(Default)]
struct NeverThree;

impl<const GLOBAL: bool> Promise<Counts<GLOBAL>> for NeverThree {
    fn told(&mut self, told: &Told<u64>, _truth: &Truth<'_, Counts<GLOBAL>>) -> Verdict {
        match told.fact {
            3 => Err(Broken::new("never three", "it was told").facts(told, "not 3")),
            _ => Ok(()),
        }
    }
}

fn hunts<const GLOBAL: bool>(words: &[&str]) -> ExitCode {
    let cli = Cli::try_parse_from(["sim", "hunt", "--jobs", "1"].iter().chain(words));
    let test = Test::<Counts<GLOBAL>, NeverThree>::new();
    obey(&test, cli.expect("words of the command").verb)
}

#[test]
fn a_broken_promise_that_does_not_break_again_is_no_clean_hunt() {
    for words in [
        &["--seeds", "1..20"][..],
        &["--seeds", "1..20", "--json", "--keep-going"],
    ] {
        STARTS.store(0, Ordering::Relaxed);
        assert_eq!(hunts::<true>(words), ExitCode::FAILURE, "{words:?}");
    }
    // Nothing breaks here, but the runs differ: one seed of a hundred runs twice.
    STARTS.store(100, Ordering::Relaxed);
    assert_eq!(hunts::<true>(&["--seeds", "99..102"]), ExitCode::FAILURE);
}

#[test]
fn what_repeats_is_clean() {
    assert_eq!(hunts::<false>(&["--seeds", "99..102"]), ExitCode::SUCCESS);
}
