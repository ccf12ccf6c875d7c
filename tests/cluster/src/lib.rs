//! A Kubernetes API in memory for tests, which kubectl takes for a real one.
//!
//! It has the objects skep acts on, their preconditions and errors, and controllers that bring about what is asked, a step
//! every few milliseconds. It is no cluster: nothing runs, nothing is scheduled.
//!
//! * [`bench`]: what acts on it, called step by step.
//! * [`state`]: objects, versions, patches.
//! * `control`: what controllers would do.
//! * `serve`: the protocol, over TLS.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test ends at the line that is wrong")]

pub mod bench;

mod control;

mod serve;

pub mod state;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use state::State;

/// A step of the controllers.
const STEP: Duration = Duration::from_millis(25);

/// What clients show.
pub(crate) const TOKEN: &str = "a-token-of-the-test";

/// A running API server.
#[derive(Debug)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
    /// Ends with it.
    _runtime: tokio::runtime::Runtime,
}

impl Cluster {
    /// Starts one with a few namespaces.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let folder = tempfile::tempdir().unwrap();
        let (address, authority) = runtime.block_on(serve::start(Arc::clone(&state)));
        std::fs::write(folder.path().join("ca.pem"), authority).unwrap();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: https://{address}\n    certificate-authority: ca.pem\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test, namespace: shop}}\nusers:\n- name: test\n  user: {{token: {TOKEN}}}\n"
        );
        std::fs::write(folder.path().join("kubeconfig"), config).unwrap();
        let controlled = Arc::clone(&state);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(STEP).await;
                control::step(&mut controlled.lock().unwrap_or_else(PoisonError::into_inner));
            }
        });
        let cluster = Self { state, folder, _runtime: runtime };
        for namespace in ["kube-system", "shop"] {
            let value = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            cluster.state().create(&format!("/api/v1/namespaces/{namespace}"), value);
        }
        cluster
    }

    /// All there is, for tests that meddle with it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is reached.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// What stands at a path.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    /// A deployment, stateful set or daemon set of an image; one whose image is `bad` never becomes ready.
    pub fn rollout(&self, kind: &str, name: &str, replicas: u32, image: &str) -> String {
        let labels = json!({ "app": name });
        let value = json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": { "name": name, "namespace": "shop", "labels": labels },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": name, "image": image }] },
                },
            },
        });
        let path = format!("/apis/apps/v1/namespaces/shop/{}s/{name}", kind.to_lowercase());
        self.state().create(&path, value);
        self.eventually(&format!("{name} to be ready"), || {
            let value = self.get(&path)?;
            let ready = ["readyReplicas", "numberReady"].iter().find_map(|key| value["status"][*key].as_u64());
            (image == "bad" || ready == Some(replicas.into())).then_some(())
        });
        path
    }

    /// A node that is ready.
    pub fn node(&self, name: &str, labels: &Value) -> String {
        let path = format!("/api/v1/nodes/{name}");
        let value = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": labels },
            "spec": {},
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        self.state().create(&path, value);
        path
    }

    /// Paths of the pods of an app, those on their way out left aside.
    pub fn pods(&self, app: &str) -> Vec<String> {
        let state = self.state();
        let pods = state.objects.iter().filter(|(path, value)| {
            path.contains("/pods/")
                && value["metadata"]["labels"]["app"] == app
                && value["metadata"]["deletionTimestamp"].is_null()
        });
        pods.map(|(path, _)| path.clone()).collect()
    }

    /// `kubectl ARGS`, the real one.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        let debug = std::env::current_exe().unwrap();
        let of_setup = debug.ancestors().map(|folder| folder.join("interop/bin/kubectl")).find(|file| file.exists());
        let program = of_setup.expect("kubectl is there after `cargo xtask setup`");
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--cache-dir").arg(self.folder.path().join("cache"));
        command.args(args).output().unwrap()
    }

    /// What kubectl says, which must not fail.
    pub fn says(&self, args: &[&str]) -> String {
        let output = self.kubectl(args);
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Asks until there is an answer.
    pub fn eventually<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        for _ in 0..1_500 {
            if let Some(answer) = ask() {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no {what} within 30 s: {:#?}", self.state().objects.keys())
    }
}
