use skep_runtime::settings;

use super::*;

fn read_text(text: &str) -> Result<Settings, Vec<String>> {
    let (mut top, noted) = settings::parse(text).unwrap();
    let mut section = top.section("alerts");
    let read = read(&mut section, "[[rule]]\nname = \"full\"\nsql = \"SELECT 1\"\n");
    section.finish();
    top.finish();
    noted.into_result().map(|()| read).map_err(|faults| faults.0)
}

#[test]
fn every_channel_has_what_it_needs_and_without_a_route_all_hear() {
    let text = "[[alerts.channel]]\nname = \"a\"\nkind = \"log\"\n\
                [[alerts.channel]]\nname = \"b\"\nkind = \"file\"\npath = \"/tmp/x\"\n\
                [[alerts.channel]]\nname = \"c\"\nkind = \"webhook\"\nurl = \"https://x/y\"\nsecret_env = \"T\"\n\
                [[alerts.channel]]\nname = \"d\"\nkind = \"slack\"\nurl_file = \"/etc/slack\"\n\
                [[alerts.channel]]\nname = \"e\"\nkind = \"pagerduty\"\nsecret_file = \"/etc/pd\"\n\
                [[alerts.channel]]\nname = \"f\"\nkind = \"mail\"\nhost = \"mx\"\nfrom = \"a@b.example\"\n\
                to = [\"Ops <c@d.example>\"]\n\
                [[alerts.channel]]\nname = \"g\"\nkind = \"alertmanager\"\nurl = \"http://am:9093\"\n";
    let read = read_text(text).unwrap();
    assert_eq!(read.routes.len(), 2);
    assert!(read.routes.iter().all(|route| route.channels == ["a", "b", "c", "d", "e", "f", "g"]));
    let Way::PagerDuty { url, .. } = &read.channels[4].way else { panic!("{:?}", read.channels[4]) };
    assert_eq!(*url, Address::Plain(PAGERDUTY.to_owned()));
    let Way::Mail(mail) = &read.channels[5].way else { panic!("{:?}", read.channels[5]) };
    assert_eq!((mail.port, mail.security), (587, Security::StartTls));
    let none = read_text("[alerts]\ndefault_rules = false\n").unwrap();
    assert_eq!(none, Settings { queue: 10_000, ..Settings::default() });
    assert_eq!(read_text("").unwrap().rules.len(), 1);
    let own = read_text("[[alerts.rule]]\nname = \"full\"\nsql = \"SELECT 2\"\n").unwrap();
    assert_eq!((own.rules.len(), own.rules[0].sql.as_str()), (1, "SELECT 2"));
}

#[test]
fn every_fault_is_told_at_once() {
    let text = "[alerts]\nqueue = 0\n\
                [[alerts.channel]]\nname = \"a\"\nkind = \"pigeon\"\n\
                [[alerts.channel]]\nname = \"b\"\nkind = \"webhook\"\nurl = \"ftp://x\"\n\
                [[alerts.channel]]\nname = \"b\"\nkind = \"mail\"\nhost = \"x\"\nfrom = \"nobody\"\nuser = \"u\"\n\
                [[alerts.channel]]\nname = \"c\"\nkind = \"pagerduty\"\n\
                [[alerts.route]]\nname = \"r\"\nchannels = [\"z\"]\nmatch = [\"node\"]\nmin_severity = \"bad\"\nwait = \"x\"\n\
                [[alerts.silence]]\nuntil = \"tomorrow\"\n\
                [[alerts.rule]]\nname = \"s\"\nlabels = [\"=x\"]\nrepeat = \"1h\"\n";
    let expected = [
        "alerts.channel: \"b\" is the name of two",
        "alerts.channel[0].kind: \"pigeon\" is none of log, file, webhook, slack, pagerduty, mail, alertmanager",
        "alerts.channel[1].url: \"ftp://x\" does not begin with http:// or https://",
        "alerts.channel[2].to: \"nobody\" is no mail address",
        "alerts.channel[2].to: not set",
        "alerts.channel[2].user: a user needs secret_file or secret_env, and they need a user",
        "alerts.channel[3].secret_file: not set",
        "alerts.queue: 0 is not between 1 and 1000000",
        "alerts.route[0].channels: \"z\" is no channel",
        "alerts.route[0].match: \"node\" is not label=value",
        "alerts.route[0].min_severity: \"bad\" is none of info, low, medium, high, critical",
        "alerts.route[0].wait: \"x\" is not a time: expected number at 0",
        "alerts.rule[0].labels: \"=x\" is not label=value",
        "alerts.rule[0].sql: not set",
        "alerts.silence[0].match: a silence needs to say what it covers; [\"node=*\"] is all",
        "alerts.silence[0].until: \"tomorrow\" is not a moment such as 2030-01-31T18:00:00Z",
        "alerts.silence[0].until: a silence needs an end, such as 2030-01-31T18:00:00Z",
    ];
    assert_eq!(read_text(text).unwrap_err(), expected);
}

#[test]
fn routes_silences_and_rules_are_read_as_they_stand() {
    let text = "[[alerts.channel]]\nname = \"a\"\nkind = \"log\"\n\
                [[alerts.route]]\nname = \"r\"\nchannels = [\"a\"]\nmatch = [\"node=web-*\"]\nmin_severity = \"high\"\n\
                group_by = [\"rule\"]\nwait = \"1s\"\ninterval = \"2s\"\nrepeat = \"0s\"\ncontinue = true\n\
                [[alerts.silence]]\nmatch = [\"node=a\"]\nfrom = \"2030-01-01T00:00:00Z\"\nuntil = \"2030-01-01T00:00:01Z\"\n\
                why = \"moving\"\n\
                [[alerts.rule]]\nname = \"s\"\nsql = \"SELECT 1\"\nevery = \"10s\"\nfor = \"1m\"\nkeep_firing = \"5m\"\n\
                severity = \"high\"\nlabels = [\"team = base\"]\ntitle = \"{x}\"\n";
    let read = read_text(text).unwrap();
    let route = &read.routes[0];
    assert_eq!((route.min_rank, route.repeat, route.proceed), (3, None, true));
    assert_eq!(read.silences[0].until_us - read.silences[0].from_us, 1_000_000);
    let rule = &read.rules[0];
    assert_eq!((rule.lasts, rule.keep_firing), (Duration::from_secs(60), Duration::from_secs(300)));
    assert_eq!(rule.labels["team"], "base");
}

#[test]
fn without_a_route_an_incident_is_told_and_not_its_findings() {
    let settings = read_text("[alerts]\n[[alerts.channel]]\nname = \"log\"\nkind = \"log\"\n").unwrap();
    let takes = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut routes = settings.routes.iter();
        routes.find(|route| crate::pattern::all_match(&route.matches, &labels)).map(|route| route.name.as_str())
    };
    assert_eq!(takes(&[("kind", "incident"), ("incident", "i1")]), Some("incidents"));
    assert_eq!(takes(&[("kind", "series"), ("incident", "i1")]), None);
    assert_eq!(takes(&[("kind", "rule")]), Some("default"));
}
