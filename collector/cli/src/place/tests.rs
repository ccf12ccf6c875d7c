use std::collections::HashMap;

use super::*;

#[derive(Default)]
struct Fake {
    vars: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Surroundings for Fake {
    fn var(&self, name: &str) -> Option<OsString> {
        self.vars.get(name).map(OsString::from)
    }

    fn file(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(path.to_str().and_then(|path| self.files.get(path)).map(|text| (*text).to_owned()))
    }
}

fn flags(data: Option<&str>, collector: Option<&str>, tls: Option<&str>) -> PlaceArgs {
    PlaceArgs { data: data.map(PathBuf::from), collector: collector.map(str::to_owned), tls: tls.map(PathBuf::from) }
}

fn remote(url: &str, tls: &str) -> Place {
    Place::Collector { url: url.to_owned(), tls: tls.into() }
}

#[test]
fn nothing_said_means_the_default_folder() {
    let place = resolve(&PlaceArgs::default(), &Fake::default()).unwrap();
    assert_eq!(place, Place::Data(DEFAULT_DATA.into()));
}

#[test]
fn a_flag_hides_the_environment_and_that_hides_the_file() {
    let mut around = Fake::default();
    around.files.insert("/etc/skep/client.toml", "collector = 'https://far:7443'\ntls = '/pki'");
    assert_eq!(resolve(&PlaceArgs::default(), &around).unwrap(), remote("https://far:7443", "/pki"));
    around.vars.insert("SKEP_DATA", "/env");
    assert_eq!(resolve(&PlaceArgs::default(), &around).unwrap(), Place::Data("/env".into()));
    let place = resolve(&flags(None, Some("near:1"), None), &around).unwrap();
    assert_eq!(place, remote("https://near:1", "/pki"));
    let place = resolve(&flags(None, Some("near:1"), Some("/mine")), &around).unwrap();
    assert_eq!(place, remote("https://near:1", "/mine"));
}

#[test]
fn the_users_file_counts_before_the_systems() {
    let mut around = Fake::default();
    around.vars.insert("HOME", "/home/u");
    around.files.insert("/etc/skep/client.toml", "data = '/system'");
    around.files.insert("/home/u/.config/skep/client.toml", "data = '/user'");
    assert_eq!(resolve(&PlaceArgs::default(), &around).unwrap(), Place::Data("/user".into()));
}

#[test]
fn one_level_may_not_name_both() {
    let mut around = Fake::default();
    around.vars.insert("SKEP_DATA", "/env");
    around.vars.insert("SKEP_COLLECTOR", "https://far:7443");
    let error = resolve(&PlaceArgs::default(), &around).unwrap_err();
    assert!(matches!(error, PlaceError::Both { .. }), "{error}");
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let mut around = Fake::default();
    around.files.insert("/etc/skep/client.toml", "colector = 'https://far:7443'");
    let error = resolve(&PlaceArgs::default(), &around).unwrap_err();
    let line = crate::exit::one_line(&error);
    assert!(line.contains("colector") && line.contains("/etc/skep/client.toml"), "{line}");
}

#[test]
fn addresses_are_checked() {
    let check = |given: &str, want: Option<&str>| {
        let got = resolve(&flags(None, Some(given), Some("/t")), &Fake::default());
        match (got, want) {
            (Ok(place), Some(want)) => assert_eq!(place, remote(want, "/t"), "{given}"),
            (Err(PlaceError::BadUrl { .. }), None) => {}
            (got, want) => panic!("{given}: {got:?}, wanted {want:?}"),
        }
    };
    check("https://h:1", Some("https://h:1"));
    check("https://h:1/", Some("https://h:1"));
    check("[::1]:7443", Some("https://[::1]:7443"));
    check("http://h:1", None);
    check("ftp://h:1", None);
    check("h", None);
    check("h:0", None);
    check("h:70000", None);
    check("https://h:1/path", None);
    assert!(matches!(resolve(&flags(None, Some("h:1"), None), &Fake::default()), Err(PlaceError::NoTls { .. })));
}
