//! A pod is evicted or deleted; whatever controls it makes another.

use serde_json::{Value, json};
use skep_wire::v1::Step;

use super::{ActError, Outcome, Progress, rollout};
use crate::cluster::{Cluster, text};
use crate::refusal::Refusal;
use crate::target::{self, Kind, Object};

/// What the kubelet puts on pods that it runs from a file: nobody else can end them.
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

/// A pod that nothing would replace is not ended by a machine.
pub(super) fn check(pod: &Object, value: &Value) -> Result<(), Refusal> {
    let protected = |why: &str| Err(Refusal::Protected { subject: pod.subject(), why: why.to_owned() });
    if value.pointer(MIRROR).is_some() {
        return protected("its node runs it from a file");
    }
    if target::owner(&pod.namespace, value).is_none() {
        return protected("nothing controls it, so that no other would take its place");
    }
    if !text(value, "/metadata/deletionTimestamp").is_empty() {
        return Err(Refusal::Moot { reading: format!("{} is on its way out already", pod.subject()) });
    }
    Ok(())
}

/// What controls it, for whoever looks later.
pub(super) fn capture(pod: &Object, value: &Value) -> Value {
    let owner = target::owner(&pod.namespace, value);
    owner.map_or(Value::Null, |owner| json!({ "kind": owner.kind.as_str(), "name": owner.name, "uid": owner.uid }))
}

/// It is gone, and another is ready in its place.
pub(super) async fn progress(cluster: &Cluster, pod: &Object, owner: &Value) -> Result<Progress, ActError> {
    let subject = pod.subject();
    let found = cluster.get(&pod.url()).await?;
    if let Some(this) = found.filter(|value| text(value, "/metadata/uid") == pod.uid) {
        let leaves = !text(&this, "/metadata/deletionTimestamp").is_empty();
        let state = if leaves { "is on its way out" } else { "is there as before" };
        return Ok(Progress::Under(format!("{subject} {state}")));
    }
    let gone = || Ok(Progress::Over(Outcome::of(Step::Done, format!("{subject} is gone"))));
    let Some(kind) = Kind::parse(&text(owner, "/kind")) else { return gone() };
    let (namespace, name, uid) = (pod.namespace.clone(), text(owner, "/name"), text(owner, "/uid"));
    let owner = match target::read(cluster, Object { namespace, kind, name, uid }).await {
        Ok((_, value)) => value,
        Err(Refusal::Cluster(error)) => return Err(error.into()),
        Err(_) => return gone(),
    };
    let Some((ready, wanted)) = rollout::ready(&owner) else { return gone() };
    let detail = format!("{subject} is gone, {ready} of {wanted} pods are ready in its place");
    Ok(if ready >= wanted { Progress::Over(Outcome::of(Step::Done, detail)) } else { Progress::Under(detail) })
}
