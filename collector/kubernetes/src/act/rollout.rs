//! A template is started anew, or one of before put back.

use std::time::Duration;

use serde_json::{Value, json};
use skep_wire::v1::Step;

use super::{ANNOTATION, ANNOTATION_POINTER, ActError, Captured, Outcome, Progress};
use crate::cluster::{Cluster, ClusterError, Patch, number, text};
use crate::refusal::Refusal;
use crate::target::{self, Kind, Object, collection};

/// What a deployment counts its templates by.
const REVISION: &str = "/metadata/annotations/deployment.kubernetes.io~1revision";

/// Which of a deployment's sets a pod is of: the controller puts it there, and does not want it back.
const HASH: &str = "pod-template-hash";

/// A controller is waited for so often,
const LOOKS: u32 = 20;

/// with so long in between.
const LOOK: Duration = Duration::from_millis(100);

/// What kubectl and those who read it look for.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// The object as it is now; gone or made again is an error.
pub(super) async fn again(cluster: &Cluster, object: &Object) -> Result<Value, ActError> {
    match target::read(cluster, object.clone()).await {
        Ok((_, value)) => Ok(value),
        Err(Refusal::Cluster(error)) => Err(error.into()),
        Err(refusal) => Err(ActError::Changed(refusal.to_string())),
    }
}

/// Ready and wanted pods, as whatever controls pods says it.
pub(super) fn ready(value: &Value) -> Option<(i64, i64)> {
    if let Some(wanted) = value.pointer("/status/desiredNumberScheduled").and_then(Value::as_i64) {
        return Some((number(value, "/status/numberReady"), wanted));
    }
    let wanted = value.pointer("/spec/replicas").and_then(Value::as_i64)?;
    Some((number(value, "/status/readyReplicas"), wanted))
}

/// Replaces all pods by such of the same template, one after another.
pub(super) async fn restart(cluster: &Cluster, object: &Object, action: &str) -> Result<(), ActError> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let body = json!({
        "metadata": { "uid": object.uid },
        "spec": { "template": { "metadata": { "annotations": { RESTARTED: now, ANNOTATION: action } } } },
    });
    Ok(cluster.patch(&object.url(), Patch::Merge, &body).await.map(drop)?)
}

/// The object once its controller has seen its newest template: until then its revision is that of another.
async fn seen(cluster: &Cluster, object: &Object, value: &Value) -> Result<Value, Refusal> {
    let mut value = value.clone();
    for _ in 0..LOOKS {
        if is_seen(&value) {
            return Ok(value);
        }
        tokio::time::sleep(LOOK).await;
        value = target::read(cluster, object.clone()).await?.1;
    }
    let lacks = "was changed a moment ago, and its controller has not seen that yet".to_owned();
    Err(Refusal::Lacks { subject: object.subject(), lacks })
}

pub(super) fn is_seen(value: &Value) -> bool {
    number(value, "/status/observedGeneration") >= number(value, "/metadata/generation")
}

/// The template that stands, and the one of `revision`, or of the newest before it.
pub(super) async fn capture(
    cluster: &Cluster,
    object: &Object,
    value: &Value,
    revision: i64,
) -> Result<(Value, Value), Refusal> {
    let value = &seen(cluster, object, value).await?;
    let standing = text(value, REVISION).parse::<i64>().unwrap_or(0);
    if value.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return Err(Refusal::Lacks {
            subject: object.subject(),
            lacks: "is paused: resume its rollout first".to_owned(),
        });
    }
    let path = collection(Kind::ReplicaSet, &object.namespace);
    let list = cluster.get(&path).await?.unwrap_or_default();
    let sets = list["items"].as_array().cloned().unwrap_or_default();
    let own = sets
        .into_iter()
        .filter(|set| target::owner(&object.namespace, set).is_some_and(|owner| owner.uid == object.uid));
    let mut revisions: Vec<(i64, Value)> =
        own.filter_map(|set| Some((text(&set, REVISION).parse().ok()?, set))).collect();
    revisions.sort_by_key(|(revision, _)| *revision);
    let there: Vec<String> = revisions.iter().map(|(revision, _)| revision.to_string()).collect();
    let fits = |of: i64| if revision == 0 { of < standing } else { of == revision };
    let found = revisions.into_iter().rev().find(|(of, _)| fits(*of));
    let Some((to, set)) = found else {
        let lacks = if revision == 0 {
            "has no revision before the one that stands".to_owned()
        } else {
            format!("has no revision {revision}, but {}", there.join(", "))
        };
        return Err(Refusal::Lacks { subject: object.subject(), lacks });
    };
    let mut template = set.pointer("/spec/template").cloned().unwrap_or_default();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    let before = value.pointer("/spec/template").cloned().unwrap_or_default();
    if template == before {
        return Err(Refusal::Moot {
            reading: format!("{} has the template of revision {to} already", object.subject()),
        });
    }
    Ok((json!({ "revision": standing, "template": before }), json!({ "revision": to, "template": template })))
}

/// From one template to another; `false` where it has a third by now.
pub(super) async fn put_template(
    cluster: &Cluster,
    object: &Object,
    from: &Value,
    to: &Value,
) -> Result<bool, ActError> {
    // Compared and changed in one step: the status changes all the time and is nobody's business here.
    let body = json!([
        { "op": "test", "path": "/metadata/uid", "value": object.uid },
        { "op": "test", "path": "/spec/template", "value": from["template"] },
        { "op": "replace", "path": "/spec/template", "value": to["template"] },
    ]);
    match cluster.patch(&object.url(), Patch::Json, &body).await {
        Ok(_) => Ok(true),
        Err(error @ ClusterError::Conflict { .. }) => {
            let now = again(cluster, object).await?;
            if now.pointer("/spec/template") == from.get("template") { Err(error.into()) } else { Ok(false) }
        }
        Err(error) => Err(error.into()),
    }
}

/// All pods are of the template that stands, and ready. `action` is whose template it must be.
pub(super) async fn progress(
    cluster: &Cluster,
    object: &Object,
    good: Step,
    action: Option<&str>,
) -> Result<Progress, ActError> {
    let value = again(cluster, object).await?;
    let whose = text(&value, &format!("/spec/template/metadata/annotations/{ANNOTATION_POINTER}"));
    if action.is_some_and(|action| whose != action) {
        let detail = format!("{} has another template by now", object.subject());
        return Ok(Progress::Over(Outcome::of(Step::Failed, detail)));
    }
    let conditions = value.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let stuck = conditions
        .iter()
        .any(|condition| condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded");
    let seen = is_seen(&value);
    let (updated, available, all, wanted) = if object.kind == Kind::DaemonSet {
        let wanted = number(&value, "/status/desiredNumberScheduled");
        (number(&value, "/status/updatedNumberScheduled"), number(&value, "/status/numberAvailable"), wanted, wanted)
    } else {
        let wanted = value.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
        let [updated, available, all] = ["updated", "available", ""].map(|which| match which {
            "" => number(&value, "/status/replicas"),
            which => number(&value, &format!("/status/{which}Replicas")),
        });
        (updated, available, all, wanted)
    };
    let detail = format!("{updated} of {wanted} pods are of the new template, {available} available");
    Ok(if stuck && seen {
        Progress::Over(Outcome::of(Step::Failed, format!("its rollout has stopped: {detail}")))
    } else if seen && updated == wanted && available == wanted && all == wanted {
        Progress::Over(Outcome::of(good, detail))
    } else {
        Progress::Under(detail)
    })
}

/// The template of before, where the one that was put there still stands.
pub(super) async fn undo(
    cluster: &Cluster,
    object: &Object,
    value: &Value,
    captured: &Captured,
) -> Result<String, ActError> {
    let now = value.pointer("/spec/template");
    if now == captured.was.get("template") {
        return Ok(format!("{} has the template of before already", object.subject()));
    }
    if now == captured.will.get("template") && put_template(cluster, object, &captured.will, &captured.was).await? {
        return Ok(format!("{} has the template of revision {} again", object.subject(), captured.was["revision"]));
    }
    Ok(format!("{} has another template by now; it is left alone", object.subject()))
}
