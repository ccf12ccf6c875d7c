//! What the command line does to the host's defences, logs and secrets.

use super::Rule;
use crate::detect::exec::{Exec, base_name, plain_name};
use crate::detect::finding::Severity;

const COMMAND: &[&str] = &["exe", "argv", "uid", "parent_exe"];

/// The rules of this file.
pub static RULES: &[Rule] = &[
    Rule {
        id: "privilege-gain",
        title: "program gained root outside the known setuid tools",
        severity: Severity::High,
        attack: &["T1548.001", "T1068"],
        looks_at: &["exe", "argv", "uid", "effective_uid", "flags", "parent_exe"],
        benign: "a setuid tool of a package that is not in the list",
        // The kernel's flag also stands for a change of group; root itself has nothing to gain.
        matches: |exec| exec.uid != Some(0) && exec.has("privilege_gain") && !is_known_setuid(exec),
    },
    Rule {
        id: "crypto-miner",
        title: "arguments of a crypto-currency miner",
        severity: Severity::High,
        attack: &["T1496"],
        looks_at: COMMAND,
        benign: "a miner its owner wants",
        matches: is_miner,
    },
    Rule {
        id: "security-tool-stop",
        title: "security tool stopped, masked or removed",
        severity: Severity::High,
        attack: &["T1562.001", "T1685"],
        looks_at: COMMAND,
        benign: "maintenance; package managers among the ancestors are left out",
        matches: |exec| stops_security_tool(exec) && !below_package_manager(exec),
    },
    Rule {
        id: "firewall-flush",
        title: "firewall rules flushed or firewall switched off",
        severity: Severity::Medium,
        attack: &["T1562.004", "T1686"],
        looks_at: COMMAND,
        benign: "firewall managers that load their rules anew; package managers among the ancestors are left out",
        matches: |exec| flushes_firewall(exec) && !below_package_manager(exec),
    },
    Rule {
        id: "log-clearing",
        title: "log or shell history cleared",
        severity: Severity::Medium,
        attack: &["T1070.002", "T1070.003"],
        looks_at: COMMAND,
        benign: "log rotation and package removal; both are left out by their ancestors",
        matches: |exec| clears_logs(exec) && !below_package_manager(exec),
    },
    Rule {
        id: "credential-file",
        title: "password or key file named on a command line",
        severity: Severity::Medium,
        attack: &["T1003.008", "T1552.001"],
        looks_at: COMMAND,
        benign: "audits and backups; the usual account tools and package managers among the ancestors are left out",
        matches: |exec| reads_credentials(exec) && !below_package_manager(exec),
    },
];

/// Programs that legitimately gain root, by name; they must lie in a system folder.
const SETUID_TOOLS: &[&str] = &[
    "sudo",
    "su",
    "pkexec",
    "doas",
    "passwd",
    "chsh",
    "chfn",
    "chage",
    "gpasswd",
    "newgrp",
    "newuidmap",
    "newgidmap",
    "mount",
    "umount",
    "fusermount",
    "ping",
    "ping6",
    "crontab",
    "at",
    "ssh-keysign",
    "ssh-agent",
    "unix_chkpwd",
    "dbus-daemon-launch-helper",
    "polkit-agent-helper-1",
    "Xorg.wrap",
    "expiry",
    "wall",
    "write",
    "dotlockfile",
    "snap-confine",
    "chrome-sandbox",
    "sudoedit",
    "exim",
    "sendmail",
    "postdrop",
    "postqueue",
    "procmail",
    "staprun",
    "mount.nfs",
    "mount.cifs",
    "bwrap",
    "traceroute6.iputils",
    "mtr-packet",
    "arping",
    "vmware-user-suid-wrapper",
];

const SYSTEM_FOLDERS: &[&str] = &["/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/", "/snap/", "/opt/google/"];

fn is_known_setuid(exec: &Exec<'_>) -> bool {
    let path = exec.path();
    let named = SETUID_TOOLS.contains(&base_name(path)) || SETUID_TOOLS.contains(&plain_name(path));
    named && SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

/// Installing, rotating and provisioning touch all of these things for good reasons.
pub(super) fn below_package_manager(exec: &Exec<'_>) -> bool {
    const MANAGERS: &[&str] = &[
        "dpkg",
        "apt",
        "apt-get",
        "aptitude",
        "rpm",
        "dnf",
        "yum",
        "zypper",
        "pacman",
        "apk",
        "logrotate",
        "cloud-init",
        "unattended-upgrade",
        "frontend",
        "debootstrap",
        "mmdebstrap",
        "dpkg-preconfigure",
        "snapd",
    ];
    exec.ancestors
        .iter()
        .chain([&exec.parent])
        .any(|ancestor| MANAGERS.contains(&plain_name(ancestor)) || ancestor.starts_with("/var/lib/dpkg/info/"))
}

fn is_miner(exec: &Exec<'_>) -> bool {
    exec.says_any(&[
        "stratum+tcp",
        "stratum+ssl",
        "stratum1+",
        "stratum2+",
        "stratum+http",
        "--donate-level",
        "--nicehash",
    ]) || exec.says("--algo") && exec.says_any(&["randomx", "cryptonight", "rx/0", "kawpow", "ethash"])
        || exec.is_any(&[
            "xmrig",
            "xmr-stak",
            "minerd",
            "cpuminer",
            "ethminer",
            "cgminer",
            "nbminer",
            "t-rex",
            "phoenixminer",
        ])
}

/// What watches the host.
const SECURITY_TOOLS: &[&str] = &[
    "auditd",
    "apparmor",
    "selinux",
    "falcon-sensor",
    "crowdstrike",
    "clamav",
    "clamd",
    "ossec",
    "wazuh",
    "osqueryd",
    "osquery",
    "falco",
    "tetragon",
    "sysmon",
    "rsyslog",
    "syslog",
    "syslog-ng",
    "fail2ban",
    "mdatp",
    "cbdaemon",
    "sentinelone",
    "sentinelctl",
    "ufw",
    "firewalld",
    "nftables",
    "aliyun",
    "aegis",
    "cloudmonitor",
    "skep-agent",
    "skep-executor",
    "skep-collector",
    "systemd-journald",
    "samhain",
    "aide",
    "tripwire",
    "snort",
    "suricata",
];

fn is_security_tool(argument: &str) -> bool {
    let name = argument.trim_end_matches(".service").trim_end_matches(".socket");
    SECURITY_TOOLS
        .iter()
        .any(|tool| name == *tool || name.starts_with(tool) && name[tool.len()..].starts_with(['-', '_']))
}

fn stops_security_tool(exec: &Exec<'_>) -> bool {
    let names_tool = || exec.arguments().iter().any(|argument| is_security_tool(base_name(argument)));
    let has_any = |words: &[&str]| words.iter().any(|word| exec.has_argument(word));
    let service = exec.is_any(&["systemctl", "service", "initctl", "rc-service", "invoke-rc.d"])
        && has_any(&["stop", "disable", "mask", "kill"])
        && names_tool();
    let boot = exec.is_any(&["chkconfig", "update-rc.d"]) && has_any(&["off", "remove", "disable"]) && names_tool();
    let killed = exec.is_any(&["pkill", "killall", "skill"]) && names_tool();
    let selinux = exec.is_any(&["setenforce"]) && has_any(&["0", "Permissive", "permissive"]);
    let audit = exec.is_any(&["auditctl"])
        && (exec.arguments().windows(2).any(|pair| pair == ["-e", "0"]) || exec.arguments() == ["-D"]);
    let apparmor = exec.is_any(&["aa-teardown", "aa-disable", "aa-complain"]);
    service || boot || killed || selinux || audit || apparmor
}

fn flushes_firewall(exec: &Exec<'_>) -> bool {
    let arguments = exec.arguments();
    let has = |argument: &str| exec.has_argument(argument);
    let accept = |chain: &str| {
        arguments
            .windows(3)
            .any(|three| matches!(three[0], "-P" | "--policy") && three[1] == chain && three[2] == "ACCEPT")
    };
    // A flush of one named chain or table is how programs keep their own rules tidy.
    let whole = |flag: &str| {
        arguments
            .iter()
            .position(|a| *a == flag)
            .is_some_and(|at| arguments.get(at + 1).is_none_or(|next| next.starts_with('-')))
    };
    let iptables = exec.is_any(&[
        "iptables",
        "ip6tables",
        "iptables-legacy",
        "iptables-nft",
        "xtables-nft-multi",
        "xtables-legacy-multi",
    ]) && ((whole("-F") || whole("--flush")) && !has("-t") && !has("--table") || accept("INPUT"));
    let nft = exec.is_any(&["nft"]) && exec.says("flush ruleset");
    let ufw = exec.is_any(&["ufw"]) && (has("disable") || has("reset"));
    iptables || nft || ufw
}

fn clears_logs(exec: &Exec<'_>) -> bool {
    let history = |path: &str| {
        let name = base_name(path);
        name.ends_with("_history") && name.starts_with('.') || name == "fish_history"
    };
    let log = |path: &str| {
        path.starts_with("/var/log/") && !path.starts_with("/var/log/journal/") && is_log_of_record(path)
            || matches!(path, "/var/log" | "/var/log/" | "/var/log/*" | "/var/run/utmp" | "/run/utmp")
    };
    let names = |test: &dyn Fn(&str) -> bool| exec.arguments().iter().any(|argument| test(argument));
    let removes = exec.is_any(&["rm", "shred", "unlink", "truncate", "srm"]);
    let overwrites = exec.is_any(&["cp", "dd", "ln"]) && exec.says("/dev/null");
    let journal =
        exec.is_any(&["journalctl"]) && exec.says_any(&["--vacuum-time=1s", "--vacuum-size=1", "--vacuum-files=1"]);
    let script = exec.shell_script().is_some_and(|script| {
        ["history -c", "HISTFILE=/dev/null", "unset HISTFILE", "HISTSIZE=0", "> ~/.bash_history", ">~/.bash_history"]
            .iter()
            .any(|text| script.contains(text))
    });
    (removes || overwrites) && (names(&history) || names(&log)) || journal || script
}

/// The logs an intruder has reason to clear, not every file a program keeps below /var/log.
fn is_log_of_record(path: &str) -> bool {
    let name = base_name(path);
    [
        "auth.log",
        "syslog",
        "messages",
        "secure",
        "wtmp",
        "btmp",
        "lastlog",
        "kern.log",
        "audit.log",
        "cron",
        "cron.log",
        "maillog",
        "faillog",
        "utmp",
    ]
    .contains(&name)
        || path.starts_with("/var/log/audit/")
}

/// Files that hold secrets.
const SECRETS: &[&str] = &[
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/security/opasswd",
    "/etc/krb5.keytab",
    "/root/.ssh/id_",
    "/etc/ssh/ssh_host_",
    "/.aws/credentials",
    "/.kube/config",
    "/.docker/config.json",
    "/.git-credentials",
    "/.config/gcloud/",
    "/.azure/",
    "/var/run/secrets/kubernetes.io/",
    "/run/secrets/kubernetes.io/",
    "/etc/kubernetes/admin.conf",
    "/.netrc",
    "/.pgpass",
    "/.my.cnf",
];

fn reads_credentials(exec: &Exec<'_>) -> bool {
    const READERS: &[&str] = &[
        "cat", "less", "more", "head", "tail", "tac", "nl", "strings", "xxd", "hexdump", "od", "base64", "cp", "mv",
        "scp", "rsync", "tar", "zip", "gzip", "dd", "awk", "gawk", "mawk", "sed", "grep", "egrep", "cut", "vi", "vim",
        "nano", "ed", "curl", "wget", "tee", "unshadow", "john", "hashcat", "nc", "sort", "diff",
    ];
    let dumps = exec.is_any(&["gcore", "unshadow", "john", "hashcat", "mimipenguin.sh", "laZagne.py"])
        || exec.arguments().iter().any(|a| is_process_memory(a.trim_start_matches("if=")));
    let reads = exec.is_any(READERS)
        && exec.arguments().iter().any(|argument| {
            let path = argument.trim_start_matches("file=@").trim_start_matches("if=").trim_start_matches('@');
            SECRETS.iter().any(|secret| path.contains(secret)) && !path.ends_with(".pub")
        });
    dumps || reads
}

/// `/proc/PID/mem` or `/proc/PID/environ` of another process.
fn is_process_memory(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/proc/") else { return false };
    let Some((pid, file)) = rest.split_once('/') else { return false };
    pid.parse::<u32>().is_ok_and(|pid| pid > 1) && matches!(file, "mem" | "environ" | "maps")
}
