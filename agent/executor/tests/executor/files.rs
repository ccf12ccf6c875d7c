//! Old files, and commands of the configuration.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use skep_wire::v1::{self, Step, command::Action};

use crate::support::Executor;

fn file(path: &Path, age: Duration) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x".repeat(5000)).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const OLD: Duration = Duration::from_secs(10_000);

const NEW: Duration = Duration::from_secs(10);

fn clean(executor: &mut Executor, folder: &Path, older_than_s: u64) -> v1::Command {
    executor.issue(Action::Clean(v1::Clean { folder: folder.to_str().unwrap().to_owned(), older_than_s }))
}

#[test]
fn old_files_of_the_folder_go_and_nothing_else_does() {
    let place = tempfile::tempdir().unwrap();
    let (inside, outside) = (place.path().join("cache"), place.path().join("precious"));
    for name in ["old", "a/old", "a/b/old"] {
        file(&inside.join(name), OLD);
    }
    file(&inside.join("a/new"), NEW);
    file(&outside.join("old"), OLD);
    symlink(&outside, inside.join("folder-link")).unwrap();
    symlink(outside.join("old"), inside.join("file-link")).unwrap();
    let folder = inside.display();
    let config =
        format!("act = true\nactions = [\"clean\"]\n[[clean.folder]]\npath = \"{folder}\"\nmin_age_s = 3600\n");
    let mut executor = Executor::start(&config);
    let mut agent = executor.agent();

    let command = clean(&mut executor, &inside, 7200);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let done = agent.expect(Step::Done).detail;
    assert!(done.starts_with("3 files removed, "), "{done}");
    for (name, stays) in [("old", false), ("a/old", false), ("a/b/old", false), ("a/new", true), ("a/b", true)] {
        assert_eq!(inside.join(name).exists(), stays, "{name}");
    }
    assert!(
        outside.join("old").exists()
            && inside.join("folder-link").is_symlink()
            && inside.join("file-link").is_symlink()
    );

    let command = clean(&mut executor, &inside, 7200);
    agent.execute(executor.sign(&command));
    assert!(agent.expect(Step::Moot).detail.contains("holds no file of 7200 s or older"));
    let young = clean(&mut executor, &inside, 60);
    assert!(agent.refused(executor.sign(&young)).contains("files of 60 s, the least is 3600 s"));
    for folder in [outside.clone(), inside.join("../precious"), inside.join("a")] {
        let command = clean(&mut executor, &folder, 7200);
        assert!(agent.refused(executor.sign(&command)).contains("is not among clean.folder"));
    }
    file(&inside.join("old"), OLD);
    let mut full = clean(&mut executor, &inside, 7200);
    full.trigger = Some(v1::Trigger { signal: v1::Signal::DiskUsedRatio.into(), at_least: 1.5 });
    agent.execute(executor.sign(&full));
    assert!(agent.expect(Step::Moot).detail.contains("of the disk of"));

    // The folder itself gives way to a link.
    fs::rename(&inside, place.path().join("moved")).unwrap();
    symlink(&outside, &inside).unwrap();
    let command = clean(&mut executor, &inside, 7200);
    let reason = {
        agent.execute(executor.sign(&command));
        agent.expect(Step::Refused).detail
    };
    assert!(reason.contains("cannot be read"), "{reason}");
    assert!(outside.join("old").exists());
}

#[test]
fn other_file_systems_below_the_folder_are_not_entered() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("cache");
    file(&folder.join("old"), OLD);
    fs::create_dir(folder.join("mounted")).unwrap();
    let mount = |words: &[&str]| std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success();
    let mounted = folder.join("mounted");
    assert!(mount(&["mount", "-t", "tmpfs", "skep-test", mounted.to_str().unwrap()]));
    file(&mounted.join("old"), OLD);
    let config = format!("act = true\nactions = [\"clean\"]\n[[clean.folder]]\npath = \"{}\"\n", folder.display());
    let mut executor = Executor::start(&format!("{config}min_age_s = 60\n"));
    let mut agent = executor.agent();
    let command = clean(&mut executor, &folder, 7200);
    agent.execute(executor.sign(&command));
    agent.expect(Step::Applied);
    let done = agent.receipt().detail;
    let there = mounted.join("old").exists();
    assert!(mount(&["umount", mounted.to_str().unwrap()]));
    assert!(done.starts_with("1 files removed") && there, "{done}");
}

fn script(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn command_of(name: &str, argv: &[&str]) -> String {
    let argv: Vec<String> = argv.iter().map(|word| format!("\"{word}\"")).collect();
    format!("[[run.command]]\nname = \"{name}\"\nargv = [{}]\ntimeout_s = 2\n", argv.join(", "))
}

#[test]
fn commands_of_the_configuration_are_run_as_they_stand_there() {
    let place = tempfile::tempdir().unwrap();
    let left = place.path().join("left");
    let path = script(place.path(), "fine", "echo \"$# $1\"; echo \"$SKEP_ACTION\" | cut -c 1-4 >&2");
    let slow = script(place.path(), "slow", &format!("(sleep 4; touch {}) & sleep 60", left.display()));
    let loud = script(place.path(), "loud", "yes | head -c 10000000; exit 3");
    let open = script(place.path(), "open", "true");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let config = ["act = true\nactions = [\"run\"]\n".to_owned()]
        .into_iter()
        .chain(
            [
                ("fine", vec![path.as_str(), "a; b $(c)"]),
                ("slow", vec![&slow]),
                ("loud", vec![&loud]),
                ("open", vec![&open]),
            ]
            .map(|(name, argv)| command_of(name, &argv)),
        )
        .collect::<String>();
    let mut executor = Executor::start(&config);
    let mut agent = executor.agent();
    let mut run = |name: &str| {
        let command = executor.issue(Action::Run(v1::Run { name: name.to_owned() }));
        agent.execute(executor.sign(&command));
        let first = agent.receipt();
        if first.step() == Step::Applied { agent.receipt() } else { first }
    };
    let fine = run("fine");
    assert_eq!(fine.step(), Step::Done);
    assert!(fine.detail.ends_with("said: 1 a; b $(c) / 0000"), "{}", fine.detail);
    let loud = run("loud");
    assert!(loud.step() == Step::Failed && loud.detail.contains("exit status: 3"), "{}", loud.detail);
    assert!(loud.detail.len() < 3000, "what it said is bounded");
    let begun = Instant::now();
    let slow = run("slow");
    assert!(slow.step() == Step::Failed && slow.detail.starts_with("killed after 2."), "{}", slow.detail);
    assert!(run("open").detail.contains("may be changed by others than root"));
    assert!(run("/bin/true").detail.contains("is not among run.command"));
    std::thread::sleep(Duration::from_secs(5).saturating_sub(begun.elapsed()));
    assert!(!left.exists(), "what it started is gone with it");
}
