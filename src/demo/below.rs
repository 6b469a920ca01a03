//! Which process is pid 1 of a namespace that was just made.

use std::fs;

/// The process below `top` that is pid 1 of the innermost pid namespace there.
pub(super) fn init_below(top: u32) -> Result<u32, String> {
    let mut at = top;
    // nsenter, unshare, init: three generations at most, one child each.
    for _ in 0..4 {
        let Some(child) = child_of(at)? else {
            break;
        };
        at = child;
        let depth = |pid: u32| -> Result<Vec<u32>, String> {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .map_err(|e| format!("/proc/{pid}/status: {e}"))?;
            let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
            let line = line.ok_or("this kernel shows no NSpid")?;
            Ok(line
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect())
        };
        let (own, above) = (depth(at)?, depth(top)?);
        if own.len() > above.len() && own.last() == Some(&1) {
            return Ok(at);
        }
    }
    Err("no pid 1 was found in the new namespace".into())
}

fn child_of(parent: u32) -> Result<Option<u32>, String> {
    let entries = fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        // "pid (name) state ppid …"; the name may hold anything, even brackets.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let after = stat.rsplit(')').next().unwrap_or_default();
        if after.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
