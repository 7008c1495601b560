#!/bin/sh
# Makes the root file system of the machines of tests/machine_room, once, in a cache outside of the tree. Prints its path.
# Needs root, mmdebstrap and Debian's archive.
set -eu

SUITE=bookworm
# What a cloud's image has, and cloudfn's agent relies on.
PACKAGES=systemd,systemd-sysv,dbus,openssh-server,cloud-init,python3,python3-venv,iproute2,sudo,ca-certificates,curl,nftables,procps,bubblewrap
here="$(cd "$(dirname "$0")" && pwd)"
version="$(cat "$0" "$here"/room/* | sha256sum | cut -c 1-16)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cloudfn/room"
root="$cache/$version"

if [ -d "$root" ]; then
    echo "$root"
    exit 0
fi
[ "$(id -u)" = 0 ] || {
    echo "The machine room needs root: it mounts, makes network namespaces and boots machines." >&2
    exit 1
}
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -d "$root" ]; then # another build was faster
    echo "$root"
    exit 0
fi
echo "Making the root file system of the machine room (minutes, once)" >&2
partial="$cache/.$version.$$"
trap 'rm -rf "$partial"' EXIT
# Without manuals and translations, as such images are made; sync of each file costs more than half of the time.
mmdebstrap --quiet --variant=minbase --format=directory --include="$PACKAGES" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
    "$SUITE" "$partial" >&2

# An image has no identity of its own.
rm -f "$partial"/etc/ssh/ssh_host_*
: >"$partial/etc/machine-id"
rm -f "$partial/var/lib/dbus/machine-id"
rm -rf "$partial"/var/lib/apt/lists/*
cp "$here/room/cloud.cfg" "$partial/etc/cloud/cloud.cfg.d/99-room.cfg"
cat "$here/room/dmi.py" >>"$partial/usr/lib/python3/dist-packages/cloudinit/dmi.py"
chroot "$partial" python3 -m py_compile /usr/lib/python3/dist-packages/cloudinit/dmi.py
mkdir -p "$partial/etc/systemd/journald.conf.d" "$partial/var/log/journal"
printf '[Journal]\nStorage=persistent\n' >"$partial/etc/systemd/journald.conf.d/room.conf"
# What no test needs at each boot: consoles, timers of the package manager, hardware that is not there, and cloud-init's
# search for its source before there is a network.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service systemd-pstore.service getty@tty1.service console-getty.service getty.target \
    remote-fs.target cloud-init-local.service cloud-init-hotplugd.socket dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount modprobe@configfs.service modprobe@drm.service modprobe@dm_mod.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service systemd-modules-load.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service; do
    ln -sf /dev/null "$partial/etc/systemd/system/$unit"
done
chmod 755 "$partial"
mv "$partial" "$root"
for old in "$cache"/*; do
    # A room that runs may stand on an older one; a week is longer than any.
    [ "$old" = "$root" ] || [ ! -d "$old" ] || [ -z "$(find "$old" -maxdepth 0 -mtime +7)" ] || rm -rf "$old"
done
echo "$root"
