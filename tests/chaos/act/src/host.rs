//! What is acted on, all of it our own: cgroups with a process that works a little, processes that count how often they are
//! asked to end, a network namespace, and a command that writes down each time it is run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use skep_chaos_ground::Dice;

/// Cgroups there are.
const GROUPS: u64 = 2;

/// Addresses that are blocked, of those nobody has.
const ADDRESSES: u64 = 3;

/// Lets the executor alone be in the namespace: nobody else's packets are filtered.
#[derive(Debug)]
pub(crate) struct Host {
    /// Name of the network namespace.
    pub(crate) net: String,
    /// A line for each run, with the action's id.
    ran: PathBuf,
    /// A line for each time a victim was asked to end, with its process id.
    asked: PathBuf,
    groups: Vec<Group>,
    victims: Vec<Child>,
}

#[derive(Debug)]
struct Group {
    /// Below the root of each hierarchy.
    path: String,
    cpu: PathBuf,
    unified: PathBuf,
    burden: Child,
}

/// An order as an operator gives it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) verb: &'static str,
    pub(crate) parameters: String,
    pub(crate) workload: String,
    pub(crate) cgroup: String,
    pub(crate) cgroup_id: i64,
}

impl Host {
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self> {
        let net = format!("skep-chaos-{name}");
        let made = Command::new("ip").args(["netns", "add", &net]).output().context("ip")?;
        ensure!(made.status.success(), "ip netns add: {}", String::from_utf8_lossy(&made.stderr));
        let (ran, asked) = (folder.join("ran"), folder.join("asked"));
        let mut host = Self { net, ran, asked, groups: Vec::new(), victims: Vec::new() };
        for number in 0..GROUPS {
            host.groups.push(Group::new(&format!("/skep-chaos-{name}-{number}"))?);
        }
        Ok(host)
    }

    /// What the executor may do here.
    pub(crate) fn executor_settings(&self, max_concurrent: u64, max_per_hour: u64) -> String {
        format!(
            "act = true\nactions = [\"throttle\", \"freeze\", \"block\", \"kill\", \"run\"]\n\
             [budget]\nmax_concurrent = {max_concurrent}\nmax_per_hour = {max_per_hour}\n\
             [throttle]\nmin_cpu_millicores = 10\n\
             [[run.command]]\nname = \"count\"\nargv = [\"/bin/sh\", \"-c\", \"echo $SKEP_ACTION >> {}\"]\n",
            self.ran.display()
        )
    }

    /// Something to be done to it.
    pub(crate) fn wanted(&mut self, dice: &mut Dice) -> Result<Wanted> {
        let lease_s = dice.between(1, 4);
        let group = &self.groups[dice.below(GROUPS) as usize];
        let at_group = |verb, parameters| Wanted {
            verb,
            parameters,
            workload: format!("cgroup:{}", group.path),
            cgroup: group.path.clone(),
            cgroup_id: fs::metadata(&group.cpu).map_or(0, |meta| meta.ino() as i64),
        };
        let at_host = |verb, parameters| Wanted { verb, parameters, workload: "host".to_owned(), ..Wanted::default() };
        Ok(match dice.below(8) {
            0 | 1 => at_group("freeze", format!("lease_s={lease_s}")),
            2 => at_group("throttle", format!("cpu_millicores=20 lease_s={lease_s}")),
            3 | 4 => at_host("block", format!("address={} lease_s={lease_s}", address(dice.below(ADDRESSES)))),
            5 => {
                let (pid, start_ns) = self.victim()?;
                at_host("kill", format!("pid={pid} start_ns={start_ns} scope=process grace_s={}", dice.below(2)))
            }
            _ => self.run(),
        })
    }

    /// The command that says when it is run.
    pub(crate) fn run(&self) -> Wanted {
        Wanted { verb: "run", parameters: "name=count".to_owned(), workload: "host".to_owned(), ..Wanted::default() }
    }

    /// A new process that says when it is asked to end, and does not.
    fn victim(&mut self) -> Result<(u32, i64)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("victim").arg(&self.asked).stdin(Stdio::null()).stdout(Stdio::null());
        let victim = command.spawn()?;
        let pid = victim.id();
        self.victims.push(victim);
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse::<i64>().ok());
        Ok((pid, ticks.context("a start in /proc")? * 10_000_000))
    }

    /// What stands at this moment; the packet filter, which takes a process to ask, only on demand.
    pub(crate) fn standing(&self, with_net: bool) -> Vec<String> {
        let mut standing: Vec<String> = self.groups.iter().flat_map(Group::standing).collect();
        if with_net {
            let mut nft = Command::new("nsenter");
            nft.arg(format!("--net=/run/netns/{}", self.net)).args(["nft", "list", "ruleset"]);
            let rules = said(&mut nft);
            let blocked = (0..ADDRESSES).map(address).filter(|address| rules.contains(address.as_str()));
            standing.extend(blocked.map(|address| format!("block {address}")));
        }
        standing
    }

    /// How often each action was run.
    pub(crate) fn ran(&self) -> BTreeMap<String, u64> {
        lines(&self.ran)
    }

    /// How often each victim was asked to end.
    pub(crate) fn asked(&self) -> BTreeMap<String, u64> {
        lines(&self.asked)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for victim in &mut self.victims {
            end(victim);
        }
        self.groups.iter_mut().for_each(Group::remove);
        let _gone = Command::new("ip").args(["netns", "del", &self.net]).output().is_ok();
    }
}

impl Group {
    fn new(path: &str) -> Result<Self> {
        let (cpu, unified) = hierarchies();
        let (cpu, unified) = (cpu.join(&path[1..]), unified.join(&path[1..]));
        fs::create_dir_all(&cpu).with_context(|| format!("cannot make {}; run this as root", cpu.display()))?;
        fs::create_dir_all(&unified)?;
        let burden = Command::new(std::env::current_exe()?).arg("burden").stdin(Stdio::null()).spawn()?;
        for dir in [&cpu, &unified] {
            fs::write(dir.join("cgroup.procs"), burden.id().to_string())?;
        }
        Ok(Self { path: path.to_owned(), cpu, unified, burden })
    }

    fn standing(&self) -> Vec<String> {
        let read = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let quota = read(&self.cpu, "cpu.cfs_quota_us");
        let is_throttled = match quota.trim() {
            "" => !read(&self.cpu, "cpu.max").starts_with("max"),
            quota => quota != "-1",
        };
        let is_frozen = read(&self.unified, "cgroup.freeze").trim() == "1";
        let words = [(is_frozen, "freeze"), (is_throttled, "throttle")];
        words.into_iter().filter(|(is, _)| *is).map(|(_, word)| format!("{word} {}", self.path)).collect()
    }

    fn remove(&mut self) {
        let _thawed = fs::write(self.unified.join("cgroup.freeze"), "0").is_ok();
        end(&mut self.burden);
        let deadline = Instant::now() + Duration::from_secs(2);
        for dir in [&self.cpu, &self.unified] {
            while dir.exists() && fs::remove_dir(dir).is_err() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The one that controls cpu, and the unified one.
fn hierarchies() -> (PathBuf, PathBuf) {
    let root = PathBuf::from("/sys/fs/cgroup");
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|controller| controller == "cpu") {
        return (root.clone(), root);
    }
    (root.join("cpu"), root.join("unified"))
}

fn address(number: u64) -> String {
    format!("192.0.2.{}", 101 + number)
}

fn said(command: &mut Command) -> String {
    command.output().map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn lines(path: &Path) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

fn end(child: &mut Child) {
    // It may have ended long ago.
    let _ended = child.kill().is_ok();
    let _waited = child.wait().is_ok();
}
