//! Names of capabilities.

/// By number, as in linux/capability.h.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Names of the capabilities in a set; a number newer than this table is a number.
pub fn names(set: u64) -> Vec<String> {
    let named = |bit: u32| NAMES.get(bit as usize).map_or_else(|| bit.to_string(), |name| (*name).to_owned());
    (0..u64::BITS).filter(|bit| set >> bit & 1 == 1).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_has_its_name() {
        assert_eq!(names(0), Vec::<String>::new());
        assert_eq!(names(1 << 0 | 1 << 21 | 1 << 39), ["chown", "sys_admin", "bpf"]);
        assert_eq!(names(1 << 40 | 1 << 63), ["checkpoint_restore", "63"]);
    }
}
