//! Tests of the address parser.

use super::*;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

fn endpoints(text: &str) -> Vec<String> {
    let address = parse(text).unwrap();
    address.endpoints.iter().map(Endpoint::to_string).collect()
}

#[test]
fn urls_are_read_as_libpq_does() {
    let address = parse(
        "postgresql://me:s%40c%2Fret@db1:5433,db2,[::1]:5434/my%20base?application_name=x&\
         target_session_attrs=any&connect_timeout=3&options=-csearch_path%3Dother%2Cpublic",
    )
    .unwrap();
    assert_eq!(address.config.get_user(), Some("me"));
    assert_eq!(address.config.get_password(), Some(&b"s@c/ret"[..]));
    assert_eq!(address.config.get_dbname(), Some("my base"));
    assert_eq!(address.config.get_application_name(), Some("x"));
    assert_eq!(
        address.config.get_options(),
        Some("-csearch_path=other,public")
    );
    assert_eq!(
        address.config.get_connect_timeout(),
        Some(&Duration::from_secs(3))
    );
    assert_eq!(
        address.config.get_target_session_attrs(),
        TargetSessionAttrs::Any
    );
    assert_eq!(address.tls, Tls::Prefer);
    let shown: Vec<_> = address.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(shown, ["db1:5433", "db2:5432", "[::1]:5434"]);
}

#[test]
fn hosts_come_from_everywhere() {
    for (text, expected) in [
        ("postgres://db/x", &["db:5432"][..]),
        ("postgres://db:6432", &["db:6432"]),
        (
            "postgres:///x?host=/run/pg&port=5433",
            &["/run/pg/.s.PGSQL.5433"],
        ),
        ("postgres://%2Frun%2Fpg/x", &["/run/pg/.s.PGSQL.5432"]),
        (
            "postgres://me@:5433/x?host=/run/pg",
            &["/run/pg/.s.PGSQL.5433"],
        ),
        ("postgres://db/x?host=other", &["other:5432"]),
        ("postgres://[fe80::1%25eth0]/x", &["[fe80::1%eth0]:5432"]),
        ("postgres://a,b/x?port=1", &["a:1", "b:1"]),
        ("host=a,b port=1,2", &["a:1", "b:2"]),
        ("host=db hostaddr=10.0.0.1", &["db:5432"]),
        ("hostaddr=10.0.0.1,::1", &["10.0.0.1:5432", "[::1]:5432"]),
        ("postgres://host?user=me@place", &["host:5432"]),
        (
            "postgres:///x",
            &["/var/run/postgresql/.s.PGSQL.5432", "/tmp/.s.PGSQL.5432"],
        ),
    ] {
        assert_eq!(endpoints(text), expected, "{text}");
    }
    let azure = parse("postgres://host?user=me@place").unwrap();
    assert_eq!(azure.config.get_user(), Some("me@place"));
    let raw = parse("postgres://me:a?b:c@host/x").unwrap();
    assert_eq!(raw.config.get_password(), Some(&b"a?b:c"[..]));
}

#[test]
fn pairs_are_read_as_libpq_does() {
    let address = parse(
        r"  host = db  user='it\'s me' password = 'a b=c\\d' dbname=x\ y sslmode=disable port='' ",
    )
    .unwrap();
    assert_eq!(address.config.get_user(), Some("it's me"));
    assert_eq!(address.config.get_password(), Some(&br"a b=c\d"[..]));
    assert_eq!(address.config.get_dbname(), Some("x y"));
    assert_eq!(address.endpoints[0].to_string(), "db:5432");
    assert_eq!(address.tls, Tls::Disable);
}

#[test]
fn tls_means_what_libpq_says() {
    let file = || Roots::File("/ca.pem".into());
    for (query, expected) in [
        ("", Tls::Prefer),
        ("sslmode=disable", Tls::Disable),
        ("sslmode=allow", Tls::Prefer),
        ("sslmode=prefer", Tls::Prefer),
        ("sslmode=prefer&sslrootcert=/ca.pem", Tls::Prefer),
        ("sslmode=require", Tls::Require),
        ("ssl=true", Tls::Require),
        ("sslmode=require&sslrootcert=/ca.pem", Tls::VerifyCa(file())),
        (
            "sslmode=verify-ca&sslrootcert=/ca.pem",
            Tls::VerifyCa(file()),
        ),
        ("sslmode=verify-ca", Tls::VerifyCa(Roots::System)),
        (
            "sslmode=verify-full&sslrootcert=/ca.pem",
            Tls::VerifyFull(file()),
        ),
        ("sslmode=verify-full", Tls::VerifyFull(Roots::System)),
        ("sslrootcert=system", Tls::VerifyFull(Roots::System)),
        (
            "sslmode=require&sslrootcert=system",
            Tls::VerifyFull(Roots::System),
        ),
        (
            "sslmode=disable&sslmode=verify-full",
            Tls::VerifyFull(Roots::System),
        ),
    ] {
        assert_eq!(
            parse(&format!("postgres://db/x?{query}")).unwrap().tls,
            expected,
            "{query}"
        );
    }
}

#[test]
fn defaults_are_set_unless_given() {
    let config = parse("postgres://db/x").unwrap().config;
    assert_eq!(
        config.get_application_name(),
        Some(concat!("datapass-pull/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(
        config.get_keepalives_interval(),
        Some(Duration::from_secs(10))
    );
    assert_eq!(config.get_keepalives_retries(), Some(3));
    assert_eq!(
        config.get_tcp_user_timeout(),
        Some(&Duration::from_secs(30))
    );
    assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::Any);

    let config = parse(
        "postgres://a,b/x?keepalives_idle=7&keepalives_interval=8&keepalives_count=9\
         &tcp_user_timeout=1500",
    )
    .unwrap()
    .config;
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7));
    assert_eq!(
        config.get_keepalives_interval(),
        Some(Duration::from_secs(8))
    );
    assert_eq!(config.get_keepalives_retries(), Some(9));
    assert_eq!(
        config.get_tcp_user_timeout(),
        Some(&Duration::from_millis(1500))
    );
    assert_eq!(
        config.get_target_session_attrs(),
        TargetSessionAttrs::ReadWrite
    );

    let primary = parse("postgres://a/x?target_session_attrs=primary")
        .unwrap()
        .config;
    assert_eq!(
        primary.get_target_session_attrs(),
        TargetSessionAttrs::ReadWrite
    );
}

#[test]
fn what_rails_and_libpq_add_is_ignored() {
    let address = parse(
        "postgres://db/x?pool=5&encoding=utf8&reconnect=true&prepared_statements=false&timeout=5000\
         &checkout_timeout=5&variables[statement_timeout]=5s&gssencmode=disable&sslcompression=0\
         &fallback_application_name=y&channel_binding=require",
    )
    .unwrap();
    assert_eq!(
        address.config.get_channel_binding(),
        postgres::config::ChannelBinding::Require
    );
}

#[test]
fn what_is_refused_names_the_option_alone() {
    let unsupported = |name: &str| AddressError::Unsupported(name.to_owned());
    let value = |name: &str| AddressError::Value(name.to_owned());
    for (text, expected) in [
        ("postgres://db/x?sslcert=CANARY", unsupported("sslcert")),
        (
            "postgres://db/x?schema_search_path=CANARY",
            unsupported("schema_search_path"),
        ),
        (
            "postgres://db/x?CANARY=1",
            unsupported("(its name is not shown)"),
        ),
        ("postgres://db/x?sslmode=CANARY", value("sslmode")),
        (
            "postgres://db/x?connect_timeout=CANARY",
            value("connect_timeout"),
        ),
        (
            "postgres://db/x?tcp_user_timeout=CANARY",
            value("tcp_user_timeout"),
        ),
        (
            "postgres://db/x?target_session_attrs=CANARY",
            value("target_session_attrs"),
        ),
        ("postgres://db/x?hostaddr=CANARY", value("hostaddr")),
        (
            "postgres://db/x?sslnegotiation=direct",
            value("sslnegotiation"),
        ),
        ("postgres://db:CANARY/x", value("port")),
        ("postgres://db:0/x", value("port")),
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
        "password='CANARY",
        "password=a CANARY",
        "password=a CANARY host=db",
        "host=db CANARY=1",
    ] {
        let error = parse(text).expect_err(text);
        assert!(
            !format!("{error} {error:?}").contains("CANARY"),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_stays_here_is_known() {
    for (text, expected) in [
        ("host=localhost", true),
        ("host=127.0.0.3", true),
        ("host=::1", true),
        ("host=/tmp", true),
        ("host=db hostaddr=127.0.0.1", true),
        ("host=localhost hostaddr=10.0.0.1", false),
        ("host=db", false),
        ("host=10.0.0.1", false),
    ] {
        assert_eq!(
            parse(text).unwrap().endpoints[0].is_local(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn debug_hides_the_password() {
    let address = parse("postgres://me:CANARY@db/x").unwrap();
    assert!(!format!("{address:?}").contains("CANARY"));
}

proptest! {
    #[test]
    fn any_password_survives_both_forms(password in "[^\0]{1,20}") {
        let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        let url = parse(&format!("postgres://me:{encoded}@db/x")).unwrap();
        prop_assert_eq!(url.config.get_password(), Some(password.as_bytes()));

        let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
        let pairs = parse(&format!("host=db password='{quoted}' user=me")).unwrap();
        prop_assert_eq!(pairs.config.get_password(), Some(password.as_bytes()));
    }

    #[test]
    fn any_text_is_answered(text in "(postgres://)?[a-z:@/?&=%' \\\\\\[\\],.0-9]{0,40}") {
        let _ = parse(&text);
    }
}

#[test]
fn a_password_that_was_not_encoded_is_shown_nowhere() {
    let specials: Vec<char> = (' '..='~').filter(|it| !it.is_alphanumeric()).collect();
    let one = specials.iter().map(char::to_string);
    let two = specials
        .iter()
        .flat_map(|a| specials.iter().map(move |b| format!("{a}{b}")));
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
                format!("password='{password}' host=db user=me"),
                format!("host=db user=me password = {password} dbname=x"),
            ] {
                let told = match parse(&text) {
                    Err(error) => error.to_string(),
                    Ok(address) => format!(
                        "{:?} {:?} {:?} {:?} {:?}",
                        address.config.get_user(),
                        address.config.get_dbname(),
                        address.config.get_options(),
                        address.config.get_application_name(),
                        address.endpoints,
                    ),
                };
                if told.contains("canary") {
                    leaks.push(format!("{text}: {told}"));
                }
            }
        }
    }
    assert!(
        leaks.is_empty(),
        "{} of them:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
}
