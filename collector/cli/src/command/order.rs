//! `skep actions order` and `extend`: an operator's own action, and more time for one that stands.

use std::time::Duration;

use clap::Args;
use skep_wire::order::{self, VERBS};
use skep_wire::v1::{self, Verb};

use super::{CommandError, actions, span, word};
use crate::connect::Source;
use crate::exit::Failure;
use crate::output::{ListFormat, quoted, rows};
use crate::place::PlaceArgs;

/// Arguments of `skep actions order`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep actions order web-1 throttle --workload unit:batch.service cpu_millicores=500 lease_s=600
  skep actions order web-1 freeze --workload cgroup:/job lease_s=60
  skep actions order web-1 limit_memory --workload unit:app.service high_bytes=536870912 lease_s=600
  skep actions order web-1 limit_io --workload unit:app.service write_bytes_per_s=1048576 lease_s=60
  skep actions order web-1 restart_unit unit=nginx.service when=unit_down
  skep actions order web-1 kill pid=4711 scope=tree grace_s=10
  skep actions order web-1 kill --workload cgroup:/job scope=workload
  skep actions order web-1 block address=192.0.2.7 lease_s=3600
  skep actions order web-1 isolate lease_s=600 --reason \"looks taken over\"
  skep actions order web-1 clean folder=/var/cache/app older_than_s=86400
  skep actions order web-1 run name=flush-cache
  skep actions order web-1 pause_container container=web lease_s=60
  skep actions order web-1 restart_container container=web
  skep actions order kubernetes evict_pod namespace=shop name=web-7d4b9
  skep actions order kubernetes restart_rollout namespace=shop name=web
  skep actions order kubernetes scale namespace=shop kind=statefulset name=db replicas=3 lease_s=600
  skep actions order kubernetes undo_rollout namespace=shop name=web lease_s=3600
  skep actions order kubernetes cordon name=worker-3 lease_s=3600

On a host any of them takes when=SIGNAL at_least=N, which the host looks at just before: cpu_cores, memory_bytes, \
io_bytes_per_s, unit_down, disk_used_ratio. In the cluster kind is deployment unless said (statefulset, \
daemonset, or pod for what controls it). Needs a running collector. The executor on the node has the last word, and \
does only what its own configuration allows; on the cluster that is [kubernetes] of the collector's.")]
pub struct OrderArgs {
    /// Node to act on, or `kubernetes`: the collector's cluster
    #[arg(value_name = "NODE")]
    pub node: String,
    /// What to do
    #[arg(value_name = "VERB", value_parser = VERBS)]
    pub verb: String,
    /// name=value, as in the examples
    #[arg(value_name = "PARAMETER")]
    pub parameters: Vec<String>,
    /// Workload whose cgroup is meant, as `skep query` shows it
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `skep actions extend`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep actions extend 4f2a --lease 30m --reason \"the fix is on its way\"

Needs a running collector. Exit code 4 when the action does not stand.")]
pub struct ExtendArgs {
    /// Id of the action, or its start
    #[arg(value_name = "ID")]
    pub id: String,
    /// How long it may stand from now on
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub lease: Duration,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value_t)]
    pub format: ListFormat,
    /// Where to ask.
    #[command(flatten)]
    pub place: PlaceArgs,
}

pub(super) async fn order(args: OrderArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let live = source.live("actions order")?.clone();
    let order = complete(&source, &args).await?;
    let request =
        v1::ActRequest { verb: Verb::Order.into(), reason: args.reason, order: Some(order), ..Default::default() };
    let reply = live.act(request).await?;
    word::told("action", reply.action_id.clone(), reply, args.format)
}

pub(super) async fn extend(args: ExtendArgs) -> Result<(), Failure> {
    let source = super::open(&args.place).await?;
    let live = source.live("actions extend")?.clone();
    let action_id = actions::full_id(&source, "actions", "action", &args.id).await?;
    let lease_s = u32::try_from(args.lease.as_secs()).unwrap_or(u32::MAX);
    let request = v1::ActRequest {
        action_id: action_id.clone(),
        verb: Verb::Extend.into(),
        reason: args.reason,
        lease_s,
        ..Default::default()
    };
    let reply = live.act(request).await?;
    word::told("action", action_id, reply, args.format)
}

/// The order, with what people do not know by heart: which cgroup a workload has, and when a process began.
async fn complete(source: &Source, args: &OrderArgs) -> Result<v1::Order, Failure> {
    let mut parameters = args.parameters.join(" ");
    let mut workload = args.workload.clone();
    let value = |name: &str| {
        let mut words = args.parameters.iter().filter_map(|word| word.split_once('='));
        words.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
    };
    if let (Some(pid), None) = (value("pid"), value("start_ns")) {
        let pid: i64 = pid.parse().map_err(|_| CommandError::usage(format!("pid={pid} is no process id")))?;
        let sql = format!(
            "SELECT start_ns, workload FROM cpu WHERE node = {} AND pid = {pid} ORDER BY time DESC LIMIT 1",
            quoted(&args.node)
        );
        let found = source.ask(&sql).await?.collect().await?;
        let row = rows(&found).next().ok_or_else(|| nothing("process", &pid.to_string(), &args.node))?;
        parameters.push_str(&format!(" start_ns={}", row.int("start_ns").unwrap_or(0)));
        workload = workload.or_else(|| row.text("workload"));
    }
    let wanted = order::read(&args.verb, &parameters).map_err(|error| CommandError::usage(error.to_string()))?;
    let workload = workload.or_else(|| order::named(&wanted));
    let (mut cgroup, mut cgroup_id) = (String::new(), 0);
    if order::aims_at_cgroup(&wanted) {
        let Some(workload) = &workload else {
            return Err(CommandError::usage(format!("{} needs --workload", args.verb)));
        };
        let sql = format!(
            "SELECT cgroup, cgroup_id FROM cpu WHERE node = {} AND workload = {} AND cgroup IS NOT NULL \
             ORDER BY time DESC, on_cpu_ns DESC LIMIT 1",
            quoted(&args.node),
            quoted(workload)
        );
        let found = source.ask(&sql).await?.collect().await?;
        let row = rows(&found).next().ok_or_else(|| nothing("workload", workload, &args.node))?;
        (cgroup, cgroup_id) = (row.text("cgroup").unwrap_or_default(), row.int("cgroup_id").unwrap_or(0));
    }
    Ok(v1::Order {
        node: args.node.clone(),
        verb: args.verb.clone(),
        parameters,
        workload: workload.unwrap_or_else(|| "host".to_owned()),
        cgroup,
        cgroup_id,
    })
}

fn nothing(what: &'static str, name: &str, node: &str) -> Failure {
    let hint = format!(": node {node} has reported nothing of it; see `skep query \"SELECT * FROM cpu\"`");
    CommandError::NotFound { what, name: name.to_owned(), hint }.into()
}
