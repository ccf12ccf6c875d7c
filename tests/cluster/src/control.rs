//! What controllers would do, a step at a time: one pod more, one fewer, one ready.

use serde_json::{Value, json};

use crate::state::State;

const REVISION: &str = "deployment.kubernetes.io/revision";

/// A pod of an image by this name never becomes ready.
const BAD: &str = "bad";

pub(crate) fn step(state: &mut State) {
    let paths: Vec<String> = state.objects.keys().cloned().collect();
    for path in &paths {
        let Some(value) = state.objects.get(path).cloned() else { continue };
        match value["kind"].as_str() {
            Some("Pod") => pod(state, path, value),
            Some("Deployment") => deployment(state, path, value),
            Some("StatefulSet" | "DaemonSet") => set(state, path, value),
            _ => {}
        }
    }
}

fn pod(state: &mut State, path: &str, mut value: Value) {
    if !value["metadata"]["deletionTimestamp"].is_null() {
        state.objects.remove(path);
        return;
    }
    value["status"] = json!({ "phase": "Running", "ready": value["spec"]["containers"][0]["image"] != BAD });
    state.settle(path, value);
}

/// Pods of an owner: path, whether ready, whether of this hash.
fn pods_of(state: &State, uid: &Value) -> Vec<(String, bool, String)> {
    let own = state.objects.iter().filter(|(path, value)| {
        path.contains("/pods/")
            && value["metadata"]["ownerReferences"][0]["uid"] == *uid
            && value["metadata"]["deletionTimestamp"].is_null()
    });
    own.map(|(path, value)| {
        let hash = value["metadata"]["labels"]["pod-template-hash"].as_str().unwrap_or_default();
        (path.clone(), value["status"]["ready"] == true, hash.to_owned())
    })
    .collect()
}

fn make_pod(state: &mut State, owner: &Value, template: &Value, hash: &str) {
    let meta = &owner["metadata"];
    let (namespace, name) = (meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default());
    let mut number = 0;
    let path_of = |number: u32| format!("/api/v1/namespaces/{namespace}/pods/{name}-{number}");
    while state.objects.contains_key(&path_of(number)) {
        number += 1;
    }
    let mut labels = template["metadata"]["labels"].clone();
    labels["pod-template-hash"] = json!(hash);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{name}-{number}"), "namespace": namespace, "labels": labels,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": owner["kind"], "name": name, "uid": meta["uid"], "controller": true,
            }],
        },
        "spec": template["spec"],
        "status": { "phase": "Pending" },
    });
    state.create(&path_of(number), pod);
}

fn hash_of(template: &Value) -> String {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    format!("{:08x}", hasher.finish() as u32)
}

/// Replaces pods of other hashes one at a time, and keeps as many as are wanted; what came of it.
struct Counted {
    all: u64,
    ready: u64,
    updated: u64,
    updated_ready: u64,
}

fn keep(state: &mut State, pods: &[(String, bool, String)], hash: &str, wanted: u64) -> (Counted, bool) {
    let (new, old): (Vec<_>, Vec<_>) = pods.iter().partition(|(_, _, of)| of == hash);
    let count = |pods: &[&(String, bool, String)]| pods.iter().filter(|(_, ready, _)| *ready).count() as u64;
    let counted = Counted {
        all: pods.len() as u64,
        ready: count(&new) + count(&old),
        updated: new.len() as u64,
        updated_ready: count(&new),
    };
    let extra = new.get(usize::try_from(wanted).unwrap_or(usize::MAX));
    let spare = old.first().filter(|_| {
        counted.updated_ready + old.len() as u64 > wanted
            || counted.updated >= wanted && counted.updated_ready == counted.updated
    });
    for (path, ..) in [extra, spare].into_iter().flatten() {
        state.delete(path, &Value::Null).ok();
    }
    let more = counted.updated < wanted && counted.updated == counted.updated_ready;
    (counted, more)
}

fn status(value: &mut Value, counted: &Counted, stuck: bool) {
    let reason = if stuck { "ProgressDeadlineExceeded" } else { "ReplicaSetUpdated" };
    value["status"] = json!({
        "observedGeneration": value["metadata"]["generation"],
        "replicas": counted.all,
        "readyReplicas": counted.ready,
        "availableReplicas": counted.ready,
        "updatedReplicas": counted.updated,
        "conditions": [{ "type": "Progressing", "status": if stuck { "False" } else { "True" }, "reason": reason }],
    });
}

fn deployment(state: &mut State, path: &str, mut value: Value) {
    let template = value["spec"]["template"].clone();
    let uid = value["metadata"]["uid"].clone();
    let wanted = value["spec"]["replicas"].as_u64().unwrap_or(1);
    let hash = hash_of(&template);
    let sets: Vec<(String, Value)> = state
        .objects
        .iter()
        .filter(|(path, set)| path.contains("/replicasets/") && set["metadata"]["ownerReferences"][0]["uid"] == uid)
        .map(|(path, set)| (path.clone(), set.clone()))
        .collect();
    let revision = |set: &Value| {
        set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let newest = sets.iter().map(|(_, set)| revision(set)).max().unwrap_or(0);
    let mut all = Vec::new();
    for (_, set) in &sets {
        all.extend(pods_of(state, &set["metadata"]["uid"]));
    }
    let (counted, more) = keep(state, &all, &hash, wanted);
    let mine = sets.iter().find(|(path, _)| path.ends_with(&hash)).cloned();
    let current = match mine {
        Some((path, mut set)) => {
            if revision(&set) < newest {
                set["metadata"]["annotations"][REVISION] = json!((newest + 1).to_string());
            }
            set["spec"]["replicas"] = json!(wanted);
            set["status"] = json!({ "replicas": counted.updated, "readyReplicas": counted.updated_ready });
            state.settle(&path, set.clone());
            set
        }
        None => make_set(state, &value, &template, &hash, newest + 1),
    };
    if more {
        make_pod(state, &current, &template, &hash);
    }
    for (path, mut set) in sets.into_iter().filter(|(path, _)| !path.ends_with(&hash)) {
        set["spec"]["replicas"] = json!(0);
        set["status"] = json!({ "replicas": 0, "readyReplicas": 0 });
        state.settle(&path, set);
    }
    value["metadata"]["annotations"][REVISION] = current["metadata"]["annotations"][REVISION].clone();
    let is_bad = template["spec"]["containers"][0]["image"] == BAD;
    status(&mut value, &counted, is_bad && counted.updated > 0);
    state.settle(path, value);
}

fn make_set(state: &mut State, deployment: &Value, template: &Value, hash: &str, revision: u64) -> Value {
    let meta = &deployment["metadata"];
    let (namespace, name) = (meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default());
    let mut template = template.clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"), "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "annotations": { REVISION: revision.to_string() },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": meta["uid"], "controller": true,
            }],
        },
        "spec": { "replicas": 0, "selector": deployment["spec"]["selector"], "template": template },
        "status": { "replicas": 0 },
    });
    let path = format!("/apis/apps/v1/namespaces/{namespace}/replicasets/{name}-{hash}");
    state.create(&path, set);
    state.objects.get(&path).cloned().unwrap_or_default()
}

fn set(state: &mut State, path: &str, mut value: Value) {
    let template = value["spec"]["template"].clone();
    let wanted = value["spec"]["replicas"].as_u64().unwrap_or(1);
    let hash = hash_of(&template);
    let pods = pods_of(state, &value["metadata"]["uid"]);
    let (counted, more) = keep(state, &pods, &hash, wanted);
    if more {
        make_pod(state, &value, &template, &hash);
    }
    if value["kind"] == "DaemonSet" {
        value["status"] = json!({
            "observedGeneration": value["metadata"]["generation"], "desiredNumberScheduled": wanted,
            "currentNumberScheduled": counted.all, "updatedNumberScheduled": counted.updated,
            "numberReady": counted.ready, "numberAvailable": counted.ready, "numberMisscheduled": 0,
        });
    } else {
        status(&mut value, &counted, false);
    }
    state.settle(path, value);
}
