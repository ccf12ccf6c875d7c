//! Every action on a cluster: checked, applied, verified, undone; kubectl looks before and after, and meddles.

#![expect(clippy::unwrap_used, reason = "a test ends at the line that is wrong")]

mod authority;

mod crash;

mod node;

mod pod;

mod role;

mod rollout;

mod scale;

mod task;

use skep_cluster::Cluster;
use skep_cluster::bench::Bench;

/// A cluster and what acts on it with these settings.
fn start(settings: &str) -> (Cluster, tempfile::TempDir, Bench) {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::over(&cluster.kubeconfig(), dir.path(), settings);
    (cluster, dir, bench)
}
