//! How many pods there are.

use std::time::Duration;

use serde_json::{Value, json};
use skep_wire::v1::Step;

use super::{ActError, Captured, Outcome, Progress, rollout};
use crate::cluster::{Cluster, ClusterError, Patch, number, text};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::target::{Kind, Object};

/// The status of what is scaled changes all the time, and every change is a conflict: it is looked at again so often.
const TRIES: u32 = 8;

/// The pause before the second look; longer each time.
const PAUSE: Duration = Duration::from_millis(30);

/// Within the bounds, and nobody else's business: an autoscaler would have another number a moment later.
pub(super) async fn check(
    cluster: &Cluster,
    settings: &Settings,
    object: &Object,
    replicas: u32,
) -> Result<(), Refusal> {
    let (least, most) = (settings.min_replicas, settings.max_replicas);
    if !(least..=most).contains(&replicas) {
        return Err(Refusal::Policy { why: format!("{replicas} replicas, {least} to {most} are") });
    }
    let path = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers", object.namespace);
    let list = cluster.get(&path).await?.unwrap_or_default();
    let scalers = list["items"].as_array().cloned().unwrap_or_default();
    let scaler = scalers.iter().find(|scaler| {
        let of = |key: &str| text(scaler, &format!("/spec/scaleTargetRef/{key}"));
        of("name") == object.name && Kind::parse(&of("kind")) == Some(object.kind)
    });
    match scaler {
        Some(scaler) => {
            let name = text(scaler, "/metadata/name");
            let lacks = format!("is scaled by horizontalpodautoscaler {name}: change its bounds instead");
            Err(Refusal::Lacks { subject: object.subject(), lacks })
        }
        None => Ok(()),
    }
}

pub(super) fn capture(object: &Object, value: &Value, replicas: u32) -> Result<(Value, Value), Refusal> {
    // One replica is what the API means where it says nothing.
    let was = value.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if was == i64::from(replicas) {
        return Err(Refusal::Moot { reading: format!("{} has {was} replicas already", object.subject()) });
    }
    Ok((json!(was), json!(replicas)))
}

/// From one number to another; `false` where it has another one by now.
pub(super) async fn set(cluster: &Cluster, object: &Object, from: &Value, to: &Value) -> Result<bool, ActError> {
    let path = format!("{}/scale", object.url());
    let mut tries = 1;
    loop {
        let Some(scale) = cluster.get(&path).await? else {
            return Err(ActError::Changed(format!("{} is gone", object.subject())));
        };
        if text(&scale, "/metadata/uid") != object.uid {
            return Err(ActError::Changed(format!("{} was made again since; it is left alone", object.subject())));
        }
        let now = scale.pointer("/spec/replicas").cloned().unwrap_or(json!(0));
        if now != *from {
            return Ok(false);
        }
        let version = text(&scale, "/metadata/resourceVersion");
        let body = json!({
            "metadata": { "uid": object.uid, "resourceVersion": version },
            "spec": { "replicas": to },
        });
        match cluster.patch(&path, Patch::Merge, &body).await {
            Ok(_) => return Ok(true),
            Err(ClusterError::Conflict { .. }) if tries < TRIES => {
                tokio::time::sleep(PAUSE * tries).await;
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn progress(cluster: &Cluster, object: &Object, will: &Value) -> Result<Progress, ActError> {
    let value = rollout::again(cluster, object).await?;
    let now = number(&value, "/spec/replicas");
    if json!(now) != *will {
        let detail = format!("somebody scaled {} to {now}", object.subject());
        return Ok(Progress::Over(Outcome::of(Step::Unchanged, detail)));
    }
    let seen = rollout::is_seen(&value);
    let (ready, all) = (number(&value, "/status/readyReplicas"), number(&value, "/status/replicas"));
    let detail = format!("{ready} of {now} pods are ready");
    Ok(if seen && ready == now && all == now {
        Progress::Over(Outcome::of(Step::Improved, detail))
    } else {
        Progress::Under(detail)
    })
}

pub(super) async fn undo(
    cluster: &Cluster,
    object: &Object,
    value: &Value,
    captured: &Captured,
) -> Result<String, ActError> {
    let now = value.pointer("/spec/replicas").cloned().unwrap_or(json!(1));
    if now == captured.was {
        return Ok(format!("{} has {now} replicas already, as before", object.subject()));
    }
    if now == captured.will && set(cluster, object, &captured.will, &captured.was).await? {
        return Ok(format!("{} has {} replicas again", object.subject(), captured.was));
    }
    Ok(format!("somebody scaled {} to another number; it is left alone", object.subject()))
}
