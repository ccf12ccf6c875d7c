//! Execs a second, and the longest command lines.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use skep_rules::detector::Detector;
use skep_rules::event::Exec;
use skep_rules::load::Loaded;
use skep_rules::replay::{Line, Replay};

use crate::Failure;

/// Events of a round; what is counted is the best of some rounds.
const EVENTS: usize = 50_000;

/// Command lines as they occur, the frequent ones first.
const LINES: &[(&str, &str, &str)] = &[
    ("/usr/bin/sed", "sed -e s/a/b/ -n /etc/debconf.conf", "/usr/bin/dash"),
    ("/usr/bin/date", "date +%s", "/usr/bin/dash"),
    ("/usr/bin/grep", "grep -q ^root: /etc/passwd", "/usr/bin/dash"),
    ("/usr/bin/cp", "cp -a usr/share/doc/x usr/share/doc/y", "/usr/bin/make"),
    ("/usr/bin/mawk", "awk {print $1} /proc/meminfo", "/usr/bin/bash"),
    ("/usr/bin/dash", "sh -c test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily", "/usr/sbin/cron"),
    ("/usr/bin/python3.11", "/usr/bin/python3 /usr/lib/ubuntu-release-upgrader/check-new-release -q", "/usr/bin/dash"),
    ("/usr/bin/git", "git rev-parse --verify HEAD", "/usr/bin/bash"),
    (
        "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
        "cc1 -quiet -I include -imultiarch x86_64-linux-gnu x.c -o /tmp/ccX1.s -O2",
        "/usr/bin/gcc",
    ),
    ("/usr/bin/ls", "ls --color=auto -la", "/usr/bin/bash"),
    ("/usr/bin/systemctl", "systemctl is-active --quiet nginx.service", "/usr/bin/bash"),
    ("/usr/bin/curl", "curl -fsS -o /dev/null http://localhost:8080/healthz", "/usr/bin/bash"),
    ("/usr/sbin/sshd", "/usr/sbin/sshd -D -R", "/usr/sbin/sshd"),
    ("/usr/bin/bash", "-bash", "/usr/sbin/sshd"),
    ("/usr/bin/tar", "tar -C /srv/backup -czf - .", "/usr/bin/bash"),
    ("/usr/bin/find", "find /var/lib/x -type f -mtime +7 -name *.tmp -print0", "/usr/bin/dash"),
];

/// Time this thread had a CPU, so that others on this machine do not matter; of the clock where the kernel does not tell.
fn cpu_time(begun: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.as_deref().and_then(|told| told.split(' ').next()?.parse().ok());
    ns.map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

pub(crate) fn measure(loaded: &mut Loaded, figures: &mut Map<String, Value>) -> Result<(), Failure> {
    let mut detector = Detector::new(loaded)?;
    let mut best = f64::MAX;
    let clock = Instant::now();
    for _ in 0..5 {
        let begun = cpu_time(clock);
        for number in 0..EVENTS {
            let (exe, line, parent) = LINES[number % LINES.len()];
            let argv: Vec<&str> = line.split(' ').collect();
            let exec = Exec { uid: Some(1_000), ..exec(number, exe, argv, line, parent) };
            std::hint::black_box(detector.exec(exec));
        }
        best = best.min((cpu_time(clock) - begun).as_secs_f64());
    }
    figures.insert("execs_per_s_per_core".to_owned(), (EVENTS as f64 / best).round().into());
    for (name, bytes) in [("4_kib", 4 << 10), ("128_kib", 128 << 10), ("1_mib", 1 << 20)] {
        let longest = longest(&mut detector, bytes);
        figures.insert(format!("longest_us_at_{name}"), longest.round().into());
    }
    Ok(())
}

/// Execs of a corpus, of which hardly two are alike, with what reading them in the form of a file costs left out.
pub(crate) fn replayed(loaded: &mut Loaded, lines: Vec<Line>, figures: &mut Map<String, Value>) -> Result<(), Failure> {
    let (mut best, clock) = (f64::MAX, Instant::now());
    for _ in 0..3 {
        let (mut detector, mut replay) = (Detector::new(loaded)?, Replay::default());
        let begun = cpu_time(clock);
        for line in &lines {
            std::hint::black_box(replay.step(&mut detector, line));
        }
        best = best.min((cpu_time(clock) - begun).as_secs_f64());
    }
    figures.insert("corpus_execs_per_s_per_core".to_owned(), (lines.len() as f64 / best).round().into());
    Ok(())
}

/// The worst of several shapes of an argument vector of so many bytes, each the best of some tries.
fn longest(detector: &mut Detector, bytes: usize) -> f64 {
    let shapes = [
        "a",
        "-abcdef ",
        "/etc/x/../shadow ",
        "$(a|b;`c`) ",
        "/tmp/.x/",
        "\\x41\\x42",
        "AAAA=/b:",
        "'\"\"'",
        "password ",
    ];
    let mut worst: f64 = 0.0;
    for (index, shape) in shapes.iter().enumerate() {
        let mut text = shape.repeat(bytes / shape.len());
        text.truncate(bytes);
        let argv: Vec<&str> = ["bash", "-c"].into_iter().chain(text.split(' ')).collect();
        let line = argv.join(" ");
        let mut best = f64::MAX;
        for _ in 0..9 {
            let exec = exec(index, "/usr/bin/bash", argv.clone(), &line, "/usr/sbin/sshd");
            let begun = Instant::now();
            std::hint::black_box(detector.exec(exec));
            best = best.min(begun.elapsed().as_secs_f64() * 1e6);
        }
        worst = worst.max(best);
    }
    worst
}

fn exec<'a>(number: usize, exe: &'a str, argv: Vec<&'a str>, line: &'a str, parent: &'a str) -> Exec<'a> {
    Exec {
        time_us: number as i64,
        pid: number as i64 % 30_000 + 2,
        ppid: number as i64 % 300 + 1,
        exe,
        filename: exe,
        argv,
        command_line: line,
        cwd: "/home/ann",
        parent,
        ancestors: vec![parent, "/usr/lib/systemd/systemd"],
        streams_known: true,
        workload: "unit:x.service",
        node: "n1",
        ..Exec::default()
    }
}
