# SPDX-License-Identifier: BSD-2-Clause
# What a Linux guest must be able to do: run by `cargo xtask test` in the guest, with busybox's shell.
# Prints what it sees; ends with a status that is not 0 at the first thing that is wrong.
set -e

fail() {
    echo "job: $1"
    exit 1
}

uname -srm
grep MemTotal /proc/meminfo

# The console's interrupt has a handler; the processor takes its decrementer's.
cat /proc/interrupts
grep -q hvc_console /proc/interrupts || fail "no interrupt of the console"
ticks() { awk '/LOC:/ { print $2; exit }' /proc/interrupts; }
before=$(ticks)
sleep 1
[ "$(ticks)" -gt "$before" ] || fail "no decrementer interrupts"

# P3.1: the processor that asks is running, so its yield count, 32 bits big-endian at 0x100, is even.
mount -t debugfs debugfs /sys/kernel/debug
for _ in 1 2 3 4 5; do
    digit=$(dd if=/sys/kernel/debug/powerpc/vpa/cpu-0 bs=1 skip=259 count=1 2>/dev/null | od -An -tu1)
    [ $((digit % 2)) -eq 0 ] || fail "odd yield count of the processor that runs"
    sleep 0.1
done
echo "job: yield count is even"

# The dispatch trace log: every sleep is a dispatch.
echo 1 >/proc/powerpc/vcpudispatch_stats
for _ in 1 2 3 4 5 6 7 8; do sleep 0.1; done
stats=$(cat /proc/powerpc/vcpudispatch_stats)
echo 0 >/proc/powerpc/vcpudispatch_stats
echo "$stats"
dispatches=$(echo "$stats" | awk '/^cpu0/ { print $2 }')
[ "${dispatches:-0}" -ge 8 ] || fail "$dispatches dispatches in eight sleeps"

# Memory: copies of a random file until little is left, or a gibibyte of them; then all are read again.
mkdir -p /mnt
mount -t tmpfs -o size=95% tmpfs /mnt
dd if=/dev/urandom of=/mnt/0 bs=1M count=32 2>/dev/null
sum=$(md5sum </mnt/0)
copies=0
available() { awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo; }
while [ "$(available)" -gt 96 ] && [ $copies -lt 32 ]; do
    copies=$((copies + 1))
    cp /mnt/0 /mnt/$copies
done
[ $copies -ge 4 ] || fail "memory for $copies copies only"
for file in /mnt/*; do
    [ "$(md5sum <"$file")" = "$sum" ] || fail "$file has changed"
done
echo "job: $copies copies, $(available) MiB left, all alike"
umount /mnt

# Processes come and go.
count=0
while [ $count -lt 50 ]; do
    /bin/true || fail "true"
    count=$((count + 1))
done
echo "job: done"
