//! Threads that stand ready for when no new one can be started: a guest that fills the table of
//! processes must not keep this host from ending it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

/// A call that may hang.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// As many calls may hang before the next one waits.
const SPARE: usize = 4;

/// The way to the spare threads.
fn queue() -> &'static Mutex<Option<Sender<Job>>> {
    static ONE: OnceLock<Mutex<Option<Sender<Job>>>> = OnceLock::new();
    ONE.get_or_init(|| Mutex::new(start().ok()))
}

fn start() -> io::Result<Sender<Job>> {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..SPARE {
        let receiver = Arc::clone(&receiver);
        thread::Builder::new()
            .name("spare".into())
            .spawn(move || serve(&receiver))?;
    }
    Ok(sender)
}

fn serve(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Starts the spare threads while there is room for them, and the one that looks through all
/// processes.
pub(super) fn ready() {
    drop(queue().lock());
    if let Err(e) = crate::guardian::scan_ready() {
        tracing::error!("no thread to look through the processes: {e}");
    }
}

/// Runs a job on a thread of its own, or on a spare one.
///
/// # Errors
/// There is neither.
pub(super) fn on_thread(name: &str, job: Job) -> io::Result<()> {
    let slot = Arc::new(Mutex::new(Some(job)));
    let theirs = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<Job>>| {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    };
    let begun = thread::Builder::new().name(name.into()).spawn(move || {
        if let Some(job) = take(&theirs) {
            job();
        }
    });
    let Err(e) = begun else {
        return Ok(());
    };
    let queue = queue().lock().unwrap_or_else(PoisonError::into_inner);
    let sent = queue.as_ref().zip(take(&slot));
    match sent.map(|(queue, job)| queue.send(job)) {
        Some(Ok(())) => Ok(()),
        _ => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_threads_take_turns_and_one_that_hangs_holds_up_no_other() {
        let (tell, told) = channel();
        let (go_on, hangs) = channel::<()>();
        let sender = start().expect("threads");
        let hanging: Job = Box::new(move || {
            let _ = hangs.recv();
        });
        sender.send(hanging).expect("taken");
        for number in 0..32 {
            let tell = tell.clone();
            let job: Job = Box::new(move || tell.send(number).expect("heard"));
            sender.send(job).expect("taken");
        }
        let mut all: Vec<i32> = told.iter().take(32).collect();
        all.sort_unstable();
        assert_eq!(all, (0..32).collect::<Vec<_>>());
        drop(go_on);
    }

    #[test]
    fn a_job_runs_once_on_a_thread_of_its_own() {
        let (tell, told) = channel();
        let job: Job = Box::new(move || {
            let name = thread::current().name().map(str::to_owned);
            tell.send(name).expect("heard");
        });
        on_thread("mine", job).expect("begun");
        assert_eq!(told.recv(), Ok(Some("mine".to_owned())));
        assert!(told.recv().is_err(), "once");
    }
}
