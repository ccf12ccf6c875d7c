//! Podman's containers, with runc.

use skep_tests::Skep;

use crate::image::{Podman, run};
use crate::rows::{assert_agreed, processes_of};

/// Containers that live for 50 ms are gone, directory and all, before the agent comes round to its ring.
#[test]
fn containers_have_their_own_names_however_short_they_live() {
    let folder = tempfile::tempdir().expect("a folder");
    let podman = Podman::prepare(folder.path());
    let long = podman.create(&["sh", "-c", "while true; do /bin/busybox usleep 100000; done"]);
    let short: Vec<String> = (0..5).map(|_| podman.create(&["usleep", "50000"])).collect();
    // One of them was there before the agent.
    run(&mut podman.command(&["start", &long]));
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    for container in &short {
        run(&mut podman.command(&["start", "--attach", container]));
    }
    skep.next_window();
    for container in &short {
        let workload = format!("container:{container}");
        let processes = processes_of(&skep, &workload);
        assert!(!processes.is_empty(), "{workload}");
        processes.into_iter().for_each(|process| assert_agreed(&skep, &workload, process));
        let ids = format!("SELECT count(*) FROM cpu WHERE workload = '{workload}' AND container_id = '{container}'");
        assert!(skep.number(&ids) > 0, "the column container_id of {workload}");
    }
    let workload = format!("container:{long}");
    let processes = processes_of(&skep, &workload);
    assert!(processes.len() > 5, "{} sleeps of {workload}", processes.len());
    processes.into_iter().for_each(|process| assert_agreed(&skep, &workload, process));
    let late = format!("SELECT count(*) FROM processes WHERE workload = '{workload}' AND event = 'running'");
    assert!(skep.number(&late) > 0, "its shell ran before the agent");
}
