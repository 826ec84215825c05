//! Users, groups and `[access]`.

use super::*;

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzYWx0$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

#[test]
fn every_key_of_users_groups_and_access_is_read() {
    let text = format!(
        r#"
        [server]
        state = "var/state.json"

        [users.anonymous]
        view = ["lobby"]

        [users."eva@home.example"]
        password = "{HASH}"
        groups = ["family"]
        view = ["*"]
        capture = ["porch*"]
        talk = ["porch"]
        control = ["*cam*"]
        publish = ["desk"]
        admin = ["porch"]

        [groups.family]
        view = ["garden"]

        [access]
        session-idle = "1d"
        session-max = "20d"
        ticket = "30s"
        proxy-secret = "0123456789abcdef"
        proxy-secret-header = "X-Secret"
        proxy-user-header = "X-Forwarded-User"
        proxy-groups-header = "X-Forwarded-Groups"
        group-map = {{ "Cam Viewers" = "family" }}
        jwt = {{ jwks = "keys.json", issuer = "https://id.example", audience = "cams", user-claim = "email", groups-claim = "roles" }}
        "#
    );
    let config = Config::parse(&text, Path::new("dir/sluice.toml")).unwrap();
    assert_eq!(config.server.state, Some("dir/var/state.json".into()));
    assert_eq!(config.state_file(), Some("dir/var/state.json".into()));
    assert_eq!(config.users.len(), 2);
    assert_eq!(
        config.users["anonymous"].grants.view,
        ["lobby".parse().unwrap()]
    );
    let eva = &config.users["eva@home.example"];
    assert_eq!(eva.password.as_ref().unwrap().expose(), HASH);
    assert_eq!(eva.groups, ["family"]);
    for (role, pattern) in Role::ALL
        .into_iter()
        .zip(["*", "porch*", "porch", "*cam*", "desk", "porch"])
    {
        assert_eq!(
            eva.grants.patterns(role),
            [pattern.parse().unwrap()],
            "{role}"
        );
    }
    assert_eq!(config.groups["family"].view.len(), 1);
    let access = &config.access;
    let seconds = |span: Span| span.duration().as_secs();
    assert_eq!(seconds(access.session_idle), 86_400);
    assert_eq!(seconds(access.session_max), 20 * 86_400);
    assert_eq!(seconds(access.ticket), 30);
    assert_eq!(access.proxy_secret, Some(Secret::new("0123456789abcdef")));
    assert_eq!(access.proxy_secret_header.as_str(), "x-secret");
    assert_eq!(access.proxy_user_header.as_str(), "x-forwarded-user");
    assert_eq!(access.proxy_groups_header.as_str(), "x-forwarded-groups");
    assert_eq!(access.group_map["Cam Viewers"], "family");
    let jwt = access.jwt.as_ref().unwrap();
    assert_eq!(jwt.jwks, Jwks::File("dir/keys.json".into()));
    assert_eq!(
        (jwt.issuer.as_str(), jwt.audience.as_str()),
        ("https://id.example", "cams")
    );
    assert_eq!(
        (jwt.user_claim.as_str(), jwt.groups_claim.as_str()),
        ("email", "roles")
    );
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("argon2id") && !shown.contains("0123456789abcdef"),
        "{shown}"
    );
}

#[test]
fn the_defaults_need_no_table() {
    let config =
        parse("[access]\njwt = { jwks = 'https://id.example/k', issuer = 'a', audience = 'b' }")
            .unwrap();
    assert_eq!(config.access.session_idle.duration().as_secs(), 7 * 86_400);
    assert_eq!(config.access.session_max.duration().as_secs(), 30 * 86_400);
    assert_eq!(config.access.ticket.duration().as_secs(), 60);
    let jwt = config.access.jwt.as_ref().unwrap();
    assert_eq!(jwt.jwks, Jwks::Url("https://id.example/k".into()));
    assert_eq!(
        (jwt.user_claim.as_str(), jwt.groups_claim.as_str()),
        ("sub", "groups")
    );
    assert_eq!(parse("").unwrap().access, Access::default());
}

#[test]
fn the_state_file_is_beside_the_config() {
    let config = Config::parse("", Path::new("/etc/cams/gate.toml")).unwrap();
    // Unless systemd runs the tests.
    if std::env::var_os("STATE_DIRECTORY").is_none() {
        assert_eq!(
            config.state_file(),
            Some("/etc/cams/gate.state.json".into())
        );
    }
}

#[test]
fn a_mistake_about_access_says_what_to_write() {
    for (text, start, parts) in [
        (
            "[users.'e va']\nview = ['*']",
            "sluice.toml:1:8: `e va` in [users] is not a valid name of a user: it contains ` `",
            &["use letters"][..],
        ),
        (
            "[users.-eva]",
            "sluice.toml:1:8: `-eva` in [users] is not a valid name of a user: it starts with neither",
            &[],
        ),
        (
            "[groups.'']",
            "sluice.toml:1:9: `` in [groups] is not a valid name of a group: it is empty",
            &[],
        ),
        (
            "[users.eva]\nviews = ['*']",
            "sluice.toml:2:1: unknown key `views` in [users.eva]; did you mean `view`?",
            &["`password`, `groups`, `view`"],
        ),
        (
            "[users.eva]\nview = '*'",
            "sluice.toml:2:8: `view` in [users.eva]: found string",
            &["expected a list in [ ]"],
        ),
        (
            "[users.eva]\nview = ['po/rch']",
            "sluice.toml:2:9: item 1 of `view` in [users.eva]: `po/rch` can match no stream",
            &["\"porch*\""],
        ),
        (
            "[groups.family]\n[users.eva]\ngroups = ['famly']",
            "sluice.toml:3:11: item 1 of `groups` in [users.eva]: there is no group `famly`; did you mean `family`?",
            &["[groups.NAME]"],
        ),
        (
            "[access]\ngroup-map = { staff = 'famly' }",
            "sluice.toml:2:23: `staff` in [access.group-map]: there is no group `famly`",
            &[],
        ),
        (
            "[access]\nsession-idle = '1s'",
            "sluice.toml:2:16: `session-idle` in [access]: 1s is out of range; write \"1m\" to \"365d\"",
            &[],
        ),
        (
            "[access]\nticket = '2h'",
            "sluice.toml:2:10: `ticket` in [access]: 2h is out of range; write \"10s\" to \"1h\"",
            &[],
        ),
        (
            "[access]\nproxy-user-header = 'Remote User'",
            "sluice.toml:2:21: `proxy-user-header` in [access]: `Remote User` is not the name of a header",
            &[],
        ),
        (
            "[access]\njwt = { jwks = 'ftp://x', issuer = 'a', audience = 'b' }",
            "sluice.toml:2:16: `jwks` in [access.jwt]: write a path, or a URL with http or https",
            &[],
        ),
        (
            "[access]\njwt = { jwks = 'x', issuer = 'a' }",
            "sluice.toml:2:7: `audience` is missing in [access.jwt]",
            &[],
        ),
        (
            "[access]\njwt = { jwks = 'x', issuer = '', audience = 'b' }",
            "sluice.toml:2:30: `issuer` in [access.jwt] is empty, so that any token would do",
            &[],
        ),
    ] {
        refused(text, start, parts);
    }
}

#[test]
fn a_mistake_about_a_secret_does_not_show_it() {
    for (text, start) in [
        (
            "[users.eva]\npassword = 'hunter2'",
            "sluice.toml:2:12: `password` in [users.eva] is not an argon2id hash; write a hash",
        ),
        (
            "[users.eva]\npasword = \"hunter2\"",
            "sluice.toml:2:1: unknown key `pasword` in [users.eva]; did you mean `password`?",
        ),
        (
            "users.eva = { view = ['*'], 'password' = 'hunter2 2', talk = 7 }",
            "sluice.toml:1:",
        ),
        (
            "[users.eva]\npassword = ['hunter2']",
            "sluice.toml:2:12: `password` in [users.eva]: found ",
        ),
        ("[users.eva]\npassword = 'hunter2", "sluice.toml:2:"),
        (
            "[users.anonymous]\npassword = 'hunter2'",
            "sluice.toml:2:1: `password` in [users.anonymous] makes no sense",
        ),
        (
            "[access]\nproxy-secret = 'hunter2'",
            "sluice.toml:2:16: `proxy-secret` in [access] is too short to be a secret",
        ),
        (
            "[access]\nproxy-secret = 'hunter2hunter2hunter2'\nproxy-secret-file = 'x'",
            "sluice.toml:2:1: `proxy-secret` in [access] says the same as `proxy-secret-file`",
        ),
    ] {
        let error = refused(text, start, &[]);
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = refused(
        "[users.eva]\npassword = 8242",
        "sluice.toml:2:12: `password` in [users.eva]",
        &[],
    );
    assert!(
        error.contains("a string in quotes") && !error.contains("8242"),
        "{error}"
    );
    let costly = HASH.replace("m=19456", "m=99999999");
    let error = refused(
        &format!("[users.eva]\npassword = '{costly}'"),
        "sluice.toml:2:12",
        &["costs too much"],
    );
    assert!(!error.contains("nf65"), "{error}");
}

#[test]
fn a_pattern_matches_whole_names() {
    for (pattern, matching, others) in [
        ("*", &["a", "porch", "*"][..], &[][..]),
        ("porch", &["porch"], &["porch2", "aporch", "Porch", ""]),
        ("porch*", &["porch", "porch2"], &["por", "aporch"]),
        ("*porch", &["porch", "back porch"], &["porch2"]),
        ("a*b", &["ab", "axb", "abb"], &["a", "b", "aba"]),
        ("a*a", &["aa", "aba"], &["a"]),
        ("*a*a*", &["aa", "xaxax"], &["a", "xa"]),
        ("a**b", &["ab", "axxb"], &["a"]),
        ("*ab*b", &["abb", "xabxb"], &["ab"]),
    ] {
        let parsed: Pattern = pattern.parse().unwrap();
        for name in matching {
            assert!(parsed.matches(name), "{pattern} {name}");
        }
        for name in others {
            assert!(!parsed.matches(name), "{pattern} {name}");
        }
    }
    for bad in ["", "a/b", "a?", "~a", " a", "a\n", &"x".repeat(129)] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad}");
    }
}

#[test]
fn an_administrator_of_streams_has_every_role_over_them() {
    let grants = Grants::of(Role::Admin, "porch*".parse().unwrap());
    for role in Role::ALL {
        assert!(grants.permit(role, Some("porch2")) && grants.permit_any(role));
        assert!(!grants.permit(role, Some("garden")) && !grants.permit(role, None));
        assert!(Grants::all().permit(role, None));
        assert!(!Grants::default().permit_any(role));
    }
    let view = Grants::of(Role::View, Pattern::all());
    assert!(view.permit(Role::View, None) && !view.permit(Role::Admin, None));
    let mut both = grants.clone();
    both.add(&view);
    both.add(&view);
    assert_eq!((both.view.len(), both.admin.len()), (1, 1));
}

#[test]
fn a_role_is_read_by_its_name() {
    for role in Role::ALL {
        assert_eq!(role.name().parse(), Ok(role));
    }
    assert!(
        "View"
            .parse::<Role>()
            .unwrap_err()
            .contains("view, capture, talk")
    );
}
