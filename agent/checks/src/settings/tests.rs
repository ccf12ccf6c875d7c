use skep_runtime::settings;

use super::*;

fn read_text(text: &str) -> Result<Vec<Check>, Vec<String>> {
    let (mut top, noted) = settings::parse(text).unwrap();
    let checks = read(&mut top);
    top.finish();
    noted.into_result().map(|()| checks).map_err(|faults| faults.0)
}

fn one(text: &str) -> Result<Check, Vec<String>> {
    read_text(&format!("[[check]]\nname = \"a\"\n{text}")).map(|mut checks| checks.remove(0))
}

#[test]
fn every_kind_has_what_it_needs_and_the_rest_is_filled_in() {
    let check = one("kind = \"http\"\ntarget = \"https://a.example/health\"\n").unwrap();
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(30), Duration::from_secs(5)));
    assert_eq!((check.retries, check.critical, check.workload.as_str()), (2, false, "host"));
    let kinds = [
        "kind = \"tcp\"\ntarget = \"127.0.0.1:80\"",
        "kind = \"grpc\"\ntarget = \"http://127.0.0.1:80\"\nservice = \"shop\"",
        "kind = \"command\"\nargv = [\"/bin/true\", \"-x\"]\nexit_code = 3",
        "kind = \"postgres\"\ntarget = \"postgres://skep@localhost/shop\"\nsecret_file = \"/etc/x\"",
        "kind = \"postgres\"\ntarget = \"host=/run/postgresql user=skep\"\nlimits = { postgres_connections = 5 }",
        "kind = \"redis\"\ntarget = \"[::1]:6379\"\nsecret_env = \"X\"\nunit = \"redis.service\"",
        "kind = \"redis\"\ntarget = \"/run/redis/redis.sock\"",
    ];
    for kind in kinds {
        assert!(one(kind).is_ok(), "{kind}: {:?}", one(kind));
    }
    let unit = one("kind = \"unit\"\ntarget = \"nginx.service\"").unwrap();
    assert_eq!((unit.workload.as_str(), unit.way.kind()), ("unit:nginx.service", "unit"));
    assert_eq!(one(kinds[5]).unwrap().workload, "unit:redis.service");
}

#[test]
fn every_fault_of_every_check_is_told() {
    let text = "[[check]]\nname = \"a\"\nkind = \"tcp\"\ntarget = \"nowhere\"\ninterval = \"1ms\"\n\
                [[check]]\nkind = \"ping\"\n\
                [[check]]\nname = \"c\"\nkind = \"command\"\nargv = [\"true\"]\n\
                [[check]]\nname = \"d\"\nkind = \"tcp\"\ntarget = \"x:1\"\nstatus = [1]\ndepends_on = [\"z\"]\n\
                [[check]]\nname = \"d\"\nkind = \"tcp\"\ntarget = \"x:1\"\ndepends_on = [\"d\"]\n";
    let expected = [
        "check: \"d\" depends on \"z\", which is no check",
        "check: \"d\" depends on itself by way of others",
        "check[0].interval: \"1ms\" is not between 500ms and 1day",
        "check[0].target: \"nowhere\" is not HOST:PORT",
        "check[1].kind: \"ping\" is none of http, tcp, grpc, command, unit, postgres, redis",
        "check[1].name: not set",
        "check[2].argv: a list of texts is needed, the first of which is the full path of a program",
        "check[3].status: unknown key",
        "check[4].name: \"d\" is the name of another check too",
    ];
    assert_eq!(read_text(text).unwrap_err(), expected);
}

#[test]
fn a_circle_of_three_is_seen() {
    let check = |name: &str, on: &str| {
        format!("[[check]]\nname = \"{name}\"\nkind = \"tcp\"\ntarget = \"x:1\"\ndepends_on = [\"{on}\"]\n")
    };
    let faults = read_text(&[check("a", "b"), check("b", "c"), check("c", "a")].concat()).unwrap_err();
    assert_eq!(faults.len(), 3);
    assert!(
        read_text(&[check("a", "b"), "[[check]]\nname = \"b\"\nkind = \"tcp\"\ntarget = \"x:1\"".to_owned()].concat())
            .is_ok()
    );
}

#[test]
fn no_secret_may_stand_in_a_target() {
    for text in [
        "kind = \"postgres\"\ntarget = \"postgres://skep:hush@localhost/shop\"",
        "kind = \"http\"\ntarget = \"https://skep:hush@localhost/\"",
    ] {
        let faults = one(text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains("secret_file") && !faults[0].contains("hush"), "{faults:?}");
    }
    let both = one("kind = \"redis\"\ntarget = \"x:1\"\nsecret_file = \"/a\"\nsecret_env = \"A\"").unwrap_err();
    assert_eq!(both, ["check[0].secret_env: there is a secret_file already"]);
}

#[test]
fn a_limit_is_of_a_figure_of_that_kind() {
    let faults = one("kind = \"redis\"\ntarget = \"x:1\"\nlimits = { postgres_slow_queries = 1, redis_clients = -1 }");
    let expected = [
        "check[0].limits.postgres_slow_queries: unknown key",
        "check[0].limits.redis_clients: -1 is not between 0 and inf",
    ];
    assert_eq!(faults.unwrap_err(), expected);
    assert!(one("kind = \"redis\"\ntarget = \"x:1\"\nlimits = { redis_memory_used_ratio = inf }").is_ok());
}
