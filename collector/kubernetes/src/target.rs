//! The object a command means.

use serde_json::Value;
use skep_wire::v1;

use crate::cluster::{Cluster, text};
use crate::refusal::Refusal;

/// What can be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A pod.
    Pod,
    /// A node.
    Node,
    /// A deployment.
    Deployment,
    /// A stateful set.
    StatefulSet,
    /// A daemon set.
    DaemonSet,
    /// What a deployment makes pods by.
    ReplicaSet,
}

const KINDS: [(Kind, &str, &str, &str); 6] = [
    (Kind::Pod, "pod", "Pod", "pods"),
    (Kind::Node, "node", "Node", "nodes"),
    (Kind::Deployment, "deployment", "Deployment", "deployments"),
    (Kind::StatefulSet, "statefulset", "StatefulSet", "statefulsets"),
    (Kind::DaemonSet, "daemonset", "DaemonSet", "daemonsets"),
    (Kind::ReplicaSet, "replicaset", "ReplicaSet", "replicasets"),
];

impl Kind {
    /// As a command has it.
    pub fn as_str(self) -> &'static str {
        KINDS[self as usize].1
    }

    /// As a command has it, or an owner reference.
    pub fn parse(text: &str) -> Option<Self> {
        KINDS.iter().find(|(_, name, owner, _)| *name == text || *owner == text).map(|(kind, ..)| *kind)
    }
}

/// One object, this very one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Empty for a node.
    pub namespace: String,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whatever is made again under its name has another.
    pub uid: String,
}

impl Object {
    /// As the settings name it: `namespace/kind/name`, `node/name`.
    pub fn path(&self) -> String {
        let Self { namespace, kind, name, .. } = self;
        if namespace.is_empty() {
            format!("{}/{name}", kind.as_str())
        } else {
            format!("{namespace}/{}/{name}", kind.as_str())
        }
    }

    /// As people are told of it.
    pub fn subject(&self) -> String {
        let Self { namespace, kind, name, .. } = self;
        if namespace.is_empty() {
            format!("{} {name}", kind.as_str())
        } else {
            format!("{} {namespace}/{name}", kind.as_str())
        }
    }

    /// Where the API server has it.
    pub fn url(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    /// Where it has its like.
    pub fn collection(&self) -> String {
        collection(self.kind, &self.namespace)
    }
}

/// Where the API server has what is of a kind.
pub fn collection(kind: Kind, namespace: &str) -> String {
    let plural = KINDS[kind as usize].3;
    match kind {
        Kind::Node => "/api/v1/nodes".to_owned(),
        Kind::Pod => format!("/api/v1/namespaces/{namespace}/{plural}"),
        _ => format!("/apis/apps/v1/namespaces/{namespace}/{plural}"),
    }
}

/// Whether it can stand in a URL: names of objects are of these alone.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(fits) && !text.contains("..")
}

/// Reads the object a command names, if it is the one that was meant; that of a pod's rollout is what controls it.
///
/// # Errors
/// [`Refusal`].
pub async fn resolve(cluster: &Cluster, target: &v1::ObjectTarget, rollout: bool) -> Result<(Object, Value), Refusal> {
    let malformed = |what| Refusal::Malformed { what };
    let kind = Kind::parse(&target.kind).ok_or(malformed("its kind of object is not known here"))?;
    if !is_name(&target.name) || (kind != Kind::Node && !is_name(&target.namespace)) {
        return Err(malformed("its target has no name that an object can have"));
    }
    let v1::ObjectTarget { namespace, name, uid, .. } = target.clone();
    let (object, value) = read(cluster, Object { namespace, kind, name, uid }).await?;
    if kind == Kind::Pod && rollout { controller(cluster, &object, value).await } else { Ok((object, value)) }
}

/// Reads an object; an empty uid is whichever is there.
///
/// # Errors
/// [`Refusal::Gone`], [`Refusal::Other`].
pub async fn read(cluster: &Cluster, object: Object) -> Result<(Object, Value), Refusal> {
    let subject = object.subject();
    let Some(value) = cluster.get(&object.url()).await? else { return Err(Refusal::Gone { subject }) };
    let uid = text(&value, "/metadata/uid");
    if !object.uid.is_empty() && object.uid != uid {
        return Err(Refusal::Other { subject });
    }
    Ok((Object { uid, ..object }, value))
}

/// What controls a pod: a replica set's is its deployment.
async fn controller(cluster: &Cluster, pod: &Object, value: Value) -> Result<(Object, Value), Refusal> {
    let lacks = || Refusal::Lacks {
        subject: pod.subject(),
        lacks: "has no deployment, stateful set or daemon set that controls it".to_owned(),
    };
    let mut owner = owner(&pod.namespace, &value).ok_or_else(lacks)?;
    if owner.kind == Kind::ReplicaSet {
        let (_, set) = read(cluster, owner).await?;
        owner = self::owner(&pod.namespace, &set).ok_or_else(lacks)?;
    }
    match owner.kind {
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => read(cluster, owner).await,
        _ => Err(lacks()),
    }
}

/// Its controller by its own word.
pub fn owner(namespace: &str, value: &Value) -> Option<Object> {
    let owners = value.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let kind = Kind::parse(owner["kind"].as_str()?)?;
    Some(Object { namespace: namespace.to_owned(), kind, name: text(owner, "/name"), uid: text(owner, "/uid") })
}
