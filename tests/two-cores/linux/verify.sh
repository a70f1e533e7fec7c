#!/bin/busybox sh
# SPDX-License-Identifier: BSD-2-Clause
# First program of a Linux that must not notice what becomes of another guest: for ever, it copies files, reads them again, and
# has processes come and go; a round in which all was right is a line.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev

wrong() {
    echo "verify: WRONG: $1"
    while :; do sleep 1000; done
}

dd if=/dev/urandom of=/tmp/0 bs=64k count=16 2>/dev/null
sum=$(md5sum </tmp/0)
round=0
while :; do
    for copy in 1 2 3 4; do
        cp /tmp/$((copy - 1)) /tmp/$copy || wrong "cp"
    done
    for copy in 0 1 2 3 4; do
        [ "$(md5sum </tmp/$copy)" = "$sum" ] || wrong "copy $copy has changed"
    done
    [ "$(cat /tmp/[0-4] | md5sum)" = "$(cat /tmp/0 /tmp/0 /tmp/0 /tmp/0 /tmp/0 | md5sum)" ] || wrong "pipes"
    for _ in 1 2 3 4 5 6 7 8; do
        /bin/true || wrong "true"
    done
    round=$((round + 1))
    echo "verify: round $round, all as ever"
done
