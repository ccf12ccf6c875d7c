use std::net::Ipv4Addr;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn folder() -> (tempfile::TempDir, Folder) {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::create(temp.path()).unwrap();
    (temp, folder)
}

fn read(folder: &Folder, name: &str) -> Facts {
    Facts::read(&std::fs::read_to_string(folder.tls(&format!("{name}.pem"))).unwrap()).unwrap()
}

#[test]
fn subjects_say_who_and_in_which_role() {
    let (_temp, folder) = folder();
    let ensured = ensure(&folder, "host-1", LOOPBACK, at(NOW)).unwrap();
    assert_eq!(ensured, Ensured { node: "host-1".to_owned(), made: vec!["ca", "collector", "agent", "operator"] });
    let agent = read(&folder, "agent");
    assert_eq!((agent.name.as_str(), agent.role.as_str()), ("host-1", "agent"));
    assert_eq!(agent.alternatives, ["host-1"]);
    let operator = read(&folder, "operator");
    assert_eq!((operator.name.as_str(), operator.role.as_str()), ("operator", "operator"));
    let collector = read(&folder, "collector");
    assert_eq!(collector.role, "collector");
    assert_eq!(collector.alternatives, ["localhost", "skep-collector", "127.0.0.1", "::1", "host-1"]);
}

#[test]
fn the_authority_lives_ten_years_and_the_rest_one() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    assert!((3_650..=3_653).contains(&read(&folder, "ca").days_left(at(NOW))));
    assert!((364..=366).contains(&read(&folder, "agent").days_left(at(NOW))));
}

#[test]
fn nothing_is_made_again_until_thirty_days_before_the_end() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    assert!(ensure(&folder, "h", LOOPBACK, at(NOW + 300 * DAY)).unwrap().made.is_empty());
    let late = at(NOW + 340 * DAY);
    assert_eq!(ensure(&folder, "h", LOOPBACK, late).unwrap().made, ["collector", "agent", "operator"]);
    assert!(read(&folder, "agent").days_left(late) > 360);
}

#[test]
fn a_renamed_host_keeps_its_node_id() {
    let (_temp, folder) = folder();
    ensure(&folder, "old", LOOPBACK, at(NOW)).unwrap();
    let ensured = ensure(&folder, "new", LOOPBACK, at(NOW)).unwrap();
    assert_eq!(ensured, Ensured { node: "old".to_owned(), made: vec!["collector"] });
    assert!(read(&folder, "collector").alternatives.contains(&"new".to_owned()));
}

#[test]
fn a_new_listen_address_gets_into_the_collectors_certificate() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(ensure(&folder, "h", address, at(NOW)).unwrap().made, ["collector"]);
    assert!(read(&folder, "collector").alternatives.contains(&"192.0.2.7".to_owned()));
    let every: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    assert!(ensure(&folder, "h", every, at(NOW)).unwrap().made.is_empty());
}

#[test]
fn another_authority_means_other_certificates() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    std::fs::remove_file(folder.tls("ca.pem")).unwrap();
    assert_eq!(ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap().made, ["ca", "collector", "agent", "operator"]);
}

#[test]
fn a_missing_authority_key_is_named_only_when_it_is_needed() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    std::fs::remove_file(folder.tls("ca.key")).unwrap();
    assert!(ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap().made.is_empty());
    let error = ensure(&folder, "h", LOOPBACK, at(NOW + 350 * DAY)).unwrap_err();
    assert!(crate::exit::one_line(&error).contains("ca.key is missing"), "{error:?}");
}

#[test]
fn damage_is_named_and_not_overwritten() {
    let (_temp, folder) = folder();
    ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap();
    std::fs::write(folder.tls("agent.pem"), "nonsense").unwrap();
    let error = ensure(&folder, "h", LOOPBACK, at(NOW)).unwrap_err();
    assert!(matches!(error, UpError::Certificate { what: "read", .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(folder.tls("agent.pem")).unwrap(), "nonsense");
}
