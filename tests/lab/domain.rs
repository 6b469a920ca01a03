//! The lab's guests as domains.

use super::tools::Tools;
use std::path::Path;

/// What a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kit {
    /// The channel of the guest agent.
    pub agent: bool,
    /// The panic device.
    pub panic: bool,
    /// The watchdog device, fed by the guest.
    pub watchdog: bool,
    /// Its disk is its own: QEMU locks it, and every record is flushed.
    pub alone: bool,
}

impl Kit {
    /// Everything but a watchdog.
    pub const HELPED: Kit = Kit {
        agent: true,
        panic: true,
        watchdog: false,
        alone: false,
    };
    /// Nothing in the guest helps.
    pub const BARE: Kit = Kit {
        agent: false,
        panic: false,
        watchdog: false,
        alone: false,
    };
    /// An agent and nothing else.
    pub const AGENT: Kit = Kit {
        agent: true,
        panic: false,
        watchdog: false,
        alone: false,
    };
    /// A guest whose disk may be changed while it runs, with a drive for discs.
    pub const ALONE: Kit = Kit {
        alone: true,
        ..Kit::BARE
    };
}

/// Memory of a guest, in MiB.
pub const MEMORY: u32 = 160;

/// The description of guest number `number`, whose disk is `disk`.
///
/// The disk is declared shareable, unless it is to be its own, so that QEMU takes no lock on it:
/// nothing but Quorate stands between two copies of the guest.
pub fn describe(tools: &Tools, name: &str, number: u8, disk: &Path, kit: Kit) -> String {
    let guest = tools.guest();
    let mut devices = String::new();
    if kit.agent {
        devices.push_str(
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\n",
        );
    }
    if kit.panic {
        devices.push_str("<panic model='isa'/>\n");
    }
    if kit.watchdog {
        devices.push_str("<watchdog model='i6300esb' action='none'/>\n");
    }
    let mut words = String::new();
    if kit.watchdog {
        words.push_str(" quorate.feed=yes");
    }
    if kit.alone {
        words.push_str(" quorate.flush=yes");
        devices.push_str(
            "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>\n",
        );
    }
    let shareable = if kit.alone { "" } else { "<shareable/>\n" };
    let panic = if kit.panic { "" } else { " quorate.panic=no" };
    format!(
        "<domain type='qemu'>
<name>{name}</name>
<uuid>7ab00000-0000-4000-8000-0000000000{number:02x}</uuid>
<memory unit='MiB'>{MEMORY}</memory>
<vcpu>1</vcpu>
<sysinfo type='fwcfg'>
<entry name='opt/lab.quorate/host' file='/etc/libvirt/lab-host'/>
</sysinfo>
<os>
<type arch='x86_64' machine='q35'>hvm</type>
<kernel>{kernel}</kernel>
<initrd>{initrd}</initrd>
<cmdline>console=ttyS0 quiet mitigations=off nokaslr panic=0 quorate.guest={name}{words}{panic}</cmdline>
</os>
<features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
<clock offset='utc'/>
<on_poweroff>destroy</on_poweroff>
<on_reboot>restart</on_reboot>
<on_crash>destroy</on_crash>
<devices>
<emulator>{emulator}</emulator>
<disk type='file' device='disk'>
<driver name='qemu' type='raw' cache='none' error_policy='stop'/>
<source file='{disk}'/>
<target dev='vda' bus='virtio'/>
{shareable}</disk>
<controller type='usb' model='none'/>
<serial type='file'><source path='{disk}.console' append='on'/></serial>
{devices}<memballoon model='none'/>
</devices>
</domain>
",
        kernel = guest.join("vmlinux").display(),
        initrd = guest.join("initrd").display(),
        emulator = tools.program("qemu-system-x86_64").display(),
        disk = disk.display(),
    )
}
