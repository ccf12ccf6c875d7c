//! Objects, versions, patches.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// What is answered instead of what was asked: HTTP's code, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub u16, pub &'static str, pub String);

impl Fault {
    /// There is nothing there.
    pub fn not_found(path: &str) -> Self {
        Self(404, "NotFound", format!("{} not found", path.rsplit('/').next().unwrap_or(path)))
    }

    fn conflict(path: &str, why: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self(409, "Conflict", format!("Operation cannot be fulfilled on {name:?}: {why}"))
    }
}

/// All there is.
#[derive(Debug, Default)]
pub struct State {
    /// By path.
    pub objects: BTreeMap<String, Value>,
    /// Verbs on resources that nobody may: `("patch", "deployments")`.
    pub forbidden: BTreeSet<(String, String)>,
    /// Evictions the disruption budgets allow; `None` is any number.
    pub disruptions: Option<u32>,
    /// So many requests are answered by "too many requests".
    pub busy: u32,
    /// So many changes are made and the answers lost.
    pub lost: u32,
    /// What was asked for by others than kubectl, as roles name it: verb and resource.
    pub asked: BTreeSet<(String, String)>,
    /// What was changed, verb and path, in order.
    pub changes: Vec<String>,
    version: u64,
    made: u64,
}

impl State {
    /// Makes an object; one that was there under the name is another.
    pub fn create(&mut self, path: &str, mut value: Value) {
        self.made += 1;
        value["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.made));
        value["metadata"]["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
        value["metadata"]["generation"] = json!(1);
        self.put(path, value);
    }

    /// Writes an object with a version of its own.
    pub fn put(&mut self, path: &str, mut value: Value) {
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), value);
    }

    /// Writes it where it is not as it was: a new version each time would be a conflict each time.
    pub(crate) fn settle(&mut self, path: &str, value: Value) {
        if self.objects.get(path) != Some(&value) {
            self.put(path, value);
        }
    }

    /// The version of all.
    pub(crate) fn version(&self) -> String {
        self.version.to_string()
    }

    /// Patches an object.
    ///
    /// # Errors
    /// What the real one says.
    pub fn patch(&mut self, path: &str, kind: &str, body: &[u8]) -> Result<Value, Fault> {
        let (base, scale) = match path.strip_suffix("/scale") {
            Some(base) => (base, true),
            None => (path, false),
        };
        let before = self.objects.get(base).cloned().ok_or_else(|| Fault::not_found(base))?;
        let mut after = if scale { scale_of(&before) } else { before.clone() };
        let bad = |error: &dyn std::fmt::Display| Fault(400, "BadRequest", error.to_string());
        let body: Value = serde_json::from_slice(body).map_err(|error| bad(&error))?;
        if kind == "application/json-patch+json" {
            let patch: json_patch::Patch = serde_json::from_value(body).map_err(|error| bad(&error))?;
            json_patch::patch(&mut after, &patch).map_err(|error| {
                Fault(
                    422,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            })?;
        } else {
            // What a strategic patch does to lists nobody here asks for.
            json_patch::merge(&mut after, &body);
        }
        for (key, why) in
            [("uid", "Precondition failed: UID in precondition"), ("resourceVersion", "the object has been modified")]
        {
            if after["metadata"][key] != before["metadata"][key] {
                return Err(Fault::conflict(base, why));
            }
        }
        if scale {
            let replicas = after["spec"]["replicas"].clone();
            after = before.clone();
            after["spec"]["replicas"] = replicas;
        }
        if after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            after["metadata"]["generation"] = json!(generation);
        }
        self.put(base, after);
        let now = self.objects.get(base).cloned().unwrap_or_default();
        Ok(if scale { scale_of(&now) } else { now })
    }

    /// Has an object go: a pod takes a step of its controllers.
    ///
    /// # Errors
    /// It is another one than was meant.
    pub fn delete(&mut self, path: &str, options: &Value) -> Result<Value, Fault> {
        let mut value = self.objects.get(path).cloned().ok_or_else(|| Fault::not_found(path))?;
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != value["metadata"]["uid"] {
            return Err(Fault::conflict(path, "Precondition failed: UID in precondition"));
        }
        if path.contains("/pods/") {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
            self.put(path, value.clone());
        } else {
            self.objects.remove(path);
        }
        Ok(value)
    }

    /// Has a pod go, if the budgets allow.
    ///
    /// # Errors
    /// They do not, or it is another one.
    pub fn evict(&mut self, path: &str, body: &Value) -> Result<Value, Fault> {
        if self.disruptions == Some(0) {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            return Err(Fault(429, "TooManyRequests", message.to_owned()));
        }
        let gone = self.delete(path, &body["deleteOptions"])?;
        self.disruptions = self.disruptions.map(|left| left - 1);
        Ok(gone)
    }
}

/// The subresource by which anything is scaled.
pub(crate) fn scale_of(value: &Value) -> Value {
    let meta = &value["metadata"];
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": { "replicas": value["spec"]["replicas"] },
        "status": { "replicas": value["status"]["replicas"] },
    })
}
