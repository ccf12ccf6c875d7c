//! One life of what acts on a cluster, for tests that end it: carries out one command and, if told so, takes it back.

#![expect(clippy::unwrap_used, reason = "for tests")]

use skep_cluster::bench;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, dir, id, verb, parameters, then] = <[String; 6]>::try_from(arguments).unwrap();
    let mut bench = bench::Bench::over(kubeconfig.as_ref(), dir.as_ref(), bench::ALL);
    let command = bench.command(&id, &verb, &parameters);
    bench.execute(&command);
    bench.settle();
    if then == "undo" {
        bench.undo(&id);
    }
}
