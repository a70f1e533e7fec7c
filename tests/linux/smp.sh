# SPDX-License-Identifier: BSD-2-Clause
# A guest with several processors, which may be more than the machine has cores. Argument: how many.
set -e

fail() {
    echo "smp: $1"
    exit 1
}

# A column of a line of /proc/interrupts.
interrupts() { awk -v line="$1" -v column=$(($2 + 2)) '$0 ~ line { print $column; exit }' /proc/interrupts; }

[ "$(nproc)" -eq "$1" ] || fail "$(nproc) processors"
uname -r
mount -t debugfs debugfs /sys/kernel/debug

# Each runs what is bound to it, takes its own timer, and has an even yield count while it looks at that (P3.1).
cpu=0
while [ $cpu -lt "$1" ]; do
    taskset -p $((1 << cpu)) $$ >/dev/null
    before=$(interrupts 'LOC:.*timer event' $cpu)
    sleep 0.2
    [ "$(interrupts 'LOC:.*timer event' $cpu)" -gt "$before" ] || fail "no timer of processor $cpu"
    digit=$(dd if=/sys/kernel/debug/powerpc/vpa/cpu-$cpu bs=1 skip=259 count=1 2>/dev/null | od -An -tu1)
    [ $((digit % 2)) -eq 0 ] || fail "odd yield count of processor $cpu, which runs"
    cpu=$((cpu + 1))
done
taskset -p "$(printf %x $(((1 << $1) - 1)))" $$ >/dev/null

# Twice as many jobs as processors copy and compare.
dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null
job=0
while [ $job -lt $((2 * $1)) ]; do
    (cp /tmp/data /tmp/copy$job && cmp /tmp/data /tmp/copy$job && : >/tmp/same$job) &
    job=$((job + 1))
done
wait
while [ $job -gt 0 ]; do
    job=$((job - 1))
    [ -e /tmp/same$job ] || fail "copy $job"
done

# With several they send each other interrupts, and all but the first can go and come back (RTAS stop-self and start-cpu).
cpu=1
while [ $cpu -lt "$1" ]; do
    [ "$(interrupts 'IPI$' $cpu)" -gt 0 ] || fail "no interrupt from another processor on $cpu"
    online=/sys/devices/system/cpu/cpu$cpu/online
    echo 0 >$online
    [ "$(nproc)" -eq $(($1 - 1)) ] || fail "processor $cpu is still there"
    echo 1 >$online
    taskset $((1 << cpu)) true || fail "nothing runs on processor $cpu"
    cpu=$((cpu + 1))
done
echo "smp: $1 processors"
