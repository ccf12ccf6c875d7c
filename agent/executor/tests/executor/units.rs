//! systemd's units, over D-Bus, in a box.

use skep_wire::v1::{self, Step, UnitVerb, command::Action};

use crate::boxed::Boxed;
use crate::support::{Agent, Executor};

pub(crate) const CONFIG: &str = "act = true\nactions = [\"restart_unit\", \"reload_unit\", \"stop_unit\", \"start_unit\"]\n\
                      [unit]\nallowed = [\"test-*\", \"dbus.service\"]\n[budget]\nmax_per_hour = 1000\n";

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep 1000\nExecReload=/bin/true\n";

/// Runs for a moment and fails.
const CRASHING: &str = "[Service]\nExecStart=/bin/sh -c 'sleep 0.3; exit 1'\n";

pub(crate) const WEB: &str = "test-web.service";

const CRASH: &str = "test-crash.service";

pub(crate) fn boot() -> Boxed {
    Boxed::boot(&[(WEB, SERVICE), (CRASH, CRASHING)])
}

pub(crate) fn change(
    executor: &mut Executor,
    verb: UnitVerb,
    unit: &str,
    invocation_id: &str,
    lease_s: u32,
) -> v1::Command {
    let action = Action::ChangeUnit(v1::ChangeUnit { verb: verb.into() });
    let unit = v1::UnitTarget { name: unit.to_owned(), invocation_id: invocation_id.to_owned() };
    let target = v1::Target { unit: Some(unit), ..v1::Target::default() };
    v1::Command { target: Some(target), lease_s, ..executor.issue(action) }
}

fn start(boxed: &Boxed) -> (Executor, Agent) {
    let mut executor = Executor::prepare(CONFIG, &[]);
    executor.restart_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &boxed.bus())]);
    let agent = executor.agent();
    (executor, agent)
}

#[test]
fn a_unit_is_restarted_reloaded_stopped_and_started_and_seen_to_be() {
    let boxed = boot();
    boxed.inside(&["systemctl", "start", WEB]);
    let (mut executor, mut agent) = start(&boxed);
    let invocation = || boxed.property(WEB, "InvocationID");
    let first = invocation();

    let command = change(&mut executor, UnitVerb::Restart, WEB, &first, 0);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    assert_eq!(agent.expect(Step::Done).detail, format!("{WEB} is active, a new invocation"));
    assert_ne!(invocation(), first);
    let stale = change(&mut executor, UnitVerb::Restart, WEB, &first, 0);
    let reason = agent.refused(executor.sign(&stale));
    assert_eq!(reason, format!("unit {WEB} was started anew since; it is left alone"));

    let second = invocation();
    let command = change(&mut executor, UnitVerb::Reload, WEB, &second, 0);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    assert_eq!(agent.expect(Step::Done).detail, format!("{WEB} is active, the same invocation"));

    let command = change(&mut executor, UnitVerb::Stop, WEB, "", 60);
    agent.execute(executor.sign(&command));
    assert!(agent.expect(Step::Applied).lease_until_us > 0, "a stop is a lease");
    assert_eq!(agent.expect(Step::Improved).detail, format!("{WEB} is inactive"));
    assert_eq!(boxed.property(WEB, "ActiveState"), "inactive");
    let undo = executor.undo(&command.id);
    agent.execute(executor.sign(&undo));
    assert!(agent.expect(Step::Undone).detail.ends_with("is started again"));
    crate::support::eventually("the unit to be back", || {
        (boxed.property(WEB, "ActiveState") == "active").then_some(())
    });

    let command = change(&mut executor, UnitVerb::Start, WEB, "", 0);
    agent.execute(executor.sign(&command));
    assert_eq!(agent.expect(Step::Moot).detail, format!("trigger gone: {WEB} is active"));
    boxed.inside(&["systemctl", "stop", WEB]);
    let command = change(&mut executor, UnitVerb::Start, WEB, "", 0);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Done);
    assert_eq!(boxed.property(WEB, "ActiveState"), "active");
}

#[test]
fn what_must_not_or_need_not_be_done_to_a_unit_is_not() {
    let boxed = boot();
    boxed.inside(&["systemctl", "start", WEB]);
    let (mut executor, mut agent) = start(&boxed);
    let dbus = change(&mut executor, UnitVerb::Restart, "dbus.service", "", 0);
    let reason = agent.refused(executor.sign(&dbus));
    assert_eq!(reason, "unit dbus.service is protected: dbus* is always", "whatever the configuration allows");
    let cron = change(&mut executor, UnitVerb::Restart, "cron.service", "", 0);
    assert!(agent.refused(executor.sign(&cron)).contains("is not among unit.allowed"));
    let none = change(&mut executor, UnitVerb::Restart, "test-none.service", "", 0);
    assert_eq!(agent.refused(executor.sign(&none)), "there is no unit test-none.service");

    // It has recovered before the command came.
    let mut command = change(&mut executor, UnitVerb::Restart, WEB, "", 0);
    command.trigger = Some(v1::Trigger { signal: v1::Signal::UnitDown.into(), at_least: 1.0 });
    let before = boxed.property(WEB, "InvocationID");
    agent.execute(executor.sign(&command));
    let moot = agent.expect(Step::Moot).detail;
    assert_eq!(moot, format!("trigger gone: {WEB} is active"));
    assert_eq!(boxed.property(WEB, "InvocationID"), before);

    // One that does not stay up is not called restarted.
    let command = change(&mut executor, UnitVerb::Start, CRASH, "", 0);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let failed = agent.expect(Step::Failed).detail;
    assert!(failed.contains("is failed") || failed.contains("is failed now"), "{failed}");
}

/// The effect of a stop dies with its boot: after it the journal is closed, and nothing is done to the new one.
#[test]
fn a_reboot_of_the_box_leaves_nothing_to_undo() {
    let mut boxed = boot();
    boxed.inside(&["systemctl", "start", WEB]);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("boot_id");
    let read_boot = |boxed: &Boxed| {
        let boot = boxed.inside(&["cat", "/proc/sys/kernel/random/boot_id"]).trim().to_owned();
        std::fs::write(&file, &boot).unwrap();
        boot
    };
    // The executor takes the box's boots for its own.
    let mount = format!("mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"", file.display());
    let mut executor = Executor::prepare(CONFIG, &["unshare", "-m", "sh", "-c", &mount]);
    let boot = read_boot(&boxed);
    executor.restart_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &boxed.bus())]);
    let mut agent = executor.agent();
    let command = v1::Command { boot, ..change(&mut executor, UnitVerb::Stop, WEB, "", 300) };
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    executor.kill();
    boxed.reboot();
    assert_ne!(read_boot(&boxed), command.boot);
    executor.restart_with(&[("DBUS_SYSTEM_BUS_ADDRESS", &boxed.bus())]);
    let mut agent = executor.agent();
    agent.expect(Step::Applied);
    agent.expect(Step::Improved);
    let undone = agent.expect(Step::Undone).detail;
    assert!(undone.contains("the host has restarted since"), "{undone}");
    assert_eq!(boxed.property(WEB, "ActiveState"), "inactive", "as its boot left it");
    assert!(agent.status().active.is_empty());
}
