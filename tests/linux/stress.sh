# SPDX-License-Identifier: BSD-2-Clause
# Debian's stress-ng in a guest; it checks its own results.
set -e
stress-ng --verify --metrics-brief --timeout 10s --temp-path /tmp \
    --cpu 1 --vm 1 --vm-bytes 64M --mmap 1 --mmap-bytes 32M --fork 1 --context 1 --pipe 1 --futex 1 2>&1
