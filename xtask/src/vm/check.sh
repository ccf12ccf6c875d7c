#!/bin/sh
# What check.service runs.
state=/var/lib/skep/agent

section() {
    name=$1
    shift
    echo "@@ $name"
    "$@"
    echo "@@ $name ended $?"
}

spool_bytes() {
    find "$state/spool" -type f -exec cat {} + | wc -c
}

# The first batches come within some windows; the machine is slow.
growing() {
    first=$(spool_bytes)
    for _ in $(seq 60); do
        sleep 1
        now=$(spool_bytes)
        if [ "$now" -gt "$((first + 4096))" ]; then
            echo "$first $now"
            return 0
        fi
    done
    echo "$first $now"
    return 1
}

echo "@@ doctor"
cat "$state/doctor.json"
echo "@@ doctor ended $(cat "$state/doctor.status")"
echo "@@ pins"
ls -ld /sys/fs/bpf/skep
echo "@@ pins ended $(cat "$state/pins.status")"
section spool growing
section unit systemctl is-active skep-agent.service
section process cat "/proc/$(systemctl show --property MainPID --value skep-agent.service)/status"
section exposure systemd-analyze security --threshold=25 --no-pager skep-agent.service
section journal journalctl --no-pager --unit skep-agent.service
echo "@@ end"
