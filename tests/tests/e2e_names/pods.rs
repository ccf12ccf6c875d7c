//! Pods of containerd's CRI, as a kubelet makes them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skep_tests::{PATIENCE, Skep, UNLIMITED, eventually};
use skep_wire::cri::runtime_service_client::RuntimeServiceClient;
use skep_wire::cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest, VersionRequest,
};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::image::{self, Podman, run};
use crate::rows::{assert_agreed, processes_of};

/// The node's namespace: the pods need no network of their own.
const NODE: i32 = 2;

/// A containerd of the test's own, spoken to like a kubelet does.
struct Containerd {
    folder: PathBuf,
    child: Child,
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
    pods: Vec<String>,
}

/// A pod that runs.
struct Pod {
    id: String,
    config: PodSandboxConfig,
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("c.sock")
}

impl Containerd {
    fn start(folder: &Path) -> Self {
        let settings = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"{0}/state\"\n[grpc]\naddress = \"{1}\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{0}/opt\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{2}\"\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n",
            folder.display(),
            socket(folder).display(),
            image::NAME,
        );
        std::fs::write(folder.join("containerd.toml"), settings).expect("written");
        let log = std::fs::File::create(folder.join("containerd.log")).expect("made");
        let child = Command::new("containerd")
            .arg("-c")
            .arg(folder.join("containerd.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("second handle"))
            .stderr(log)
            .spawn()
            .expect("containerd is installed");
        let runtime = Runtime::new().expect("a runtime");
        let client = eventually("containerd to answer", PATIENCE, || runtime.block_on(connect(&socket(folder))));
        Self { folder: folder.to_owned(), child, runtime, client, pods: Vec::new() }
    }

    fn import(&self, archive: &Path) {
        let socket = socket(&self.folder);
        run(Command::new("ctr").arg("-a").arg(socket).args(["-n", "k8s.io", "images", "import"]).arg(archive));
    }

    fn run_pod(&mut self, namespace: &str, name: &str, uid: &str) -> Pod {
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            log_directory: self.folder.display().to_string(),
            labels: HashMap::from([("app".to_owned(), "web".to_owned())]),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/burstable/pod{uid}"),
                security_context: Some(LinuxSandboxSecurityContext { namespace_options: Some(on_node()) }),
            }),
            ..PodSandboxConfig::default()
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = self.runtime.block_on(self.client.run_pod_sandbox(request)).expect("the pod runs");
        let id = answer.into_inner().pod_sandbox_id;
        self.pods.push(id.clone());
        Pod { id, config }
    }

    /// Runs a program of the image in a container of its own, and returns the container's id.
    fn run_in(&mut self, pod: &Pod, name: &str, words: &[&str]) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: image::NAME.to_owned() }),
            command: vec!["/bin/busybox".to_owned()],
            args: words.iter().map(|word| (*word).to_owned()).collect(),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(on_node()) }),
            }),
            ..ContainerConfig::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let made = self.runtime.block_on(self.client.create_container(request)).expect("the container is made");
        let container_id = made.into_inner().container_id;
        let request = StartContainerRequest { container_id: container_id.clone() };
        self.runtime.block_on(self.client.start_container(request)).expect("the container starts");
        container_id
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in std::mem::take(&mut self.pods) {
            let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            self.runtime.block_on(self.client.stop_pod_sandbox(stop)).ok();
            let remove = RemovePodSandboxRequest { pod_sandbox_id: id };
            self.runtime.block_on(self.client.remove_pod_sandbox(remove)).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn connect(socket: &Path) -> Option<RuntimeServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).ok()?;
    let channel = endpoint.timeout(Duration::from_secs(60)).connect().await.ok()?;
    let mut client = RuntimeServiceClient::new(channel);
    // The socket is there before the CRI plugin is.
    client.version(VersionRequest::default()).await.ok()?;
    Some(client)
}

fn on_node() -> NamespaceOption {
    NamespaceOption { network: NODE, pid: 0, ipc: NODE }
}

/// A uid nobody else has.
fn uid(last: u32) -> String {
    format!("5ce90000-0000-4000-8000-{:06x}{last:06x}", std::process::id() & 0x00ff_ffff)
}

fn containerd_with_image(folder: &Path) -> Containerd {
    let podman = Podman::prepare(folder);
    let containerd = Containerd::start(folder);
    containerd.import(&podman.archive());
    containerd
}

#[test]
fn pods_are_called_by_their_uid_without_the_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut containerd = containerd_with_image(folder.path());
    let data = tempfile::tempdir().expect("a folder");
    let skep = Skep::up(data.path(), &["--window", "2s"]);
    let pod = containerd.run_pod("shop", "web-0", &uid(1));
    let short = containerd.run_in(&pod, "short", &["usleep", "50000"]);
    skep.next_window();
    let workload = format!("pod:{}", uid(1));
    let processes = processes_of(&skep, &workload);
    assert!(processes.len() >= 2, "the sandbox and the container: {processes:?}");
    processes.into_iter().for_each(|process| assert_agreed(&skep, &workload, process));
    let of_container = format!(
        "SELECT count(*) FROM processes WHERE workload = '{workload}' AND event = 'exec' \
         AND container_id = '{short}' AND pod = '{}'",
        uid(1)
    );
    assert!(skep.number(&of_container) > 0, "the container that lived 50 ms");
}

#[test]
fn pods_are_called_by_their_names_when_the_runtime_tells_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut containerd = containerd_with_image(folder.path());
    let before = containerd.run_pod("shop", "web-0", &uid(2));
    containerd.run_in(&before, "busy", &["sh", "-c", "while true; do /bin/busybox usleep 100000; done"]);
    let data = tempfile::tempdir().expect("a folder");
    let socket = socket(folder.path()).display().to_string();
    let skep = Skep::up_with(data.path(), &["--window", "2s"], &[UNLIMITED, ("SKEP_CRI_SOCKET", &socket)]);
    assert!(!processes_of(&skep, "pod:shop/web-0").is_empty());

    // The runtime names a pod when its sandbox stands; the container comes later.
    let after = containerd.run_pod("shop", "job-1", &uid(3));
    containerd.run_in(&after, "busy", &["sh", "-c", "while true; do /bin/busybox usleep 100000; done"]);
    assert!(!processes_of(&skep, "pod:shop/job-1").is_empty());
    let short = containerd.run_in(&after, "short", &["usleep", "50000"]);
    let sql = format!(
        "SELECT count(*) FROM processes WHERE workload = 'pod:shop/job-1' AND event = 'exec' \
         AND container_id = '{short}' AND pod = 'job-1' AND namespace = 'shop' AND pod_labels = 'app=web' \
         AND attribution = 'exact'"
    );
    eventually("the container that lived 50 ms", PATIENCE, || skep.try_number(&sql).filter(|&count| count > 0));
}
