//! Whether a node takes new pods.

use serde_json::{Value, json};
use skep_wire::v1::Step;

use super::{ANNOTATION, ANNOTATION_POINTER, ActError, Outcome, Progress, rollout};
use crate::cluster::{Cluster, ClusterError, Patch, text};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::target::{Kind, Object, collection};

/// Labels of nodes that hold the cluster together.
const CONTROL: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

fn is_cordoned(node: &Value) -> bool {
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// Enough others must be left for what is put somewhere.
pub(super) async fn check(cluster: &Cluster, settings: &Settings, node: &Object, value: &Value) -> Result<(), Refusal> {
    let labels = value.pointer("/metadata/labels").cloned().unwrap_or_default();
    if let Some(label) = CONTROL.iter().find(|label| labels.get(**label).is_some()) {
        return Err(Refusal::Protected { subject: node.subject(), why: format!("it is labelled {label}") });
    }
    let list = cluster.get(&collection(Kind::Node, "")).await?.unwrap_or_default();
    let nodes = list["items"].as_array().cloned().unwrap_or_default();
    let left = nodes
        .iter()
        .filter(|other| is_ready(other) && !is_cordoned(other) && text(other, "/metadata/uid") != node.uid)
        .count();
    if left < settings.min_schedulable {
        let least = settings.min_schedulable;
        return Err(Refusal::Policy { why: format!("{left} other nodes would be left for new pods, {least} must be") });
    }
    Ok(())
}

pub(super) fn capture(node: &Object, value: &Value, cordon: bool) -> Result<(Value, Value), Refusal> {
    if is_cordoned(value) == cordon {
        let state = if cordon { "takes no new pods already" } else { "takes new pods" };
        return Err(Refusal::Moot { reading: format!("{} {state}", node.subject()) });
    }
    Ok((json!(!cordon), json!(cordon)))
}

/// Cordons in the name of an action, or lets pods in again.
pub(super) async fn set(cluster: &Cluster, node: &Object, action: Option<&str>) -> Result<(), ActError> {
    let body = json!({
        "metadata": { "uid": node.uid, "annotations": { ANNOTATION: action } },
        "spec": { "unschedulable": action.map(|_| true) },
    });
    Ok(cluster.patch(&node.url(), Patch::Merge, &body).await.map(drop)?)
}

pub(super) async fn progress(cluster: &Cluster, node: &Object, cordon: bool) -> Result<Progress, ActError> {
    let value = rollout::again(cluster, node).await?;
    let (good, state) = if cordon { (Step::Improved, "takes no new pods") } else { (Step::Done, "takes new pods") };
    Ok(Progress::Over(if is_cordoned(&value) == cordon {
        Outcome::of(good, format!("{} {state}", node.subject()))
    } else {
        Outcome::of(Step::Failed, format!("somebody changed {} back", node.subject()))
    }))
}

/// Lets pods in again, where it was this action that kept them out.
pub(super) async fn undo(cluster: &Cluster, node: &Object, value: &Value, action: &str) -> Result<String, ActError> {
    let annotation = format!("/metadata/annotations/{ANNOTATION_POINTER}");
    let mut value = value.clone();
    for _ in 0..2 {
        if !is_cordoned(&value) {
            return Ok(format!("{} takes new pods already", node.subject()));
        }
        if text(&value, &annotation) != action {
            break;
        }
        let body = json!([
            { "op": "test", "path": "/metadata/uid", "value": node.uid },
            { "op": "test", "path": annotation, "value": action },
            { "op": "remove", "path": "/spec/unschedulable" },
            { "op": "remove", "path": annotation },
        ]);
        match cluster.patch(&node.url(), Patch::Json, &body).await {
            Ok(_) => return Ok(format!("{} takes new pods again", node.subject())),
            Err(ClusterError::Conflict { .. }) => value = rollout::again(cluster, node).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("somebody else keeps {} from new pods; it is left alone", node.subject()))
}
