# SPDX-License-Identifier: BSD-2-Clause
# In a guest with more processors than cores: every processor is kept busy, and /proc/stat must say that each had 45 to 55 % of
# its core and was robbed of the rest. Argument: how many processors.
[ "$(nproc)" -eq "$1" ] || {
    echo "shares: $(nproc) processors"
    exit 1
}
i=0
while [ $i -lt "$1" ]; do
    taskset $((1 << i)) sh -c 'while :; do :; done' &
    i=$((i + 1))
done
# cpuN user nice system idle iowait irq softirq steal: what it did is all but idle, waiting and steal.
exec awk '
    function look(sign, line, f) {
        while ((getline line <"/proc/stat") > 0)
            if (line ~ /^cpu[0-9]/) {
                split(line, f)
                busy[f[1]] += sign * (f[2] + f[3] + f[4] + f[7] + f[8])
                idle[f[1]] += sign * (f[5] + f[6])
                steal[f[1]] += sign * f[9]
            }
        close("/proc/stat")
    }
    function half(part, all) { return 100 * part >= 45 * all && 100 * part <= 55 * all }
    BEGIN {
        system("sleep 1")
        look(-1)
        system("sleep 3")
        look(1)
        for (cpu in busy) {
            all = busy[cpu] + idle[cpu] + steal[cpu]
            printf "shares: %s: busy %.1f %%, steal %.1f %% of %d ticks\n", cpu,
                100 * busy[cpu] / all, 100 * steal[cpu] / all, all
            if (half(busy[cpu], all) && half(steal[cpu], all)) count++
        }
        print "shares:", count + 0, "processors had half a core each"
        exit count != "'$1'"
    }'
