//! What may be done to what. Whatever a command says, this is the last word; without it nothing is done.

use std::collections::BTreeSet;
use std::path::PathBuf;

use skep_runtime::settings::Section;
use skep_wire::order;

use crate::target::Object;

/// Namespaces in which the cluster itself lives, and skep.
const PROTECTED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "skep"];

const MODES: [&str; 2] = ["ask", "auto"];

/// What may be done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// There is a cluster.
    pub enabled: bool,
    /// Change it; otherwise everything is checked and answered, and nothing is changed.
    pub act: bool,
    /// How it is reached; `None` is from within it.
    pub kubeconfig: Option<PathBuf>,
    /// Which of the file's contexts; `None` is its current one.
    pub context: Option<String>,
    /// Verbs.
    pub actions: BTreeSet<String>,
    /// Modes of commands.
    pub modes: BTreeSet<String>,
    /// Patterns of objects: `namespace/kind/name`, `node/name`.
    pub allowed: Vec<String>,
    /// Likewise, of those that nobody may touch.
    pub protected: Vec<String>,
    /// Bounds of a scale.
    pub min_replicas: u32,
    /// The other one.
    pub max_replicas: u32,
    /// So many nodes must be left for new pods.
    pub min_schedulable: usize,
    /// Longest lease.
    pub max_lease_s: u32,
    /// How long a change may take to come about.
    pub within_s: u32,
    /// Actions at a time.
    pub max_concurrent: usize,
    /// Actions begun in any hour.
    pub max_per_hour: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            act: false,
            kubeconfig: None,
            context: None,
            actions: BTreeSet::new(),
            modes: MODES.map(str::to_owned).into(),
            allowed: Vec::new(),
            protected: Vec::new(),
            min_replicas: 1,
            max_replicas: 10,
            min_schedulable: 2,
            max_lease_s: 3_600,
            within_s: 300,
            max_concurrent: 2,
            max_per_hour: 10,
        }
    }
}

impl Settings {
    /// Reads the section.
    pub fn read(mut section: Section) -> Self {
        let mut settings = Self {
            enabled: section.truth("enabled").unwrap_or(false),
            act: section.truth("act").unwrap_or(false),
            kubeconfig: section.text("kubeconfig").map(PathBuf::from),
            context: section.text("context"),
            ..Self::default()
        };
        words(&mut section, "actions", order::CLUSTER_VERBS, &mut settings.actions);
        words(&mut section, "modes", &MODES, &mut settings.modes);
        settings.allowed = patterns(&mut section, "allowed");
        settings.protected = patterns(&mut section, "protected");
        let mut number = |key: &str, least: i64, most: i64, usual: u32| {
            section.integer(key, least..=most).and_then(|value| u32::try_from(value).ok()).unwrap_or(usual)
        };
        settings.min_replicas = number("min_replicas", 0, 10_000, settings.min_replicas);
        settings.max_replicas = number("max_replicas", 0, 10_000, settings.max_replicas);
        settings.min_schedulable = number("min_schedulable", 1, 10_000, 2) as usize;
        settings.max_lease_s = number("max_lease_s", 1, 86_400, settings.max_lease_s);
        settings.within_s = number("within_s", 1, 3_600, settings.within_s);
        settings.max_concurrent = number("max_concurrent", 0, 1_000, 2) as usize;
        settings.max_per_hour = number("max_per_hour", 0, 10_000, 10) as usize;
        if settings.min_replicas > settings.max_replicas {
            section.note("min_replicas", format_args!("is more than max_replicas, {}", settings.max_replicas));
        }
        section.finish();
        settings
    }

    /// Why nobody may touch this, if so. `own` is the namespace this program runs in.
    pub fn protects(&self, object: &Object, own: Option<&str>) -> Option<String> {
        let namespace = object.namespace.as_str();
        if PROTECTED.contains(&namespace) || own == Some(namespace) && !namespace.is_empty() {
            return Some(format!("the namespace {namespace} is always"));
        }
        let pattern = self.protected.iter().find(|pattern| matches(pattern, &object.path()))?;
        Some(format!("the settings protect {pattern}"))
    }

    /// Whether the settings name this.
    pub fn allows(&self, object: &Object) -> bool {
        self.allowed.iter().any(|pattern| matches(pattern, &object.path()))
    }
}

/// A `*` at the pattern's end stands for the rest.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == pattern,
    }
}

fn words(section: &mut Section, key: &str, known: &[&str], into: &mut BTreeSet<String>) {
    let Some(given) = section.texts(key) else { return };
    for unknown in given.iter().filter(|word| !known.contains(&word.as_str())) {
        section.note(key, format_args!("{unknown:?} is none of {}", known.join(", ")));
    }
    *into = given.into_iter().collect();
}

/// `shop/*`, `shop/deployment/web-*`, `node/worker-*`. A `*` alone would be everything, and is a slip.
fn patterns(section: &mut Section, key: &str) -> Vec<String> {
    let given = section.texts(key).unwrap_or_default();
    for pattern in given.iter().filter(|pattern| !pattern.contains('/') || pattern.starts_with('*')) {
        section.note(key, format_args!("{pattern:?} is not of the form namespace/kind/name or node/name"));
    }
    given
}

#[cfg(test)]
mod tests {
    use skep_runtime::settings;

    use super::*;
    use crate::target::Kind;

    fn read(text: &str) -> Result<Settings, String> {
        let (mut top, noted) = settings::parse(text).map_err(|faults| faults.to_string())?;
        let settings = Settings::read(top.section("kubernetes"));
        top.finish();
        noted.into_result().map_err(|faults| faults.to_string()).map(|()| settings)
    }

    fn object(namespace: &str, kind: Kind, name: &str) -> Object {
        Object { namespace: namespace.to_owned(), kind, name: name.to_owned(), uid: "7".to_owned() }
    }

    #[test]
    fn nothing_is_allowed_until_it_is_named() {
        let settings = read("").unwrap();
        assert_eq!(settings, Settings::default());
        assert!(!settings.allows(&object("shop", Kind::Deployment, "web")));
        let settings = read("[kubernetes]\nallowed = [\"shop/deployment/web*\", \"node/worker-*\"]\n").unwrap();
        for (object, expected) in [
            (object("shop", Kind::Deployment, "web-2"), true),
            (object("shop", Kind::Pod, "web-2"), false),
            (object("shop2", Kind::Deployment, "web"), false),
            (object("", Kind::Node, "worker-1"), true),
            (object("", Kind::Node, "control-1"), false),
        ] {
            assert_eq!(settings.allows(&object), expected, "{object:?}");
        }
    }

    #[test]
    fn the_cluster_itself_is_protected() {
        let settings = read("[kubernetes]\nprotected = [\"shop/statefulset/db\"]\n").unwrap();
        for (object, own, expected) in [
            (object("kube-system", Kind::Pod, "dns"), None, true),
            (object("watch", Kind::Pod, "collector-0"), Some("watch"), true),
            (object("shop", Kind::StatefulSet, "db"), Some("watch"), true),
            (object("shop", Kind::StatefulSet, "db2"), None, false),
            (object("", Kind::Node, "worker"), Some(""), false),
        ] {
            assert_eq!(settings.protects(&object, own).is_some(), expected, "{object:?}");
        }
    }

    #[test]
    fn every_fault_is_told() {
        let text = "[kubernetes]\nactions = [\"freeze\"]\nallowed = [\"*\", \"shop\"]\nmin_replicas = 5\nmax_replicas = 2\nx = 1\n";
        let faults = read(text).unwrap_err();
        for part in
            ["\"freeze\" is none of evict_pod", "\"*\" is not of", "\"shop\" is not of", "min_replicas", "x: unknown"]
        {
            assert!(faults.contains(part), "{part}: {faults}");
        }
    }
}
