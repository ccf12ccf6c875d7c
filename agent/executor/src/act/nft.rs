//! The packet filter's table `inet skep`: made when it is first needed, gone when nothing is in it. No other table is
//! ever named.
//!
//! What is dropped is in sets whose elements have a time limit of their own, so that the kernel lets go of them even when
//! this program never runs again. An `accept` in our chains ends them only: what the host's own rules drop stays dropped.
//! Source: nft(8), libnftables-json(5).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::kind::ActError;
use crate::config::net::Net;

/// The family and name of the table.
const TABLE: &str = "inet skep";

/// Sets whose elements drop packets.
const SETS: [&str; 4] = ["blocked4", "blocked6", "ports", "isolated"];

/// The table. Written before every change: what is there stays, but the management sets and chains are made anew, so that
/// they are what the configuration says now.
fn ground(management: &[Net]) -> String {
    let list = |v4: bool| {
        let nets: Vec<String> = management.iter().filter(|net| net.is_v4() == v4).map(Net::to_string).collect();
        if nets.is_empty() { String::new() } else { format!("elements = {{ {} }};", nets.join(", ")) }
    };
    let own = |side: &str, port: &str| {
        format!(
            "ip {side}addr @management4 accept\n ip6 {side}addr @management6 accept\n \
             ip {side}addr @blocked4 counter drop\n ip6 {side}addr @blocked6 counter drop\n {port} \
             meta nfproto @isolated icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept\n \
             meta nfproto @isolated counter drop\n"
        )
    };
    let port = "meta l4proto . th dport @ports counter drop\n";
    let head = |hook: &str| format!("type filter hook {hook} priority filter - 10; policy accept;");
    let clear =
        ["chain {T} input", "chain {T} output", "chain {T} forward", "set {T} management4", "set {T} management6"]
            .map(|what| what.replace("{T}", TABLE));
    let flush: String = clear.iter().map(|what| format!("flush {what}\n")).collect();
    let made = |with_rules: bool| {
        let (m4, m6) = if with_rules { (list(true), list(false)) } else { (String::new(), String::new()) };
        let rules = |text: String| if with_rules { text } else { String::new() };
        format!(
            "table {TABLE} {{\n\
             set blocked4 {{ type ipv4_addr; flags interval, timeout; }}\n\
             set blocked6 {{ type ipv6_addr; flags interval, timeout; }}\n\
             set ports {{ type inet_proto . inet_service; flags timeout; }}\n\
             set isolated {{ type nf_proto; flags timeout; }}\n\
             set management4 {{ type ipv4_addr; flags interval; auto-merge; {m4} }}\n\
             set management6 {{ type ipv6_addr; flags interval; auto-merge; {m6} }}\n\
             chain input {{ {} {} }}\nchain output {{ {} {} }}\nchain forward {{ {} {} }}\n}}\n",
            head("input"),
            rules(format!("iif lo accept\n {}", own("s", port))),
            head("output"),
            rules(format!("oif lo accept\n {}", own("d", ""))),
            head("forward"),
            rules(format!("{}{}", own("s", ""), own("d", ""))),
        )
    };
    // Declared, emptied of what is of the configuration, and filled: one transaction.
    format!("{}{flush}{}", made(false), made(true))
}

/// Something that is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// All from and to these addresses.
    Address(Net),
    /// What comes in for a port.
    Port {
        /// tcp or udp.
        protocol: &'static str,
        /// Its number.
        port: u16,
    },
    /// Everything.
    All,
}

impl Element {
    fn set(&self) -> &'static str {
        match self {
            Self::Address(net) if net.is_v4() => SETS[0],
            Self::Address(_) => SETS[1],
            Self::Port { .. } => SETS[2],
            Self::All => SETS[3],
        }
    }

    /// As nft writes them.
    fn values(&self) -> Vec<String> {
        match self {
            Self::Address(net) => vec![net.to_string()],
            Self::Port { protocol, port } => vec![format!("{protocol} . {port}")],
            Self::All => vec!["ipv4".to_owned(), "ipv6".to_owned()],
        }
    }
}

/// Drops it for so long; what was to be dropped for less or more is dropped for so long now.
///
/// # Errors
/// [`ActError::Host`].
pub fn add(nft: &Path, management: &[Net], element: &Element, timeout_s: u32) -> Result<(), ActError> {
    let set = element.set();
    let mut text = ground(management);
    for value in element.values() {
        // An element that is there keeps its time: it is taken out first, and put in before that, for one that is not
        // there cannot be taken out.
        text.push_str(&format!("add element {TABLE} {set} {{ {value} }}\n"));
        text.push_str(&format!("delete element {TABLE} {set} {{ {value} }}\n"));
        text.push_str(&format!("add element {TABLE} {set} {{ {value} timeout {timeout_s}s }}\n"));
    }
    change(nft, &text)
}

/// Drops it no longer, and takes the table away when nothing is in it; whether it was there.
///
/// # Errors
/// [`ActError::Host`].
pub fn remove(nft: &Path, element: &Element) -> Result<bool, ActError> {
    let was = holds(nft, element)?;
    if was {
        let set = element.set();
        let mut text = String::new();
        for value in element.values() {
            text.push_str(&format!("add element {TABLE} {set} {{ {value} }}\n"));
            text.push_str(&format!("delete element {TABLE} {set} {{ {value} }}\n"));
        }
        change(nft, &text)?;
    }
    if SETS.iter().all(|set| list(nft, set).is_ok_and(|elements| elements.is_none_or(|elements| elements.is_empty()))) {
        // Declared first: to delete what is not there is an error.
        change(nft, &format!("add table {TABLE}\ndelete table {TABLE}\n"))?;
    }
    Ok(was)
}

/// Whether it is dropped now.
///
/// # Errors
/// [`ActError::Host`].
pub fn holds(nft: &Path, element: &Element) -> Result<bool, ActError> {
    let Some(found) = list(nft, element.set())? else { return Ok(false) };
    Ok(element.values().iter().any(|value| found.contains(value)))
}

/// The elements of a set, as nft writes them in commands; `None` where there is no such set.
fn list(nft: &Path, set: &str) -> Result<Option<Vec<String>>, ActError> {
    let output = run(nft, &["--json", "list", "set", "inet", "skep", set], "")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("No such file or directory") {
            return Ok(None);
        }
        return Err(ActError::Host(format!("nft: {}", one_line(&said))));
    }
    let listed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| ActError::Host(format!("nft said what cannot be read: {error}")))?;
    let sets = listed["nftables"].as_array().into_iter().flatten().filter_map(|item| item.get("set"));
    Ok(Some(sets.filter_map(|set| set["elem"].as_array()).flatten().map(words).collect()))
}

/// `10.0.0.0/8`, `tcp . 80` or a plain value, whatever wraps it.
fn words(value: &Value) -> String {
    if let Some(inner) = value.get("elem").and_then(|elem| elem.get("val")) {
        return words(inner);
    }
    if let Some(prefix) = value.get("prefix") {
        return format!("{}/{}", words(&prefix["addr"]), prefix["len"]);
    }
    if let Some(parts) = value.get("concat").and_then(Value::as_array) {
        return parts.iter().map(words).collect::<Vec<_>>().join(" . ");
    }
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn change(nft: &Path, text: &str) -> Result<(), ActError> {
    let output = run(nft, &["--file", "-"], text)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let hint = if said.contains("Operation not permitted") {
        "; this program lacks CAP_NET_ADMIN, see skep-executor-network.conf"
    } else {
        ""
    };
    Err(ActError::Host(format!("nft: {}{hint}", one_line(&said))))
}

fn run(nft: &Path, arguments: &[&str], input: &str) -> Result<std::process::Output, ActError> {
    let failed = |error: std::io::Error| ActError::Host(format!("cannot run {}: {error}", nft.display()));
    let mut command = Command::new(nft);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Said by its exit code otherwise.
        let _unread = stdin.write_all(input.as_bytes()).is_err();
    }
    child.wait_with_output().map_err(failed)
}

fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or("no word").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_as_they_are_written() {
        for (json, expected) in [
            (r#"{"elem": {"val": "10.0.0.1", "timeout": 60, "expires": 59}}"#, "10.0.0.1"),
            (r#"{"elem": {"val": {"prefix": {"addr": "10.0.0.0", "len": 8}}, "timeout": 60}}"#, "10.0.0.0/8"),
            (r#"{"elem": {"val": {"concat": ["tcp", 80]}, "timeout": 60}}"#, "tcp . 80"),
            (r#""ipv4""#, "ipv4"),
        ] {
            assert_eq!(words(&serde_json::from_str(json).unwrap()), expected);
        }
    }
}
