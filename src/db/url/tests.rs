//! Tests of the URL parser.

use super::*;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postgres::config::TargetSessionAttrs;
use proptest::prelude::*;

fn servers(text: &str) -> Vec<String> {
    let url = parse(text).unwrap();
    url.servers.iter().map(Server::to_string).collect()
}

#[test]
fn urls_are_parsed_as_libpq_does() {
    let url = parse(
        "postgresql://me:s%40c%2Fret@db1:5433,db2,[::1]:5434/my%20base?application_name=x&\
         target_session_attrs=any&connect_timeout=3&options=-csearch_path%3Dother%2Cpublic",
    )
    .unwrap();
    assert_eq!(url.config.get_user(), Some("me"));
    assert_eq!(url.config.get_password(), Some(&b"s@c/ret"[..]));
    assert_eq!(url.config.get_dbname(), Some("my base"));
    assert_eq!(url.config.get_application_name(), Some("x"));
    assert_eq!(url.config.get_options(), Some("-csearch_path=other,public"));
    assert_eq!(url.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    assert_eq!(url.config.get_target_session_attrs(), TargetSessionAttrs::Any);
    assert_eq!(url.tls, TlsMode::Prefer);
    let shown: Vec<_> = url.servers.iter().map(Server::to_string).collect();
    assert_eq!(shown, ["db1:5433", "db2:5432", "[::1]:5434"]);
}

#[test]
fn hosts_may_be_in_the_authority_or_the_query() {
    for (text, expected) in [
        ("postgres://db/x", &["db:5432"][..]),
        ("postgres://db:6432", &["db:6432"]),
        ("postgres:///x?host=/run/pg&port=5433", &["/run/pg/.s.PGSQL.5433"]),
        ("postgres://%2Frun%2Fpg/x", &["/run/pg/.s.PGSQL.5432"]),
        ("postgres://me@:5433/x?host=/run/pg", &["/run/pg/.s.PGSQL.5433"]),
        ("postgres://db/x?host=other", &["other:5432"]),
        ("postgres://[fe80::1%25eth0]/x", &["[fe80::1%eth0]:5432"]),
        ("postgres://a,b/x?port=1", &["a:1", "b:1"]),
        ("postgres:///x?host=a,b&port=1,2", &["a:1", "b:2"]),
        ("postgres://db/x?hostaddr=10.0.0.1", &["db:5432"]),
        ("postgres:///x?hostaddr=10.0.0.1,::1", &["10.0.0.1:5432", "[::1]:5432"]),
        ("postgres://host?user=me@place", &["host:5432"]),
        ("postgres:///x", &["/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432"]),
    ] {
        assert_eq!(servers(text), expected, "{text}");
    }
    let azure = parse("postgres://host?user=me@place").unwrap();
    assert_eq!(azure.config.get_user(), Some("me@place"));
    for password in ["a?b:c", "a&user=b"] {
        let raw = parse(&format!("postgres://me:{password}@host/x")).unwrap();
        assert_eq!(raw.config.get_password(), Some(password.as_bytes()));
    }
}

#[test]
fn sslmode_means_the_same_as_in_libpq() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, tls::tests::root_pem()).unwrap();
    for (query, expected) in [
        ("", TlsMode::Prefer),
        ("sslmode=disable", TlsMode::Disable),
        ("sslmode=allow", TlsMode::Prefer),
        ("sslmode=prefer", TlsMode::Prefer),
        ("sslmode=prefer&sslrootcert=/ca.pem", TlsMode::Prefer),
        ("sslmode=require", TlsMode::Require),
        ("ssl=true", TlsMode::Require),
        ("sslmode=require&sslrootcert=/ca.pem", TlsMode::VerifyCa),
        ("sslmode=verify-ca&sslrootcert=/ca.pem", TlsMode::VerifyCa),
        ("sslmode=verify-ca", TlsMode::VerifyCa),
        ("sslmode=verify-full&sslrootcert=/ca.pem", TlsMode::VerifyFull),
        ("sslmode=verify-full", TlsMode::VerifyFull),
        ("sslrootcert=system", TlsMode::VerifyFull),
        ("sslmode=require&sslrootcert=system", TlsMode::VerifyFull),
        ("sslmode=disable&sslmode=verify-full", TlsMode::VerifyFull),
    ] {
        let query = query.replace("/ca.pem", path.to_str().unwrap());
        let url = parse(&format!("postgres://db/x?{query}")).unwrap();
        assert_eq!(url.tls, expected, "{query}");
        assert_eq!(url.client_config.is_some(), expected != TlsMode::Disable, "{query}");
    }
    // The file is read where a certificate is verified against it.
    for (mode, expected) in
        [("prefer", true), ("require", false), ("verify-ca", false), ("verify-full", false)]
    {
        let text = format!("postgres://db/x?sslmode={mode}&sslrootcert=/nowhere.pem");
        assert_eq!(parse(&text).is_ok(), expected, "{mode}");
    }
    // A socket has no TLS, and needs no root certificate.
    let socket = parse("postgres:///x?sslmode=verify-full&sslrootcert=/nowhere.pem").unwrap();
    assert!(socket.client_config.is_none());
}

#[test]
fn defaults_are_set_unless_given() {
    let config = parse("postgres://db/x").unwrap().config;
    assert_eq!(
        config.get_application_name(),
        Some(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(10)));
    assert_eq!(config.get_keepalives_retries(), Some(3));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(30)));
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::Any);

    let config = parse(
        "postgres://a,b/x?keepalives_idle=7&keepalives_interval=8&keepalives_count=9\
         &tcp_user_timeout=1500",
    )
    .unwrap()
    .config;
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(8)));
    assert_eq!(config.get_keepalives_retries(), Some(9));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);

    let primary = parse("postgres://a/x?target_session_attrs=primary").unwrap().config;
    assert_eq!(primary.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
}

#[test]
fn options_of_rails_and_libpq_are_ignored() {
    let url = parse(
        "postgres://db/x?pool=5&encoding=utf8&reconnect=true&prepared_statements=false&timeout=5000\
         &checkout_timeout=5&variables[statement_timeout]=5s&gssencmode=disable&sslcompression=0\
         &fallback_application_name=y&load_balance_hosts=random&channel_binding=require",
    )
    .unwrap();
    assert_eq!(url.config.get_channel_binding(), postgres::config::ChannelBinding::Require);
}

#[test]
fn a_refused_option_is_named_without_its_value() {
    let unsupported = |name: &str| format!("has the parameter {name}, which is not supported");
    let unknown = || UNKNOWN.to_owned();
    let value = invalid;
    for (text, expected) in [
        ("postgres://db/x?sslcert=CANARY", unsupported("sslcert")),
        ("postgres://db/x?schema_search_path=CANARY", unsupported("schema_search_path")),
        ("postgres://db/x?CANARY=1", unknown()),
        ("postgres://db/x?canary=1", unknown()),
        ("postgres://db/x?user%3D'x'%20canary=1", unknown()),
        ("postgres://me:pw@db/x?=CANARY", unknown()),
        ("postgres://db/x?sslmode=CANARY", value("sslmode")),
        ("postgres://db/x?connect_timeout=CANARY", value("connect_timeout")),
        ("postgres://db/x?tcp_user_timeout=CANARY", value("tcp_user_timeout")),
        ("postgres://db/x?target_session_attrs=CANARY", value("target_session_attrs")),
        ("postgres://db/x?hostaddr=CANARY", value("hostaddr")),
        ("postgres://db/x?sslnegotiation=direct", value("sslnegotiation")),
        ("postgres://db:CANARY/x", value("port")),
        ("postgres://db:0/x", value("port")),
        ("postgres://[::1]5433/x", value("host")),
        ("postgres://a,b/x?port=1,2,3", value("port")),
        ("postgres://a,b/x?hostaddr=::1", value("hostaddr")),
        ("postgres://me:CAN@ARY@db/x", value("host")),
        ("postgres://a,,b/x", value("host")),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
    }
    for text in [
        "",
        "CANARY",
        "mysql://CANARY@db/x?a=b",
        "postgres://me:12/CANARY@db/x",
        "postgres://me:CANARY/34@db/x",
        "postgres://me:CANARY%@db/x",
        "postgres://me:CANARY%zz@db/x",
        "postgres://me:%ff%feCANARY@db/x",
        "postgres://me:CANARY%00@db/x",
        "postgres://me%3aCANARY@db/x",
        "postgres://db/x?CANARY",
        "postgres://[::1/CANARY",
        "postgres://[::1]CANARY/x",
        "host=db password=CANARY",
        "postgres://db/x?sslmode=verify-full&sslrootcert=/CANARY.pem",
    ] {
        let error = parse(text).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{text}: {error}");
    }
}

#[test]
fn local_servers_are_recognized() {
    for (text, expected) in [
        ("host=localhost", true),
        ("host=127.0.0.3", true),
        ("host=::1", true),
        ("host=/tmp", true),
        ("host=db&hostaddr=127.0.0.1", true),
        ("host=localhost&hostaddr=10.0.0.1", false),
        ("host=db", false),
        ("host=10.0.0.1", false),
    ] {
        assert_eq!(
            parse(&format!("postgres:///x?{text}")).unwrap().servers[0].is_local(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn debug_hides_the_password() {
    let url = parse("postgres://me:CANARY@db/x").unwrap();
    assert!(!format!("{url:?} {:?}", url.config).contains("CANARY"));
}

proptest! {
    #[test]
    fn any_password_survives(password in "[^\0]{1,20}") {
        let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        let url = parse(&format!("postgres://me:{encoded}@db/x")).unwrap();
        prop_assert_eq!(url.config.get_password(), Some(password.as_bytes()));
    }

    #[test]
    fn any_string_is_parsed_or_refused(text in "(postgres://)?[a-z:@/?&=%' \\\\\\[\\],.0-9]{0,40}") {
        let _ = parse(&text);
    }
}

#[test]
fn a_password_that_was_not_encoded_is_shown_nowhere() {
    let specials: Vec<char> = (' '..='~').filter(|it| !it.is_alphanumeric()).collect();
    let one = specials.iter().map(char::to_string);
    let two = specials.iter().flat_map(|a| specials.iter().map(move |b| format!("{a}{b}")));
    let mut leaks = Vec::new();
    for special in one.chain(two) {
        for password in [
            format!("canary{special}canary"),
            format!("{special}canary"),
            format!("canary{special}"),
            format!("12{special}canary"),
            format!("12{special}x=canary"),
            format!("canary{special}12"),
            format!("12{special}canary=x"),
        ] {
            for text in [
                format!("postgres://me:{password}@db/x"),
                format!("postgres://me:{password}@db/x?connect_timeout=3"),
                format!("postgres://me:{password}@db"),
                format!("postgres://:{password}@db/x"),
                format!("postgres://db/x?user=me&password={password}"),
                format!("postgres://db/x?password={password}&user=me"),
                format!("host=db user=me password={password}"),
                format!("password={password} host=db user=me"),
                format!("postgres://db?user=me&password={password}"),
                format!("postgres://db?password={password}&user=me"),
            ] {
                let shown = match parse(&text) {
                    Err(error) => error.to_string(),
                    Ok(url) => format!(
                        "{:?} {:?} {:?} {:?} {:?}",
                        url.config.get_user(),
                        url.config.get_dbname(),
                        url.config.get_options(),
                        url.config.get_application_name(),
                        url.servers,
                    ),
                };
                if shown.contains("canary") {
                    leaks.push(format!("{text}: {shown}"));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} of them:\n{}", leaks.len(), leaks.join("\n"));
}
