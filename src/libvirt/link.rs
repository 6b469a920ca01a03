//! The way to libvirt: every call on a thread of its own, with a deadline, over a connection that
//! no other call uses meanwhile.
//!
//! A connection of its own is not for speed. Where several threads share one, or keep-alive
//! messages interrupt a call, unfixed releases of libvirt's client (CVE-2024-4418) leave a pointer
//! into the stack of a call that has returned, and write there later. So calls never share, and
//! keep-alive stays off: a libvirt that hangs is known by the deadline.

use super::events::{self, Event};
use crate::hypervisor::lock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use virt::connect::Connect;
use virt::error::{Error, ErrorDomain, ErrorDomainEnum, ErrorNumber, ErrorNumberEnum};

/// So many orders and polls may hang before no more are made.
const HANGING_MAX: usize = 24;
/// So many connections are kept for later calls.
const IDLE_MAX: usize = 3;

/// What runs the domains behind a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// QEMU: a domain is a process.
    Qemu,
    /// libvirt's mock hypervisor (`test:`), which runs nothing: for tests.
    Mock,
}

/// Why a call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// In words.
    pub why: String,
    /// What follows from it.
    pub kind: Fault,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// libvirt was not reached, or it answered no: it did nothing and will do nothing.
    No,
    /// The connection was lost: nobody knows what libvirt did or will still do.
    Lost,
    /// The call has not come back.
    Hangs,
}

impl Failure {
    /// libvirt answered, and the answer is of no use.
    pub(super) fn no(why: impl Into<String>) -> Failure {
        Failure {
            why: why.into(),
            kind: Fault::No,
        }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> String {
        failure.why
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        // These come from the way to libvirt, not from libvirt.
        let lost = matches!(e.domain(), ErrorDomainEnum::Known(ErrorDomain::Rpc));
        Failure {
            why: format!("libvirt: {}", e.message()),
            kind: if lost { Fault::Lost } else { Fault::No },
        }
    }
}

/// Whether an error has this number.
pub(super) fn is(e: &Error, number: ErrorNumber) -> bool {
    e.code() == ErrorNumberEnum::Known(number)
}

/// A way to one libvirt.
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    kind: Kind,
    /// Connections that no call uses.
    idle: Mutex<Vec<Connect>>,
    /// The connection events come by; no call uses it.
    ear: Mutex<Option<Connect>>,
    /// The ear is being opened.
    opening: AtomicBool,
    /// Calls that have not come back, and how many may be before no more are made. They come back
    /// when libvirt does or ends.
    hanging: AtomicUsize,
    hanging_max: usize,
    events: Sender<Event>,
}

impl Link {
    /// A link to `uri`; opened by its first call. Events of every connection go to `events`.
    pub(super) fn new(uri: &str, events: Sender<Event>) -> Link {
        Link::bounded(uri, events, HANGING_MAX)
    }

    /// A link for looks, which never listens: at most `hanging_max` of its calls are under way.
    pub(super) fn deaf(uri: &str, hanging_max: usize) -> Link {
        let (nowhere, _) = mpsc::channel();
        Link::bounded(uri, nowhere, hanging_max)
    }

    fn bounded(uri: &str, events: Sender<Event>, hanging_max: usize) -> Link {
        let kind = if uri.starts_with("test:") {
            Kind::Mock
        } else {
            Kind::Qemu
        };
        Link {
            shared: Arc::new(Shared {
                uri: uri.to_owned(),
                kind,
                idle: Mutex::default(),
                ear: Mutex::default(),
                opening: AtomicBool::new(false),
                hanging: AtomicUsize::new(0),
                hanging_max,
                events,
            }),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Sees to it that events come, without waiting for it. To be called now and then: a lost
    /// connection is opened anew. What happened between is for polls to find.
    pub(super) fn listen(&self) {
        let mut ear = lock(&self.shared.ear);
        if ear.as_ref().is_some_and(alive) || self.shared.opening.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(lost) = ear.take() {
            tracing::warn!("{}: the connection is lost", self.shared.uri);
            part(lost);
        }
        drop(ear);
        let shared = Arc::clone(&self.shared);
        let begun = std::thread::Builder::new()
            .name("libvirt-ear".into())
            .spawn(move || {
                shared.open_ear();
                shared.opening.store(false, Ordering::SeqCst);
            });
        if let Err(e) = begun {
            self.shared.opening.store(false, Ordering::SeqCst);
            tracing::error!("no thread to listen to libvirt: {e}");
        }
    }

    /// Whether events come.
    #[cfg(test)]
    pub(super) fn listens(&self) -> bool {
        lock(&self.shared.ear).as_ref().is_some_and(alive)
    }

    /// Asks libvirt something and waits for the answer until `limit` is over. The call itself may
    /// go on after that; what it does then is its own care.
    pub(super) fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        ask: impl FnOnce(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let answered = self.ask(ask)?;
        let (why, kind) = match answered.recv_timeout(limit) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {
                let limit = limit.as_millis();
                let why = format!("libvirt has not answered within {limit} ms");
                (why, Fault::Hangs)
            }
            // It panicked, which libvirt does not know.
            Err(RecvTimeoutError::Disconnected) => {
                ("a call of libvirt broke off".to_owned(), Fault::Lost)
            }
        };
        Err(Failure { why, kind })
    }

    /// Asks libvirt something on a thread of its own and waits for nothing: the answer comes by
    /// what this gives.
    ///
    /// # Errors
    /// Too many calls are under way, or there is no thread.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Receiver<Result<T, Failure>>, Failure> {
        let shared = Arc::clone(&self.shared);
        let max = shared.hanging_max;
        if shared.hanging.load(Ordering::SeqCst) >= max {
            let why = format!("libvirt: {max} calls have not been answered");
            return Err(Failure::no(why));
        }
        shared.hanging.fetch_add(1, Ordering::SeqCst);
        let (answer, answered) = mpsc::channel();
        let called = std::thread::Builder::new()
            .name("libvirt-call".into())
            .spawn(move || {
                let counted = Counted(shared);
                let result = counted.0.connection().and_then(|c| {
                    let result = ask(&c).map_err(|mut failure| {
                        // An error on a lost connection says nothing of what was done.
                        if !alive(&c) {
                            failure.kind = Fault::Lost;
                        }
                        failure
                    });
                    counted.0.give_back(c);
                    result
                });
                drop(counted);
                let _ = answer.send(result);
            });
        if let Err(e) = called {
            self.shared.hanging.fetch_sub(1, Ordering::SeqCst);
            return Err(Failure::no(format!("no thread for libvirt: {e}")));
        }
        Ok(answered)
    }
}

/// Counts a call as hanging for as long as it lasts, also if it panics.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

fn alive(connect: &Connect) -> bool {
    matches!(connect.is_alive(), Ok(true))
}

impl Shared {
    /// A connection that is this call's alone. Runs on the thread of the call, for it may hang.
    fn connection(&self) -> Result<Connect, Failure> {
        loop {
            let idle = lock(&self.idle).pop();
            match idle {
                Some(connect) if alive(&connect) => return Ok(connect),
                Some(lost) => part(lost),
                None => return self.connect(),
            }
        }
    }

    fn give_back(&self, connect: Connect) {
        let mut idle = lock(&self.idle);
        if alive(&connect) && idle.len() < IDLE_MAX {
            idle.push(connect);
        } else {
            drop(idle);
            part(connect);
        }
    }

    fn connect(&self) -> Result<Connect, Failure> {
        events::start_loop().map_err(Failure::no)?;
        let lost = |e: Error| Failure::no(format!("{}: {}", self.uri, e.message()));
        let connect = Connect::open(Some(&self.uri)).map_err(lost)?;
        let kind = connect.driver_type().map_err(lost)?;
        let expected = match self.kind {
            Kind::Qemu => "QEMU",
            Kind::Mock => "TEST",
        };
        if !kind.eq_ignore_ascii_case(expected) {
            let uri = &self.uri;
            let why = format!("{uri}: found the hypervisor {kind}, {expected} is expected");
            return Err(Failure::no(why));
        }
        Ok(connect)
    }

    /// Opens the connection events come by.
    fn open_ear(&self) {
        let opened = self.connect().and_then(|connect| {
            events::register(&connect, &self.events).map_err(Failure::no)?;
            Ok(connect)
        });
        match opened {
            Ok(connect) => *lock(&self.ear) = Some(connect),
            // Polls find what events would have told; they only take longer.
            Err(f) => {
                tracing::debug!("no events: {}", f.why);
                return;
            }
        }
        // libvirt looks at its emulators when it is first asked, which takes seconds that the
        // first start does not have.
        if let Ok(connect) = self.connect() {
            let _ = connect.capabilities();
            self.give_back(connect);
        }
    }
}

/// Closes a connection where nobody waits: libvirt is asked for it and may not answer.
fn part(connect: Connect) {
    let begun = std::thread::Builder::new()
        .name("libvirt-close".into())
        .spawn(move || drop(connect));
    if let Err(e) = begun {
        tracing::error!("no thread to close a connection of libvirt: {e}");
    }
}
