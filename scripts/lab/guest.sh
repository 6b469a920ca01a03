#!/bin/sh
# Builds the lab's guest once: a kernel that QEMU boots without unpacking it first, and a memory file
# system with busybox, the guest agent, a few modules and scripts/lab/guest-init.
#
# QUORATE_LAB_DIR: the lab's directory (target/lab). The result is in its `guest`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lab=${QUORATE_LAB_DIR:-$(cd "$here/../.." && pwd)/target/lab}
out=$lab/guest
build=$lab/guest-build

deb=$(find "$lab/deb" -name 'linux-image-*.deb' | sort | tail -n 1)
[ -n "$deb" ] || { echo "lab: no kernel in $lab/deb; run scripts/lab/install.sh first" >&2; exit 2; }
# What it is made from; another kernel or script makes another guest.
made_from=$(basename "$deb"; cat "$here/guest.sh" "$here/guest-init" | cksum)
[ "$(cat "$out/made-from" 2>/dev/null)" = "$made_from" ] && exit 0

echo "lab: building the guest" >&2
rm -rf "$build" "$out"
mkdir -p "$build/kernel" "$build/root" "$out"
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_console
    virtio_blk qemu_fw_cfg pvpanic pvpanic-mmio pvpanic-pci watchdog i6300esb"
# shellcheck disable=SC2086 # a list of words
dpkg-deb --fsys-tarfile "$deb" | tar -C "$build/kernel" -x --wildcards './boot/vmlinuz-*' \
    $(printf '*/%s.ko ' $modules)

root=$build/root
for dir in bin sbin dev proc sys run tmp etc mod usr/sbin lib lib64 var/run; do mkdir -p "$root/$dir"; done
cp "$lab/tools/bin/busybox" "$root/bin/busybox"
for applet in sh mount umount insmod cat echo sleep dd ps kill killall poweroff reboot sync date hostname \
    tr cut grep head tail mkdir dmesg usleep true; do
    ln -s busybox "$root/bin/$applet"
done
cp "$here/guest-init" "$root/init"
chmod 755 "$root/init"
printf '#!/bin/sh\nsync\ncase " $* " in *" -r "*) exec /bin/reboot -f ;; esac\nexec /bin/poweroff -f\n' \
    >"$root/sbin/shutdown"
chmod 755 "$root/sbin/shutdown"
agent=$lab/tools/guest/usr/sbin/qemu-ga
cp "$agent" "$root/usr/sbin/qemu-ga"
libs=$lab/tools/usr/lib/x86_64-linux-gnu
LD_LIBRARY_PATH=$libs ldd "$agent" | awk '/=> \// { print $3 } /^[ \t]*\/.*ld-linux/ { print $1 }' |
    sort -u | while read -r lib; do
    # The same path for all: the loader looks there.
    case $lib in */ld-linux*) to=$root/lib64 ;; *) to=$root/lib ;; esac
    cp -L "$lib" "$to/"
done
n=10
for module in $modules; do
    file=$(find "$build/kernel" -name "$module.ko" | head -n 1)
    [ -n "$file" ] || { echo "lab: the kernel package has no module $module" >&2; exit 1; }
    cp "$file" "$root/mod/$n-$module.ko"
    if command -v strip >/dev/null 2>&1; then strip --strip-debug "$root/mod/$n-$module.ko"; fi
    n=$((n + 1))
done

/usr/bin/python3 - "$build" "$out" <<'PY'
"""The kernel's own payload, and the memory file system as the kernel reads it."""
import glob, lzma, os, stat, struct, subprocess, sys

build, out = sys.argv[1:]
with open(glob.glob(build + "/kernel/boot/vmlinuz-*")[0], "rb") as file:
    image = file.read()
# Linux boot protocol: sectors of the setup code, offset and length of the payload behind it.
sectors = image[0x1F1] or 4
offset, length = struct.unpack_from("<II", image, 0x248)
payload = image[(sectors + 1) * 512 + offset:][:length]
if payload[:6] == b"\xfd7zXZ\0":
    kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
else:
    tool = "lz4" if payload[:4] == b"\x02\x21\x4c\x18" else "zstd"
    kernel = subprocess.run([tool, "-dc"], input=payload, stdout=subprocess.PIPE).stdout
if kernel[:4] != b"\x7fELF":
    sys.exit("lab: the kernel's payload is not understood")
with open(out + "/vmlinux", "wb") as file:
    file.write(kernel)

root, inode = build + "/root", 0
with open(out + "/initrd", "wb") as archive:
    def entry(name, mode, data):
        global inode
        inode += 1
        name = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    for top, dirs, files in os.walk(root):
        for name in sorted(dirs) + sorted(files):
            path = os.path.join(top, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                data = os.readlink(path).encode()
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    data = file.read()
            else:
                data = b""
            entry(os.path.relpath(path, root), mode, data)
    entry("TRAILER!!!", 0, b"")
PY
rm -rf "$build"
printf '%s\n' "$made_from" >"$out/made-from"
