//! A unit's check, in a systemd of its own (the executor's box), by the command an operator has for it.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::process::{Command, Output};

use self::boxed::Boxed;

#[path = "../executor/tests/executor/boxed.rs"]
#[expect(dead_code, reason = "the executor's tests need more of it")]
mod boxed;

mod support {
    use std::time::Duration;

    pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        for _ in 0..900 {
            if let Some(found) = probe() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("waited in vain for {what}");
    }
}

const SETTINGS: &str = "collector = \"https://127.0.0.1:1\"\nca = \"x\"\ncert = \"x\"\nkey = \"x\"\n\
                        [[check]]\nname = \"web\"\nkind = \"unit\"\ntarget = \"test-web.service\"\n\
                        [[check]]\nname = \"crash\"\nkind = \"unit\"\ntarget = \"test-crash.service\"\n\
                        [[check]]\nname = \"none\"\nkind = \"unit\"\ntarget = \"test-none.service\"\n";

#[test]
fn a_unit_is_well_while_it_is_active() {
    let web = ("test-web.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    let crash = ("test-crash.service", "[Service]\nExecStart=/bin/false\n");
    let boxed = Boxed::boot(&[web, crash]);
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), SETTINGS).unwrap();
    let check = |name: &str| -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep-agent"));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", boxed.bus()).args(["check", "--config"]).arg(settings.path()).arg(name);
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&stderr), "");
        (status.code(), String::from_utf8_lossy(&stdout).into_owned())
    };
    boxed.inside(&["systemctl", "start", "test-web.service", "test-crash.service"]);
    let (code, said) = check("web");
    assert!(code == Some(0) && said.starts_with("ok   web (unit test-web.service, "), "{said}");
    support::eventually("the crash", || {
        (boxed.property("test-crash.service", "ActiveState") == "failed").then_some(())
    });
    let (code, said) = check("crash");
    assert!(code == Some(1) && said.ends_with(": the unit is failed (failed, result exit-code)\n"), "{said}");
    let (code, said) = check("none");
    assert!(code == Some(1) && said.ends_with(": the unit is not-found\n"), "{said}");
    boxed.inside(&["systemctl", "stop", "test-web.service"]);
    let (code, said) = check("web");
    assert!(code == Some(1) && said.ends_with(": the unit is inactive (dead)\n"), "{said}");
}
