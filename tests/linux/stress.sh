# SPDX-License-Identifier: BSD-2-Clause
# Debian's stress-ng and hackbench in a guest. stress-ng checks its own results. Arguments: workers of each kind
# (default 1), seconds of stress-ng (default 10).
set -e
workers=${1:-1}
stress-ng --verify --metrics-brief --timeout "${2:-10}s" --temp-path /tmp \
    --cpu "$workers" --vm "$workers" --vm-bytes 64M --mmap "$workers" --mmap-bytes 32M \
    --fork "$workers" --context "$workers" --pipe "$workers" --futex "$workers" 2>&1
if which hackbench >/dev/null; then
    hackbench --groups "$workers" --loops 200
fi
echo "stress: done"
