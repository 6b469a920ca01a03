//! The connection to libvirt: every call on a thread of its own, with a deadline; opened anew
//! when it is lost.

use super::events::{self, Event};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use virt::connect::Connect;
use virt::error::{Error, ErrorDomain, ErrorDomainEnum, ErrorNumber, ErrorNumberEnum};

/// A question to a libvirt that does not answer is repeated this often before the connection is
/// given up; a stopped libvirt is noticed after about eight seconds.
const KEEP_ALIVE: (i32, u32) = (2, 3);
/// So many calls may hang before no more are made. They come back when libvirt does or ends.
const HANGING_MAX: usize = 24;

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
    open: Mutex<Option<Connect>>,
    hanging: AtomicUsize,
    events: Sender<Event>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A link to `uri`; opened by its first call. Events of every connection go to `events`.
    pub(super) fn new(uri: &str, events: Sender<Event>) -> Link {
        let kind = if uri.starts_with("test:") {
            Kind::Mock
        } else {
            Kind::Qemu
        };
        Link {
            shared: Arc::new(Shared {
                uri: uri.to_owned(),
                kind,
                open: Mutex::default(),
                hanging: AtomicUsize::new(0),
                events,
            }),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Asks libvirt something and waits for the answer until `limit` is over. The call itself may
    /// go on after that; what it does then is its own care.
    pub(super) fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        ask: impl FnOnce(&Connect) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        if shared.hanging.load(Ordering::SeqCst) >= HANGING_MAX {
            let why = format!("libvirt: {HANGING_MAX} calls have not been answered");
            return Err(Failure::no(why));
        }
        shared.hanging.fetch_add(1, Ordering::SeqCst);
        let (answer, answered) = mpsc::channel();
        let called = std::thread::Builder::new()
            .name("libvirt-call".into())
            .spawn(move || {
                let counted = Counted(shared);
                let result = counted.0.connection().and_then(|c| {
                    // An error on a connection that is lost says nothing of what was done.
                    ask(&c).map_err(|mut failure| {
                        if !matches!(c.is_alive(), Ok(true)) {
                            failure.kind = Fault::Lost;
                        }
                        failure
                    })
                });
                counted.0.drop_if_lost();
                drop(counted);
                let _ = answer.send(result);
            });
        if let Err(e) = called {
            self.shared.hanging.fetch_sub(1, Ordering::SeqCst);
            return Err(Failure::no(format!("no thread for libvirt: {e}")));
        }
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
}

/// Counts a call as hanging for as long as it lasts, also if it panics.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// The connection that is open, or a new one. Runs on the thread of a call, for it may hang.
    fn connection(&self) -> Result<Connect, Failure> {
        self.drop_if_lost();
        if let Some(open) = lock(&self.open).as_ref() {
            return Ok(open.clone());
        }
        let new = self.connect()?;
        let mut open = lock(&self.open);
        // Another call may have opened one meanwhile: one is enough.
        if let Some(other) = open.as_ref() {
            let other = other.clone();
            drop(open);
            part(new);
            return Ok(other);
        }
        *open = Some(new.clone());
        Ok(new)
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
        if let Err(e) = connect.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            && self.kind == Kind::Qemu
        {
            tracing::warn!("{}: no keep-alive: {}", self.uri, e.message());
        }
        // Polls find what events would have told; they only take longer.
        if let Err(why) = events::register(&connect, &self.events) {
            tracing::warn!("{}: no events: {why}", self.uri);
        }
        Ok(connect)
    }

    /// Lets a connection go that is not alive any more.
    fn drop_if_lost(&self) {
        let mut open = lock(&self.open);
        let lost = |c: &mut Connect| !matches!(c.is_alive(), Ok(true));
        if let Some(lost) = open
            .as_mut()
            .is_some_and(lost)
            .then(|| open.take())
            .flatten()
        {
            drop(open);
            tracing::warn!("{}: the connection is lost", self.uri);
            part(lost);
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
