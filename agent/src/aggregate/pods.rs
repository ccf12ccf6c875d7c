//! Names of pods by their uid, as the container runtime told them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::workload::Workload;

/// Uids that wait to be asked for; more of them wait for the next window.
const WANTED: usize = 256;

/// What the runtime knows of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name within it.
    pub name: String,
    /// `key=value,key=value`, sorted; empty when there are none.
    pub labels: Arc<str>,
}

/// By uid.
pub type PodNames = HashMap<String, PodName>;

/// Uids without a name.
pub type Wanted = Vec<String>;

/// The names known, and the uids that had none.
#[derive(Debug, Default)]
pub struct Pods {
    names: Arc<PodNames>,
    wanted: HashSet<String>,
}

impl Pods {
    /// With these names.
    pub fn new(names: Arc<PodNames>) -> Self {
        Self { names, wanted: HashSet::new() }
    }

    /// Gives a pod's workload its name, or asks for it.
    pub fn name(&mut self, workload: &mut Workload) {
        let Some(uid) = &workload.pod else { return };
        match self.names.get(uid) {
            Some(pod) => {
                workload.key = format!("pod:{}/{}", pod.namespace, pod.name);
                workload.namespace = Some(pod.namespace.clone());
                workload.pod = Some(pod.name.clone());
                workload.labels = Some(Arc::clone(&pod.labels)).filter(|labels| !labels.is_empty());
            }
            None if self.wanted.len() < WANTED => _ = self.wanted.insert(uid.clone()),
            None => {}
        }
    }

    /// Uids asked for since the last call.
    pub fn take_wanted(&mut self) -> Wanted {
        self.wanted.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_called_by_its_uid_until_the_runtime_told_its_name() {
        let uid = "12345678-1234-1234-1234-123456789abc";
        let path = format!("/kubepods/burstable/pod{uid}/{}", "a".repeat(64));
        let mut pods = Pods::default();
        let mut workload = Workload::of(&path);
        pods.name(&mut workload);
        assert_eq!((workload.key.as_str(), pods.take_wanted()), (format!("pod:{uid}").as_str(), vec![uid.to_owned()]));
        assert!(pods.take_wanted().is_empty());

        let name = PodName { namespace: "shop".to_owned(), name: "web-0".to_owned(), labels: "app=web".into() };
        let mut pods = Pods::new(Arc::new(PodNames::from([(uid.to_owned(), name)])));
        let mut workload = Workload::of(&path);
        pods.name(&mut workload);
        assert_eq!(workload.key, "pod:shop/web-0");
        assert_eq!((workload.pod.as_deref(), workload.namespace.as_deref()), (Some("web-0"), Some("shop")));
        assert_eq!(workload.labels.as_deref(), Some("app=web"));
        assert!(pods.take_wanted().is_empty());
    }
}
