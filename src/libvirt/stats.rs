//! Counters and jobs of a domain as numbers by name. Unsafe lines of this room are here and in
//! `events` only: the crate does not read the lists libvirt gives for these.
#![allow(unsafe_code)]

use super::link::Failure;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_int, c_void};
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

/// More numbers than this of one domain are not read: a domain with 100 disks has 1,600.
const NUMBERS_MAX: usize = 20_000;

/// The word for a backup among jobs.
pub(super) const BACKUP: &str = "backup";

/// Numbers by libvirt's names, as `block.0.rd.reqs`. What is no whole number is left out.
pub(super) type Numbers = BTreeMap<String, u64>;

/// libvirt's counters of the groups in `kinds` for one domain. libvirt waits for nothing that
/// another call holds: such groups are missing then.
pub(super) fn of(domain: &Domain, kinds: sys::virDomainStatsTypes) -> Result<Numbers, Failure> {
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: a list of one domain that `domain` keeps, ended by null, lives through the call.
    let count = unsafe {
        let mut domains = [domain.as_ptr(), std::ptr::null_mut()];
        sys::virDomainListGetStats(
            domains.as_mut_ptr(),
            kinds,
            &raw mut records,
            sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
        )
    };
    if count < 0 {
        return Err(Error::last_error().into());
    }
    let mut all = Numbers::new();
    // SAFETY: on success libvirt gives `count` records and a null behind them, each with as many
    // parameters as it says; they are ours until they are freed, once, below.
    unsafe {
        for at in 0..usize::try_from(count).unwrap_or(0) {
            let record = *records.add(at);
            if let Some(record) = record.as_ref() {
                read(record.params, record.nparams, &mut all);
            }
        }
        sys::virDomainStatsRecordListFree(records);
    }
    Ok(all)
}

/// The job that is under way for a domain, in one word; `None` if there is none.
pub(super) fn job(domain: &Domain) -> Result<Option<&'static str>, Failure> {
    let mut kind: c_int = 0;
    let mut count: c_int = 0;
    let mut params: sys::virTypedParameterPtr = std::ptr::null_mut();
    // SAFETY: the domain is kept by `domain`; libvirt writes to the three places only.
    let got = unsafe {
        sys::virDomainGetJobStats(
            domain.as_ptr(),
            &raw mut kind,
            &raw mut params,
            &raw mut count,
            0,
        )
    };
    if got < 0 {
        return Err(Error::last_error().into());
    }
    let mut all = Numbers::new();
    // SAFETY: on success libvirt gives `count` parameters, or null; ours until freed, once.
    unsafe {
        read(params, count, &mut all);
        sys::virTypedParamsFree(params, count);
    }
    if kind == sys::VIR_DOMAIN_JOB_NONE.cast_signed() {
        return Ok(None);
    }
    let operation = all.get("operation").and_then(|o| u32::try_from(*o).ok());
    Ok(Some(match operation {
        Some(sys::VIR_DOMAIN_JOB_OPERATION_START | sys::VIR_DOMAIN_JOB_OPERATION_RESTORE) => {
            "start"
        }
        Some(sys::VIR_DOMAIN_JOB_OPERATION_SAVE) => "save",
        Some(
            sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN
            | sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
        ) => "migration",
        Some(
            sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT
            | sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT
            | sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE,
        ) => "snapshot",
        Some(sys::VIR_DOMAIN_JOB_OPERATION_DUMP) => "dump",
        Some(sys::VIR_DOMAIN_JOB_OPERATION_BACKUP) => BACKUP,
        _ => "another",
    }))
}

unsafe extern "C" {
    /// The C library's, for strings that libvirt hands over.
    fn free(place: *mut c_void);
}

/// libvirt's description of the backup that is under way for a domain.
pub(super) fn backup(domain: &Domain) -> Result<String, Failure> {
    // SAFETY: the domain is kept by `domain`; libvirt gives a string that is ours, or null.
    let text = unsafe { sys::virDomainBackupGetXMLDesc(domain.as_ptr(), 0) };
    if text.is_null() {
        return Err(Error::last_error().into());
    }
    // SAFETY: on success it ends with a zero; ours until freed, once.
    unsafe {
        let read = CStr::from_ptr(text).to_string_lossy().into_owned();
        free(text.cast());
        Ok(read)
    }
}

/// # Safety
/// `params` is null or leads to `count` parameters that libvirt filled.
unsafe fn read(params: sys::virTypedParameterPtr, count: c_int, into: &mut Numbers) {
    if params.is_null() {
        return;
    }
    for at in 0..usize::try_from(count).unwrap_or(0).min(NUMBERS_MAX) {
        // SAFETY: by contract.
        let one = unsafe { &*params.add(at) };
        // libvirt ends each name within its field; one that does not is none.
        let bytes: Vec<u8> = one.field.iter().map(|c| c.cast_unsigned()).collect();
        let name = CStr::from_bytes_until_nul(&bytes);
        let Some(name) = name.ok().and_then(|n| n.to_str().ok()) else {
            continue;
        };
        // SAFETY: the field of the union that libvirt's type names is the one it filled.
        let value = unsafe {
            match one.type_.cast_unsigned() {
                sys::VIR_TYPED_PARAM_INT => u64::try_from(one.value.i).ok(),
                sys::VIR_TYPED_PARAM_UINT => Some(u64::from(one.value.ui)),
                sys::VIR_TYPED_PARAM_LLONG => u64::try_from(one.value.l).ok(),
                sys::VIR_TYPED_PARAM_ULLONG => Some(one.value.ul),
                sys::VIR_TYPED_PARAM_BOOLEAN => Some(u64::from(one.value.b != 0)),
                _ => None,
            }
        };
        if let Some(value) = value {
            into.insert(name.to_owned(), value);
        }
    }
}

/// The sum of `group.N.name` over all N and the names given; `None` if there is none of them.
pub(super) fn sum(numbers: &Numbers, group: &str, names: &[&str]) -> Option<u64> {
    let mut total = None;
    for (key, value) in numbers {
        let mut words = key.splitn(3, '.');
        let at = (words.next(), words.next(), words.next());
        if let (Some(g), Some(n), Some(name)) = at
            && g == group
            && n.bytes().all(|b| b.is_ascii_digit())
            && names.contains(&name)
        {
            total = Some(total.unwrap_or(0u64).wrapping_add(*value));
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_the_named_counters_only() {
        let numbers: Numbers = [
            ("block.count", 2),
            ("block.0.rd.reqs", 3),
            ("block.1.rd.reqs", 4),
            ("block.1.wr.reqs", 5),
            ("block.1.wr.bytes", 600),
            ("net.0.tx.pkts", 7),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        let requests = ["rd.reqs", "wr.reqs", "fl.reqs"];
        assert_eq!(sum(&numbers, "block", &requests), Some(12));
        assert_eq!(sum(&numbers, "net", &["tx.pkts"]), Some(7));
        assert_eq!(sum(&numbers, "vcpu", &["time"]), None);
    }
}
