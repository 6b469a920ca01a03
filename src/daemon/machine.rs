//! What tells this machine from another one, and from a copy of itself.

use crate::config::Config;
use quorate_membership::entry::Machine;
use ring::digest;
use std::fs;
use std::path::Path;

/// Words in the names of vendor and product by which virtual machines are known.
const VIRTUAL: [&str; 12] = [
    "qemu",
    "kvm",
    "virtual",
    "vmware",
    "xen",
    "bochs",
    "parallels",
    "bhyve",
    "openstack",
    "google",
    "amazon ec2",
    "nutanix",
];

/// This machine, as far as its firmware, its cards and its processor tell. What cannot be read counts
/// against it: it is no bare machine then, or has no name of its own.
pub(super) fn machine(config: &Config) -> Machine {
    let uuid = fs::read_to_string(&config.product_uuid_file).unwrap_or_default();
    let sys = Path::new("/sys/class");
    Machine {
        uuid: uuid_of(&uuid).unwrap_or(0),
        cards: cards(&sys.join("net")),
        bare: config.bare_metal.unwrap_or_else(|| {
            let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let dmi = |name: &str| fs::read_to_string(sys.join("dmi/id").join(name));
            match (dmi("sys_vendor"), dmi("product_name")) {
                (Ok(vendor), Ok(product)) => {
                    !cpus.is_empty() && !hypervisor(&cpus) && !virtual_name(&vendor, &product)
                }
                _ => false,
            }
        }),
    }
}

/// The processor says that it runs under a hypervisor.
fn hypervisor(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|l| l.starts_with("flags"));
    flags
        .flat_map(str::split_ascii_whitespace)
        .any(|flag| flag == "hypervisor")
}

fn virtual_name(vendor: &str, product: &str) -> bool {
    let name = format!("{vendor} {product}").to_ascii_lowercase();
    VIRTUAL.iter().any(|word| name.contains(word))
}

/// A UUID as firmware gives it; one that is all zeros or all ones names nothing.
fn uuid_of(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    let uuid = u128::from_str_radix(&digits, 16).ok()?;
    (uuid != 0 && uuid != u128::MAX).then_some(uuid)
}

/// A digest of the permanent addresses of the cards in `net`; 0 if there is none.
fn cards(net: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(net) else {
        return 0;
    };
    let mut addresses: Vec<String> = entries
        .flatten()
        .map(|e| e.path())
        // What has no device behind it is a bridge, a bond, a tunnel or a guest's card.
        .filter(|card| card.join("device").exists())
        .filter(|card| {
            let kind = fs::read_to_string(card.join("addr_assign_type"));
            kind.is_ok_and(|kind| kind.trim() == "0")
        })
        .filter_map(|card| fs::read_to_string(card.join("address")).ok())
        .map(|address| address.trim().to_ascii_lowercase())
        .collect();
    if addresses.is_empty() {
        return 0;
    }
    addresses.sort();
    let sum = digest::digest(&digest::SHA256, addresses.join(" ").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&sum.as_ref()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_told_apart_and_virtual_ones_are_known() {
        assert!(hypervisor(
            "processor : 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"
        ));
        assert!(!hypervisor(
            "flags\t\t: fpu vme lahf_lm\nmodel name : hypervisor 9000\n"
        ));
        assert!(virtual_name("QEMU\n", "Standard PC (Q35 + ICH9, 2009)\n"));
        assert!(virtual_name("Microsoft Corporation", "Virtual Machine"));
        assert!(!virtual_name("Dell Inc.", "PowerEdge R650"));
        let uuid = uuid_of("4c4c4544-0042-3510-8051-b4c04f564433\n");
        assert_eq!(uuid, Some(0x4c4c_4544_0042_3510_8051_b4c0_4f56_4433));
        for none in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            assert_eq!(uuid_of(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_cards_with_a_device_and_a_permanent_address_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let card = |name: &str, device: bool, kind: &str, address: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).expect("made");
            if device {
                fs::create_dir_all(path.join("device")).expect("made");
            }
            fs::write(path.join("addr_assign_type"), kind).expect("written");
            fs::write(path.join("address"), address).expect("written");
        };
        card("br0", false, "0\n", "aa:aa:aa:aa:aa:aa\n");
        card("vf0", true, "1\n", "bb:bb:bb:bb:bb:bb\n");
        assert_eq!(cards(dir.path()), 0, "none of its own");
        card("eth0", true, "0\n", "cc:cc:cc:cc:cc:cc\n");
        let one = cards(dir.path());
        assert_ne!(one, 0);
        card("eth1", true, "0\n", "dd:dd:dd:dd:dd:dd\n");
        assert_ne!(cards(dir.path()), one, "a card more");
    }
}
