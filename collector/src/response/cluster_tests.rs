use ed25519_dalek::SigningKey;
use prost::Message;
use skep_wire::envelope::Origin;
use skep_wire::v1::{self, Step};
use skep_wire::{chunk, order, tables};

use super::output::Output;
use super::responder::{OWN_NODE, Responder, Setup};
use crate::decide::Policy;

const SECOND: i64 = 1_000_000;

const SCALE: &str = "replicas=5 namespace=shop kind=deployment name=web lease_s=60";

fn responder() -> Responder {
    let rules = skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap();
    let policy = Policy::parse("").unwrap();
    Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules, seed: [5; 32] })
}

fn request(node: &str, verb: &str, parameters: &str) -> v1::ActRequest {
    let order = v1::Order {
        node: node.to_owned(),
        verb: verb.to_owned(),
        parameters: parameters.to_owned(),
        workload: "host".to_owned(),
        ..Default::default()
    };
    v1::ActRequest { verb: v1::Verb::Order.into(), order: Some(order), ..Default::default() }
}

fn column(output: &Output, name: &str) -> Vec<String> {
    for chunk in &output.chunks {
        chunk::check(chunk, tables::find(&chunk.table).unwrap()).unwrap();
    }
    let chunks = output.chunks.iter().filter(|chunk| chunk.table == "actions");
    chunks.flat_map(chunk::rows).filter_map(|row| row.text(name).map(str::to_owned)).collect()
}

fn command(output: &Output) -> v1::Command {
    v1::Command::decode(output.commands[0].command.command.as_slice()).unwrap()
}

fn receipt(of: &v1::Command, step: Step, detail: &str) -> v1::Receipt {
    v1::Receipt {
        number: 1,
        time_us: 5,
        action_id: of.id.clone(),
        step: step.into(),
        detail: detail.to_owned(),
        command: Some(of.clone()),
        ..Default::default()
    }
}

/// Ordered and sent.
fn sent(responder: &mut Responder) -> (v1::Command, Output) {
    responder.cluster_connected("cluster-1", 0);
    let (_, output) = responder.operator(&request(order::CLUSTER, "scale", SCALE), "ann", SECOND).unwrap();
    (command(&output), output)
}

#[test]
fn an_order_for_the_cluster_goes_to_it_and_its_receipts_come_back_as_rows() {
    let mut responder = responder();
    let early = responder.operator(&request(order::CLUSTER, "scale", SCALE), "ann", 0).unwrap_err().to_string();
    assert_eq!(early, "node kubernetes is not connected");
    let (scale, output) = sent(&mut responder);
    assert_eq!(output.commands[0].node, "kubernetes");
    assert_eq!((scale.boot.as_str(), column(&output, "state")), ("cluster-1", vec!["pending".into(), "sent".into()]));
    assert_eq!(column(&output, "workload")[0], "deployment:shop/web");
    let applied = v1::Receipt { lease_until_us: 61 * SECOND, ..receipt(&scale, Step::Applied, "from 3 to 5") };
    let said = responder.cluster_said(&applied, 2 * SECOND);
    assert_eq!((column(&said, "state"), column(&said, "actor")), (vec!["applied".into()], vec!["kubernetes".into()]));
    assert_eq!((said.records[0].step.as_str(), said.records[0].actor.as_str()), ("applied", "kubernetes"));
    assert!(responder.cluster_said(&applied, 3 * SECOND).is_empty(), "it is known");
    responder.cluster_said(&receipt(&scale, Step::Improved, "5 of 5"), 3 * SECOND);
    let word = v1::ActRequest { action_id: scale.id.clone(), verb: v1::Verb::Undo.into(), ..Default::default() };
    let (_, undo) = responder.operator(&word, "ann", 4 * SECOND).unwrap();
    assert_eq!((undo.commands[0].node.as_str(), undo.commands[0].undo), ("kubernetes", true));
    // What is said of the command to undo says nothing of the action.
    let refused = responder.cluster_said(&receipt(&command(&undo), Step::Refused, "no action stands"), 5 * SECOND);
    assert_eq!(column(&refused, "state"), ["improved"]);
    assert_eq!(column(&refused, "detail"), ["undo refused: no action stands"]);
    let undone = responder.cluster_said(&receipt(&scale, Step::Undone, "3 again"), 6 * SECOND);
    assert_eq!(column(&undone, "state"), ["undone"]);
}

#[test]
fn a_restarted_collector_knows_what_stands_in_the_cluster() {
    let mut before = responder();
    let (scale, output) = sent(&mut before);
    let said = before.cluster_said(&receipt(&scale, Step::Applied, "from 3 to 5"), 2 * SECOND);
    let mut after = responder();
    let origin = Origin { node: OWN_NODE.to_owned(), boot: String::new(), stream: "s".to_owned(), seq: 1 };
    for chunks in [output.chunks, said.chunks] {
        after.restore(&origin, &v1::Batch { sealed_us: 0, chunks, deliveries: Vec::new() }, 3 * SECOND);
    }
    after.cluster_connected("cluster-1", 3 * SECOND);
    let word = v1::ActRequest { action_id: scale.id.clone(), verb: v1::Verb::Undo.into(), ..Default::default() };
    let (_, undo) = after.operator(&word, "ann", 4 * SECOND).unwrap();
    assert_eq!(command(&undo).boot, "cluster-1");
    let undone = after.cluster_said(&receipt(&scale, Step::Undone, "3 again"), 6 * SECOND);
    assert_eq!(column(&undone, "state"), ["undone"]);
}

#[test]
fn what_is_for_hosts_and_what_is_for_the_cluster_do_not_mix() {
    let mut responder = responder();
    responder.cluster_connected("cluster-1", 0);
    responder.connected("n1", "boot-1", 0);
    for (node, verb, parameters, why) in [
        ("kubernetes", "run", "name=x", "run is not for kubernetes"),
        ("n1", "scale", SCALE, "scale is not for n1"),
        (
            "kubernetes",
            "restart_rollout",
            "namespace=kube-system name=dns",
            "deployment:kube-system/dns is protected by *:kube-system/*",
        ),
    ] {
        let error = responder.operator(&request(node, verb, parameters), "ann", 0).unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}
