//! Amounts as libvirt reads them.

use super::Refusal;
use super::reader::{Reader, child};
use crate::guest::Needs;
use roxmltree::Node;

/// Bytes in one unit, by libvirt's rules: the first letter is the power, `iB` or nothing behind it
/// means powers of 1024, `B` powers of 1000, upper or lower case alike.
fn factor(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return Some(1);
    }
    let mut letters = unit.chars();
    let power = "kmgtpe".find(letters.next()?)? as u32 + 1;
    match letters.as_str() {
        "" | "ib" => Some(1024u128.pow(power)),
        "b" => Some(1000u128.pow(power)),
        _ => None,
    }
}

/// Bytes of an amount; without a unit it is in KiB.
pub(super) fn bytes(amount: &str, unit: Option<&str>) -> Option<u128> {
    let factor = factor(unit.filter(|u| !u.is_empty()).unwrap_or("KiB"))?;
    Some(u128::from(amount.trim().parse::<u64>().ok()?) * factor)
}

impl<'a, 'x> Reader<'a, 'x> {
    /// What the guest takes at most.
    pub(super) fn needs(&self, root: Node<'a, 'x>) -> Result<Needs, Refusal> {
        let text = self.text(root, "memory")?;
        let node = child(root, "memory").unwrap_or(root);
        let unit = node.attribute("unit");
        let Some(memory) = bytes(text, unit) else {
            let unit = unit.unwrap_or("KiB");
            return self.fault(node, format!("memory {text:?} {unit:?} is no amount"));
        };
        // libvirt counts what the guest's NUMA cells and memory devices have, whatever is written
        // in <memory>.
        let memory = memory.max(self.parts(root)?);
        let mib = u64::try_from(memory.div_ceil(1 << 20)).ok();
        let Some(memory_mib) = mib.filter(|mib| *mib > 0) else {
            return self.fault(node, format!("memory {text:?} is no amount"));
        };
        let vcpus = match child(root, "vcpu") {
            None => 1,
            Some(node) => {
                let text = node.text().unwrap_or_default().trim();
                match text.parse::<u32>().ok().filter(|n| *n > 0) {
                    Some(n) => n,
                    None => return self.fault(node, format!("vcpu {text:?} is no count")),
                }
            }
        };
        Ok(Needs { vcpus, memory_mib })
    }

    /// The memory of NUMA cells and memory devices, in bytes.
    fn parts(&self, root: Node<'a, 'x>) -> Result<u128, Refusal> {
        let mut sum = 0u128;
        let cells = child(root, "cpu").and_then(|cpu| child(cpu, "numa"));
        for cell in cells.iter().flat_map(Node::children) {
            let Some(amount) = cell.attribute("memory") else {
                continue;
            };
            match bytes(amount, cell.attribute("unit")) {
                Some(bytes) => sum += bytes,
                None => return self.fault(cell, format!("memory {amount:?} is no amount")),
            }
        }
        let devices = child(root, "devices");
        for node in devices.iter().flat_map(Node::children) {
            let size = child(node, "target").and_then(|t| child(t, "size"));
            if !node.has_tag_name("memory") {
                continue;
            }
            let Some(size) = size else { continue };
            let text = size.text().unwrap_or_default();
            match bytes(text, size.attribute("unit")) {
                Some(bytes) => sum += bytes,
                None => return self.fault(size, format!("size {text:?} is no amount")),
            }
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_libvirt_reads_them() {
        for (unit, kib) in [("KiB", 1), ("gib", 1 << 20), ("G", 1 << 20), ("m", 1 << 10)] {
            assert_eq!(bytes("1", Some(unit)), Some(kib << 10), "{unit}");
        }
        assert_eq!(bytes("3", Some("kB")), Some(3000));
        assert_eq!(bytes("3", Some("Bytes")), Some(3));
        assert_eq!(bytes("2", None), Some(2048));
        assert_eq!(bytes(" 2 ", Some("")), Some(2048));
        for bad in ["gi", "x", "KiBs", "é"] {
            assert_eq!(bytes("1", Some(bad)), None, "{bad}");
        }
        assert_eq!(bytes("-1", None), None);
        assert!(bytes(&u64::MAX.to_string(), Some("EiB")).is_some());
    }
}
