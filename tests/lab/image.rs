//! A disk image as its guest sees it: a plain file, or a qcow2 image above others, as snapshots
//! leave them behind. Read only, and only what QEMU writes by itself: no compression, no
//! encryption, no extended tables.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// More images than these do not lie above one another.
const DEPTH: usize = 16;
/// Where an entry of a table points to.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The cluster reads as zeros.
const ZERO: u64 = 1;
const COMPRESSED: u64 = 1 << 62;

/// An image that is open, with all below it.
pub struct Image {
    layers: Vec<Layer>,
}

enum Layer {
    Plain(File),
    Qcow2 {
        file: File,
        cluster: u64,
        /// Entries of the first table.
        first: u64,
        table: u64,
    },
}

impl Image {
    /// Opens an image and what it is backed by.
    ///
    /// # Errors
    /// One of them cannot be read or is not understood.
    pub fn open(path: &Path) -> io::Result<Image> {
        let mut layers = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take() {
            if layers.len() == DEPTH {
                return Err(io::Error::other("too many images above one another"));
            }
            let file = File::open(&path)?;
            let mut head = [0; 72];
            let whole = file.read_exact_at(&mut head, 0).is_ok();
            if !whole || !head.starts_with(b"QFI\xfb") {
                layers.push(Layer::Plain(file));
                continue;
            }
            let (at, length) = (u64_of(&head, 8), u32_of(&head, 16));
            if at != 0 {
                let mut name = vec![0; length as usize];
                file.read_exact_at(&mut name, at)?;
                let name = String::from_utf8(name).map_err(io::Error::other)?;
                next = Some(path.with_file_name(name));
            }
            layers.push(Layer::Qcow2 {
                file,
                cluster: 1 << u32_of(&head, 20),
                first: u32_of(&head, 36).into(),
                table: u64_of(&head, 40),
            });
        }
        Ok(Image { layers })
    }

    /// Fills `bytes` with what the guest reads there; zeros behind the end of a lower image.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        // No cluster of QEMU's is smaller, none begins in between.
        const STEP: u64 = 512;
        if let [Layer::Plain(file)] = self.layers.as_slice() {
            return file.read_exact_at(bytes, at);
        }
        let mut at = at;
        for part in bytes.chunks_mut(STEP as usize) {
            self.sector(part, at)?;
            at += STEP;
        }
        Ok(())
    }

    fn sector(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        for layer in &self.layers {
            match layer {
                Layer::Plain(file) => {
                    bytes.fill(0);
                    let read = file.read_at(bytes, at)?;
                    return match read == bytes.len() || read == 0 {
                        true => Ok(()),
                        false => Err(io::Error::other("half a sector")),
                    };
                }
                Layer::Qcow2 {
                    file,
                    cluster,
                    first,
                    table,
                } => {
                    let number = at / cluster;
                    let entries = cluster / 8;
                    if number / entries >= *first {
                        continue;
                    }
                    let second = entry(file, table + number / entries * 8)? & OFFSET;
                    if second == 0 {
                        continue;
                    }
                    let entry = entry(file, second + number % entries * 8)?;
                    if entry & COMPRESSED != 0 {
                        return Err(io::Error::other("a compressed cluster"));
                    }
                    if entry & ZERO != 0 {
                        bytes.fill(0);
                        return Ok(());
                    }
                    if entry & OFFSET != 0 {
                        return file.read_exact_at(bytes, (entry & OFFSET) + at % cluster);
                    }
                }
            }
        }
        bytes.fill(0);
        Ok(())
    }
}

fn entry(file: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at)?;
    Ok(u64::from_be_bytes(bytes))
}

fn u32_of(head: &[u8], at: usize) -> u32 {
    let bytes = head[at..at + 4].try_into();
    bytes.map_or(0, u32::from_be_bytes)
}

fn u64_of(head: &[u8], at: usize) -> u64 {
    let bytes = head[at..at + 8].try_into();
    bytes.map_or(0, u64::from_be_bytes)
}
