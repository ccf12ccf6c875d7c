#!/bin/busybox sh
# The first process of a machine with the small file system. $machine, from the kernel's command line, says what to do;
# $tests and $acts name tests. What is said goes to the second serial line, in sections.

export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/
# Tests that compare times know by this that between two instructions anything may pass.
export SKEP_EMULATED=1
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin /var/lib
/bin/busybox --install -s 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "+cpu +memory +io" >/sys/fs/cgroup/cgroup.subtree_control
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
exec >/dev/ttyS1 2>/dev/console

section() {
    name=$1
    shift
    echo "@@ $name"
    "$@"
    echo "@@ $name ended $?"
}

section doctor skep-agent doctor --format json
case $machine in
probes)
    section tests kernel_probes --test-threads=1 $(echo "$tests" | tr , " ") 2>&1
    section acts executor_tests --test-threads=1 $(echo "$acts" | tr , " ") 2>&1
    ;;
lockdown)
    # Before it has loaded its probes it cannot be asked to stop, and this machine is slow.
    section agent timeout 90 skep-agent --config /etc/skep/agent.toml 2>&1
    ;;
esac
echo "@@ end"
poweroff -f
