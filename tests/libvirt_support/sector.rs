//! A guest of one sector: it reads its disk's second sector about twenty times a second and does
//! what the first byte there says. It needs no kernel and boots in the time its firmware takes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What it can be told.
#[derive(Clone, Copy, Debug)]
pub enum Tell {
    /// To go on reading.
    Nothing = 0,
    /// To panic, through the panic device.
    Panic = b'P' as isize,
    /// To switch itself off.
    Off = b'O' as isize,
    /// To reset itself, again and again until it is told something else.
    Reset = b'R' as isize,
    /// To turn in a circle with interrupts off: as a dead kernel does.
    Busy = b'B' as isize,
}

const CODE: [u8; 88] = [
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, // ax, ds, es, ss = 0
    0xbc, 0x00, 0x7c, // sp = 0x7c00
    0x88, 0x16, 0x00, 0x7e, // [0x7e00] = dl, the disk
    0xb4, 0x86, 0x31, 0xc9, 0xba, 0x50, 0xc3, 0xcd, 0x15, // 0f: wait 50 ms
    0xb8, 0x01, 0x02, 0xb9, 0x02, 0x00, 0x8a, 0x16, 0x00, 0x7e, 0xb6, 0x00, 0xbb, 0x00, 0x80, 0xcd,
    0x13, // read sector 2 to 0x8000
    0xa0, 0x00, 0x80, // al = its first byte
    0x3c, b'P', 0x74, 0x0e, 0x3c, b'O', 0x74, 0x12, 0x3c, b'R', 0x74, 0x17, 0x3c, b'B', 0x74, 0x19,
    0xeb, 0xd1, // again from 0f
    0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xeb, 0xc9, // P: port 0x505 = 1
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xeb, 0xc0, // O: ACPI, soft off
    0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xba, // R: keyboard controller, reset
    0xfa, 0xeb, 0xfe, // B: cli, and a jump to itself
];

/// Writes it to a disk, with nothing to do.
pub fn install(disk: &Path) {
    let mut sector = [0; 1024];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    let file = File::options().write(true).open(disk).expect("a disk");
    file.write_all_at(&sector, 0).expect("written");
}

/// Tells it something.
pub fn tell(disk: &Path, what: Tell) {
    let mut sector = [0; 512];
    sector[0] = what as u8;
    let file = File::options().write(true).open(disk).expect("a disk");
    file.write_all_at(&sector, 512).expect("written");
}
