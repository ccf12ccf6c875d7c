//! Peers are asked and answer, through the responder.

use ed25519_dalek::SigningKey;
use prost::Message;
use skep_policy::Policy;
use skep_wire::chunk::{self, Builder};
use skep_wire::envelope::Origin;
use skep_wire::{tables, v1};

use super::{Output, Responder, Setup};

const SECOND: i64 = 1_000_000;

const POLICY: &str = "[[rule]]\nname = \"r\"\nfinding = \"check-failed\"\nmode = \"auto\"\naction = \"restart_unit\"\n";

/// Three nodes; what is stored of the shop being down on the first.
fn found() -> (Responder, Output) {
    let rules = skep_rules::detector::Detector::new(&mut skep_rules::load::Loaded::pack()).unwrap();
    let policy = Policy::parse(POLICY).unwrap();
    let mut responder = Responder::new(Setup { policy, key: SigningKey::from_bytes(&[3; 32]), rules, seed: [5; 32] });
    ["a", "b", "c"].iter().for_each(|node| drop(responder.connected(node, "boot-1", 0)));
    let mut row = Builder::new(&tables::CHECKS);
    row.int("time", SECOND).text("name", "shop").text("kind", "http").text("target", "http://10.0.0.1/");
    row.text("workload", "unit:shop.service").bool("ok", false).int("latency_ns", 1).int("failures", 1);
    row.int("retries", 0).bool("down", true).bool("critical", false).float("interval_s", 1.0);
    row.text_list::<&str>("depends_on", &[]).text_list::<&str>("figures", &[]).end_row().unwrap();
    let origin = Origin { node: "a".to_owned(), boot: "boot-1".to_owned(), stream: "s".to_owned(), seq: 1 };
    let batch = v1::Batch { sealed_us: 0, chunks: row.finish().into_iter().collect(), deliveries: Vec::new() };
    let output = responder.observe(&origin, &batch, SECOND);
    (responder, output)
}

fn says(responder: &mut Responder, peer: &str, id: &str, sight: v1::Sight) -> Output {
    let answer = v1::ProbeAnswer { id: id.to_owned(), sight: sight.into(), detail: "no\nanswer".to_owned() };
    responder.answered(peer, &answer, 2 * SECOND)
}

/// Steps and details in `audit`.
fn audited(output: &Output) -> Vec<(String, String)> {
    let chunks = output.chunks.iter().filter(|chunk| chunk.table == "audit");
    let text = |row: &chunk::Row<'_>, name: &str| row.text(name).unwrap_or_default().to_owned();
    chunks.flat_map(chunk::rows).map(|row| (text(&row, "step"), text(&row, "detail"))).collect()
}

#[test]
fn a_majority_sends_the_command_and_is_signed_with_it() {
    let (mut responder, output) = found();
    assert!(output.commands.is_empty());
    let mut asked: Vec<&str> = output.probes.iter().map(|(peer, _)| peer.as_str()).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["b", "c"]);
    let id = output.probes[0].1.id.clone();
    assert!(
        audited(&output).iter().any(|(step, detail)| step == "asked" && detail.ends_with("2 of 2 must see it down"))
    );
    let first = says(&mut responder, "b", &id, v1::Sight::Down);
    assert!(first.commands.is_empty());
    assert_eq!(audited(&first), [("answered".to_owned(), "b sees it down: noanswer".to_owned())]);
    let second = says(&mut responder, "c", &id, v1::Sight::Down);
    let [sent] = &second.commands[..] else { panic!("{:?}", second.commands) };
    assert_eq!((&sent.action, sent.node.as_str()), (&id, "a"));
    let command = v1::Command::decode(&sent.command.command[..]).unwrap();
    assert!(command.quorum.starts_with("2 of 2 peers see it down, 2 must: b sees it down"), "{}", command.quorum);
    let late = says(&mut responder, "c", &id, v1::Sight::Well);
    assert_eq!(audited(&late)[0].0, "answered late");
}

#[test]
fn one_that_sees_it_well_is_enough_to_leave_it_alone_and_that_is_written_down() {
    let (mut responder, output) = found();
    let id = output.probes[0].1.id.clone();
    let refused = says(&mut responder, "c", &id, v1::Sight::Well);
    assert!(refused.commands.is_empty() && refused.probes.is_empty());
    let steps = audited(&refused);
    let (step, why) = steps.last().unwrap();
    assert!(step == "no quorum" && why.contains("b did not answer; c says it is well"), "{steps:?}");
    let chained = refused.records.last().unwrap();
    assert_eq!((chained.step.as_str(), chained.facts.get("poll")), ("no quorum", Some(&id)));
    assert!(responder.tick(20 * SECOND).probes.is_empty());
    assert_eq!(responder.tick(33 * SECOND).probes.len(), 2, "it may yet break for all");
}
