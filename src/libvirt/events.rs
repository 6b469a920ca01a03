//! libvirt's events as a channel. Unsafe lines of this room are here and in `stats` only.
//!
//! The crate has no domain events of its own, so they are registered through its bindings. A
//! callback runs on the thread of the event loop, does nothing but copy and send, and never
//! unwinds into C.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::Sender;
use std::time::Duration;
use virt::connect::Connect;
use virt::{event, sys};

/// Something that happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The domain's UUID.
    pub uuid: u128,
    /// What happened.
    pub what: What,
}

/// What can happen to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It began to exist, with or without running yet.
    Started,
    /// Its vCPUs were held.
    Suspended(Suspended),
    /// Its vCPUs go on.
    Resumed,
    /// It shuts down; QEMU may still be there.
    Shutdown(By),
    /// It is gone.
    Stopped(Stopped),
    /// The guest's kernel panicked; QEMU is still there.
    Panicked,
    /// The guest was reset, from inside or from outside.
    Reboot,
    /// The guest's watchdog device fired.
    Watchdog(Barks),
    /// A disk failed: which, and QEMU's reason, as `enospc`.
    IoError(String, String),
    /// The agent in the guest connected or went.
    Agent(bool),
    /// A block job began, came to its end or is ready for it: images may change.
    BlockJob,
    /// Something of no concern here.
    Other,
}

/// Who wanted a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The guest's operating system switched it off, asked to or not.
    Guest,
    /// QEMU was told to end, by a signal or through libvirt.
    Host,
    /// libvirt cannot tell.
    Unknown,
}

/// What the watchdog device is set up to do when it is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barks {
    /// Nothing that helps: nothing at all, hold the guest, or tell its kernel.
    Only,
    /// Reset it.
    Resets,
    /// Switch it off.
    Ends,
}

/// Why vCPUs are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// Somebody held them.
    Told,
    /// A disk failed or is full.
    IoError,
    /// The watchdog device fired.
    Watchdog,
    /// It is being migrated away: from now on it may run at the other end.
    Leaving,
    /// A migration that came in, or a snapshot.
    Move,
    /// Anything else.
    Other,
}

/// Why a domain is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It shut down.
    Shutdown,
    /// It was destroyed.
    Destroyed,
    /// Its kernel panicked and it is set up to end then.
    Crashed,
    /// It went to another host.
    Migrated,
    /// It was saved.
    Saved,
    /// QEMU ended by itself.
    Failed,
    /// Anything else.
    Other,
}

impl Stopped {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Stopped::Shutdown => "shut down from inside",
            Stopped::Destroyed => "destroyed through libvirt",
            Stopped::Crashed => "its kernel panicked",
            Stopped::Migrated => "migrated away through libvirt",
            Stopped::Saved => "saved and stopped through libvirt",
            Stopped::Failed => "QEMU ended",
            Stopped::Other => "stopped",
        }
    }
}

/// Runs libvirt's event loop on a thread of this process. To be called before the first
/// connection is opened; keep-alive and events depend on it. Later calls do nothing.
///
/// # Errors
/// libvirt has no event loop to give.
pub(super) fn start_loop() -> Result<(), String> {
    static LOOP: OnceLock<Result<(), String>> = OnceLock::new();
    LOOP.get_or_init(|| {
        // It would print every error, also those that are answers.
        virt::error::clear_error_callback();
        event::event_register_default_impl().map_err(|e| e.to_string())?;
        std::thread::Builder::new()
            .name("libvirt".into())
            .spawn(|| {
                loop {
                    if let Err(e) = event::event_run_default_impl() {
                        // Without this loop libvirt is deaf, not dead: polls go on.
                        tracing::error!("libvirt's event loop: {e}");
                        std::thread::sleep(Duration::from_secs(1));
                    }
                }
            })
            .map(|_| ())
            .map_err(|e| e.to_string())
    })
    .clone()
}

/// Sends what happens to any domain of this connection from now on, for as long as it is open.
///
/// # Errors
/// The hypervisor of this connection has no lifecycle events; the others are not missed there.
pub(super) fn register(connect: &Connect, to: &Sender<Event>) -> Result<(), String> {
    // SAFETY: libvirt calls a callback only with the arguments of the event it was registered
    // for, whatever type it was registered under; each type here is the one libvirt declares for
    // that event (virConnectDomainEvent*Callback in libvirt-domain.h).
    let (lifecycle, others) = unsafe {
        type Any = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
        (
            std::mem::transmute::<Lifecycle, Any>(lifecycle),
            [
                (sys::VIR_DOMAIN_EVENT_ID_REBOOT, reboot as Any),
                (
                    sys::VIR_DOMAIN_EVENT_ID_WATCHDOG,
                    std::mem::transmute::<Number, Any>(watchdog),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON,
                    std::mem::transmute::<IoError, Any>(io_error),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
                    std::mem::transmute::<Numbers, Any>(agent),
                ),
                (
                    sys::VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                    std::mem::transmute::<BlockJob, Any>(block_job),
                ),
            ],
        )
    };
    one(connect, sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, to)?;
    for (id, callback) in others {
        if let Err(why) = one(connect, id, callback, to) {
            tracing::warn!("libvirt event {id} is not there: {why}");
        }
    }
    Ok(())
}

fn one(
    connect: &Connect,
    id: sys::virDomainEventID,
    callback: unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
    to: &Sender<Event>,
) -> Result<(), String> {
    let sender = Box::into_raw(Box::new(to.clone()));
    // SAFETY: the connection is open, for `connect` holds it; no domain means all of them. From
    // success on the box belongs to libvirt, which hands it to `free` exactly once, after the
    // last call; until then only callbacks read it, and a sender may be shared among threads.
    let registered = unsafe {
        sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            id.cast_signed(),
            Some(callback),
            sender.cast(),
            Some(free),
        )
    };
    if registered < 0 {
        let why = virt::error::Error::last_error().to_string();
        // SAFETY: libvirt refused and took nothing, so the box is still ours alone.
        drop(unsafe { Box::from_raw(sender) });
        return Err(why);
    }
    Ok(())
}

type Lifecycle =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type Number = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type Numbers =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
type BlockJob = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    c_int,
    c_int,
    *mut c_void,
);
type IoError = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);

/// # Safety
/// `sender` is the box that `one` gave away.
unsafe extern "C" fn free(sender: *mut c_void) {
    // SAFETY: see above; libvirt calls this once and nothing after it.
    drop(unsafe { Box::from_raw(sender.cast::<Sender<Event>>()) });
}

/// # Safety
/// `domain` is valid during the callback, and `sender` is the box that `one` gave away.
unsafe fn tell(domain: sys::virDomainPtr, sender: *mut c_void, what: What) {
    let mut uuid = [0u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the buffer has the length libvirt writes, the domain is valid by contract.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } < 0 {
        return;
    }
    let uuid = u128::from_be_bytes(uuid);
    // SAFETY: by contract; only shared references are ever made of it.
    let sender = unsafe { &*sender.cast::<Sender<Event>>() };
    // Nothing may unwind into C. Nobody listening is no fault.
    let _ = catch_unwind(AssertUnwindSafe(|| sender.send(Event { uuid, what })));
}

/// # Safety
/// `text` is null or a C string that is valid during the callback.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by contract.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

fn lifecycle_of(event: c_int, detail: c_int) -> What {
    let (event, detail) = (event.cast_unsigned(), detail.cast_unsigned());
    match event {
        sys::VIR_DOMAIN_EVENT_STARTED => What::Started,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => What::Suspended(match detail {
            sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => Suspended::Told,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => Suspended::IoError,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => Suspended::Watchdog,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED | sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY => {
                Suspended::Leaving
            }
            sys::VIR_DOMAIN_EVENT_SUSPENDED_RESTORED
            | sys::VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT => Suspended::Move,
            _ => Suspended::Other,
        }),
        sys::VIR_DOMAIN_EVENT_RESUMED => What::Resumed,
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => What::Shutdown(match detail {
            sys::VIR_DOMAIN_EVENT_SHUTDOWN_GUEST => By::Guest,
            sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST => By::Host,
            _ => By::Unknown,
        }),
        sys::VIR_DOMAIN_EVENT_STOPPED => What::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => Stopped::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => Stopped::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => Stopped::Crashed,
            sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => Stopped::Migrated,
            sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => Stopped::Saved,
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => Stopped::Failed,
            _ => Stopped::Other,
        }),
        sys::VIR_DOMAIN_EVENT_CRASHED => What::Panicked,
        _ => What::Other,
    }
}

/// # Safety
/// As [`tell`]. So for every callback below; libvirt keeps it.
unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    sender: *mut c_void,
) -> c_int {
    // SAFETY: libvirt's callback contract is that of `tell`.
    unsafe { tell(domain, sender, lifecycle_of(event, detail)) };
    0
}

unsafe extern "C" fn reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, sender: *mut c_void) {
    // SAFETY: libvirt's callback contract is that of `tell`.
    unsafe { tell(domain, sender, What::Reboot) };
}

unsafe extern "C" fn watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    action: c_int,
    sender: *mut c_void,
) {
    let barks = match action.cast_unsigned() {
        sys::VIR_DOMAIN_EVENT_WATCHDOG_RESET => Barks::Resets,
        sys::VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF | sys::VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN => {
            Barks::Ends
        }
        _ => Barks::Only,
    };
    // SAFETY: libvirt's callback contract is that of `tell`.
    unsafe { tell(domain, sender, What::Watchdog(barks)) };
}

unsafe extern "C" fn io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _path: *const c_char,
    device: *const c_char,
    _action: c_int,
    reason: *const c_char,
    sender: *mut c_void,
) {
    // SAFETY: libvirt's callback contract is that of `tell`, and its strings are C strings.
    unsafe {
        let what = What::IoError(text(device), text(reason));
        tell(domain, sender, what);
    }
}

unsafe extern "C" fn block_job(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _disk: *const c_char,
    _kind: c_int,
    _status: c_int,
    sender: *mut c_void,
) {
    // SAFETY: libvirt's callback contract is that of `tell`.
    unsafe { tell(domain, sender, What::BlockJob) };
}

unsafe extern "C" fn agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    sender: *mut c_void,
) {
    let connected = sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED.cast_signed();
    // SAFETY: libvirt's callback contract is that of `tell`.
    unsafe { tell(domain, sender, What::Agent(state == connected)) };
}
