#!/bin/sh
# What the lab needs (Debian 12, root): libvirt and resource agents from packages; QEMU, the BMC
# simulator, fence agents and busybox unpacked into the lab's directory, so that no package of this
# machine is changed or removed for them. Fast when everything is there.
#
#   install.sh          installs
#   install.sh --check  only says what is missing; exit 2 if anything is
#
# QUORATE_LAB_DIR: the lab's directory (target/lab).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
lab=${QUORATE_LAB_DIR:-$root/target/lab}
# Raise it when the lists below change: everything is unpacked anew.
edition=4

say() { echo "lab: $*" >&2; }

# From packages: libvirt knows its own drivers by absolute paths only.
wanted=""
need() { # FILE PACKAGE
    [ -e "$1" ] || wanted="$wanted $2"
}
need /usr/sbin/libvirtd libvirt-daemon
need /usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so libvirt-daemon-driver-qemu
need /usr/bin/virsh libvirt-clients
need /usr/bin/python3 python3
# Agents find each other by absolute paths, too.
need /usr/lib/ocf/resource.d/heartbeat/IPaddr2 resource-agents
command -v ip >/dev/null || [ -x /sbin/ip ] || wanted="$wanted iproute2"
command -v unshare >/dev/null || wanted="$wanted util-linux"
pkg-config --atleast-version=6.0.0 libvirt 2>/dev/null || wanted="$wanted libvirt-dev pkg-config"

stamp=$lab/unpacked
unpacked() { [ "$(cat "$stamp" 2>/dev/null)" = "$edition" ]; }

if [ "${1:-}" = --check ]; then
    if [ -n "$wanted" ]; then
        say "not installed:$wanted"
        exit 2
    fi
    unpacked || { say "QEMU and the other tools are not unpacked in $lab"; exit 2; }
    exit 0
fi
if [ -z "$wanted" ] && unpacked; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1 || [ "$(dpkg --print-architecture)" != amd64 ]; then
    say "the lab needs root on Debian 12, amd64"
    exit 2
fi

export DEBIAN_FRONTEND=noninteractive
apt() { apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }
# An old list of packages names files that the server has no more.
apt update >/dev/null || say "the lists of packages could not be brought up to date; going on"
if [ -n "$wanted" ]; then
    say "installing$wanted"
    # shellcheck disable=SC2086 # a list of words
    apt install -y --no-install-recommends $wanted >/dev/null </dev/null
fi

if ! unpacked; then
    # Some of these would push others off the machine, as Debian's QEMU does with newer qemu-utils;
    # fence-agents drags in half of Python. So they are unpacked, not installed.
    say "unpacking QEMU, ipmi_sim, ipmitool, fence agents, fusepy, busybox into $lab/tools"
    deb=$lab/deb
    rm -rf "$lab/tools" "$stamp"
    mkdir -p "$deb/partial" "$lab/tools" "$lab/bin"
    # One version of QEMU and what it stands on, whatever other source has a newer one.
    version=$(apt-cache madison qemu-system-x86 | awk 'NR == 1 { print $3 }')
    [ -n "$version" ] || { say "no package qemu-system-x86 is known here"; exit 2; }
    # `install --download-only` finds out what they stand on that is not installed here.
    apt -o Dir::Cache::archives="$deb" -y --no-install-recommends --download-only \
        --allow-downgrades --allow-remove-essential --allow-change-held-packages \
        install "qemu-system-x86=$version" openipmi ipmitool busybox-static \
        python3-pexpect python3-pycurl python3-fusepy libfuse2 >/dev/null </dev/null
    (
        cd "$deb"
        kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ { print $2; exit }')
        # `download` runs as another user where it can, which may not write here; it says so and goes on.
        # Fence agents and the guest's agent without what they recommend.
        apt download fence-agents qemu-guest-agent "$kernel" 2>/dev/null
        # What may be installed here already, in another version or not at all.
        for package in busybox-static libfuse2; do
            ls "$package"_*.deb >/dev/null 2>&1 || apt download "$package" 2>/dev/null
        done
    )
    for file in "$deb"/*.deb; do
        case ${file##*/} in
        linux-image-*) ;; # the guest's: scripts/lab/guest.sh takes a few files out of it
        qemu-utils_*) ;;
        qemu-guest-agent_*) mkdir -p "$lab/tools/guest" && dpkg -x "$file" "$lab/tools/guest" ;;
        *) dpkg -x "$file" "$lab/tools" ;;
        esac
    done
    tools=$lab/tools
    libs=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu
    wrap() { # NAME PROGRAM: a command that finds its own libraries
        cat >"$lab/bin/$1" <<W
#!/bin/sh
export LD_LIBRARY_PATH=$libs\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export PYTHONPATH=$tools/usr/share/fence:$tools/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1
PATH=$lab/bin:\$PATH
exec $2 "\$@"
W
        chmod 755 "$lab/bin/$1"
    }
    if [ -x /usr/bin/qemu-system-x86_64 ]; then
        wrap qemu-system-x86_64 /usr/bin/qemu-system-x86_64
    else
        wrap qemu-system-x86_64 "$tools/usr/bin/qemu-system-x86_64"
    fi
    wrap ipmi_sim "$tools/usr/bin/ipmi_sim"
    wrap ipmitool "$tools/usr/bin/ipmitool"
    # The agent itself is unchanged; Debian's own Python, not another one in the PATH.
    wrap fence_ipmilan "/usr/bin/python3 -W ignore $tools/usr/sbin/fence_ipmilan"
    "$lab/bin/qemu-system-x86_64" --version >/dev/null
    "$lab/bin/fence_ipmilan" -o metadata >/dev/null
    # Only what is needed again stays.
    find "$deb" -name '*.deb' ! -name 'linux-image-*' -delete
    echo "$edition" >"$stamp"
fi
