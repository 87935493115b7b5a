"""What a guest that goes on from another one's memory is told about itself: a shell script. Pure.

It runs as root inside a Linux guest, through its agent, before any network card is there. Arguments: the new
host name, the new machine id (32 hex digits) and the seconds since 1970; on its standard input come bytes for
the guest's random numbers. Each line it prints is one thing it did. What the guest does not have is left out.
"""

from __future__ import annotations

import re
import uuid

IDENTITY = r"""
name=$1 id=$2 now=$3
cat >/dev/urandom && echo "random numbers: stirred"
# RNDRESEEDCRNG: what was stirred counts at once, not within a minute.
if command -v perl >/dev/null; then
  perl -e 'open(F, "+<", "/dev/urandom") and ioctl(F, 0x5207, 0) and print "random numbers: new\n"'
elif command -v python3 >/dev/null; then
  python3 -c 'import fcntl; fcntl.ioctl(open("/dev/urandom", "rb+", 0), 0x5207); print("random numbers: new")'
fi
date -u -s "@$now" >/dev/null && echo "clock: set"
old=$(hostname)
if [ -n "$name" ] && hostname "$name"; then
  [ -e /etc/hostname ] && echo "$name" >/etc/hostname
  if [ -e /etc/hosts ] && [ -n "$old" ]; then
    sed "s/^\(127\.0\.1\.1[[:space:]].*\)$/127.0.1.1 $name/" /etc/hosts >/etc/hosts.new &&
      cat /etc/hosts.new >/etc/hosts
    rm -f /etc/hosts.new
  fi
  echo "host name: $name"
fi
if [ -e /etc/machine-id ]; then
  echo "$id" >/etc/machine-id && echo "machine id: new"
  [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ] && echo "$id" >/var/lib/dbus/machine-id
fi
# Those that read it once and keep it: what a DHCP server knows a network manager by is made of it.
if [ -e /etc/machine-id ] && command -v systemctl >/dev/null; then
  systemctl try-restart systemd-journald systemd-networkd NetworkManager 2>/dev/null
fi
rm -f /var/lib/dhcp/*.leases /var/lib/NetworkManager/*.lease /run/systemd/netif/leases/* 2>/dev/null
seed=/var/lib/systemd/random-seed
[ -e $seed ] && dd if=/dev/urandom of=$seed bs=512 count=1 2>/dev/null
set -- /etc/ssh/ssh_host_*_key
if [ -e "$1" ] && command -v ssh-keygen >/dev/null; then
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  ssh-keygen -A >/dev/null || exit 9
  echo "SSH host keys: new"
  if command -v systemctl >/dev/null; then systemctl try-restart ssh sshd 2>/dev/null; fi
fi
set -- /etc/dropbear/dropbear_*_host_key
[ -e "$1" ] && rm -f "$@" && echo "SSH host keys: removed, made at the next use"
exit 0
"""

READY = r"""
if command -v cloud-init >/dev/null; then cloud-init status --wait >/dev/null 2>&1; fi
if command -v systemctl >/dev/null; then systemctl is-system-running --wait >/dev/null 2>&1; fi
sync
if [ -d /sys/bus/acpi/drivers/vmgenid ] || command -v perl >/dev/null || command -v python3 >/dev/null; then
  echo reseeds
fi
exit 0
"""
"""Waits until a guest has finished booting; says ``reseeds`` when its clones get random numbers of their own
at once: by a kernel that hears of a new generation ID, or by a program that can ask for it."""


SETTINGS = r"""
command -v cloud-init >/dev/null || exit 0
{
  command -v udevadm && udevadm settle -t 10
  cloud-init clean
  cloud-init init --local || failed=1
  if command -v netplan; then netplan apply
  elif command -v ifup; then ifup -a
  else systemctl try-restart systemd-networkd NetworkManager
  fi
  cloud-init init || failed=1
  cloud-init modules --mode=config || failed=1
  cloud-init modules --mode=final || failed=1
} >/dev/null 2>&1
if [ -n "$failed" ]; then
  echo "a stage of cloud-init failed; /var/log/cloud-init.log in the guest has it" >&2
  exit 9
fi
echo "cloud-init: settings applied"
"""
"""What cloud-init does at a boot, done to a guest that did not boot: it reads the clone's own drive as if it
were the first one it ever saw, and sets up the network cards that came a moment ago."""


def host_name(name: str) -> str:
    """A VM's name as a guest's host name: its first label, nothing where there is none."""
    label = name.partition(".")[0][:63]
    return label if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", label) else ""


def machine_id() -> str:
    """A new machine id, as systemd has them (a random UUID without hyphens)."""
    return uuid.uuid4().hex
