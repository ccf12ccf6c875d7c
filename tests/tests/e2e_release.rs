//! The agent of the release before: in front of this collector, and with its successor taking over what it left.
//!
//! Needs root and the real kernel.

#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use skep_tests::ledger::assert_ledger;
use skep_tests::truth::{Generator, arguments_sql, assert_arguments, assert_exact, wait_for_counts};
use skep_tests::{Skep, UNLIMITED, binary, need_bpf_fs, number, query, send};

/// The agent of that release, packed.
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/release-0.1.0/skep-agent.zst");

/// Its version.
const VERSION: &str = "0.1.0";

/// Present programs in a folder of their own, where one of them can be another.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new() -> Self {
        let beside = binary("skep");
        let folder = tempfile::tempdir_in(beside.parent().expect("a folder")).expect("a folder");
        for name in ["skep", "skep-collector", "skep-executor"] {
            fs::hard_link(binary(name), folder.path().join(name)).expect("a second name");
        }
        Self(folder)
    }

    fn with_old_agent(self) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let packed = fs::File::open(AGENT).expect("the fixture");
        let path = self.0.path().join("skep-agent");
        let mut file = fs::File::create(&path).expect("a file");
        zstd::stream::copy_decode(packed, &mut file).expect("it unpacks");
        file.set_permissions(fs::Permissions::from_mode(0o755)).expect("its mode");
        self
    }

    /// What is started from now on is the present agent.
    fn upgrade_agent(&self) {
        let next = self.0.path().join("next");
        fs::hard_link(binary("skep-agent"), &next).expect("a second name");
        fs::rename(next, self.0.path().join("skep-agent")).expect("in place of the old one");
    }

    fn up(&self, data: &Path) -> Command {
        let mut up = Command::new(self.0.path().join("skep"));
        up.args(["up", "--listen", "127.0.0.1:0", "--window", "1s", "--data"]).arg(data).envs([UNLIMITED]);
        up
    }
}

fn agent_version(skep: &Skep) -> String {
    let nodes = skep_tests::json_rows(&skep.skep(&["nodes", "--format", "json"]).stdout);
    nodes[0]["agent_version"].as_str().expect("a version").to_owned()
}

#[test]
fn the_agent_of_the_release_before_delivers_here_and_leaves_its_spool_to_this_one() {
    need_bpf_fs();
    let programs = Programs::new().with_old_agent();
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::start(data.path(), programs.up(data.path()));
    assert_eq!(agent_version(&skep), VERSION);
    let mut delivered = Generator::finish(Generator::start());
    wait_for_counts(&skep, &delivered);
    assert_exact(&delivered, &|sql| skep.number(sql));
    delivered.end();

    // The collector stands still: what happens now stays in the spool, where the agent's successor finds it.
    send(skep.pid("collector"), Signal::STOP);
    let mut left = Generator::finish(Generator::start());
    std::thread::sleep(Duration::from_secs(3));
    programs.upgrade_agent();
    send(skep.parent(), Signal::STOP);
    let old = skep.kill("agent");
    send(skep.pid("collector"), Signal::CONT);
    send(skep.parent(), Signal::CONT);
    skep.restarted("agent", old);
    wait_for_counts(&skep, &left);
    assert_eq!(agent_version(&skep), env!("CARGO_PKG_VERSION"));
    left.end();
    skep.stop();
    for generator in [&delivered, &left] {
        assert_exact(generator, &|sql| number(data.path(), sql));
        assert_arguments(generator, &query(data.path(), &arguments_sql(generator.pid())));
    }
    assert_ledger(&|sql| number(data.path(), sql));
    let set_aside = fs::read_dir(data.path().join("agent/spool/quarantine")).map_or(0, Iterator::count);
    assert_eq!(set_aside, 0, "the present agent reads the records of the one before");
}
