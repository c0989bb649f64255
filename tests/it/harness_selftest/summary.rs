//! The strict parser accepts the documented summary line and nothing else.

use crate::harness::{Summary, at};

const TEXT: &str = "outcome=success pages=2 seen=9 matched=7 created=7 late=0 existing=0 deleted=0 revalidated=0 \
    rejected=0 accepted=0 skipped=0 enqueued=7 drift_rewinds=0 since=none \
    watermark_before=none watermark=2026-05-18T10:00:00.123Z duration_ms=12 dry_run=false \
    run_id=6ff1ed42-9f48-4c7f-8a53-cafeb0f47e01";

const JSON: &str = r#"{"outcome":"transient","reason":"timeout","pages":2,"seen":0,"matched":0,
    "created":0,"late":0,"existing":0,"deleted":0,"revalidated":0,"rejected":0,"accepted":0,
    "skipped":0,"enqueued":0,"drift_rewinds":0,"since":null,"watermark_before":null,"watermark":null,
    "duration_ms":12,"dry_run":false,"run_id":"6ff1ed42-9f48-4c7f-8a53-cafeb0f47e01"}"#;

#[test]
fn both_formats_are_parsed() {
    let summary = Summary::from_text(TEXT).unwrap();
    assert_eq!((summary.outcome.as_str(), summary.created, summary.since), ("success", 7, None));
    assert_eq!(summary.watermark, Some(at("2026-05-18T10:00:00.123Z")));
    let summary = Summary::from_json(JSON).unwrap();
    assert_eq!(summary.reason.as_deref(), Some("timeout"));
}

#[test]
fn deviations_are_refused() {
    for (from, to) in [
        ("pages=2 seen=9", "seen=9 pages=2"),
        ("outcome=success ", "outcome=success reason=panic "),
        ("outcome=success ", "outcome=permanent "),
        ("outcome=success", "outcome=fine"),
        ("seen=9", "seen=nine"),
        (" skipped=0", ""),
        (" run_id=6ff1ed42-9f48-4c7f-8a53-cafeb0f47e01", ""),
        ("run_id=6ff1ed42-9f48", "run_id=6ff1ed42-9f4"),
        ("duration_ms", "duration"),
        ("created=7", "created=6"),
        ("10:00:00.123Z", "10:00:00Z"),
        ("10:00:00.123Z", "10:00:00.123+00:00"),
        ("dry_run=false", "dry_run=no"),
        ("dry_run=false", "dry_run=false  "),
    ] {
        let changed = TEXT.replace(from, to);
        assert_ne!(changed, TEXT);
        assert!(Summary::from_text(&changed).is_err(), "{to} was accepted");
    }
    for (from, to) in [
        (r#""seen":0,"#, r#""seen":"0","#),
        (r#""since":null"#, r#""since":"none""#),
        (r#""pages":2,"seen":0"#, r#""seen":0,"pages":2"#),
        (r#"cafeb0f47e01"}"#, r#"cafeb0f47e01"}}"#),
    ] {
        let changed = JSON.replace(from, to);
        assert_ne!(changed, JSON);
        assert!(Summary::from_json(&changed).is_err(), "{to} was accepted");
    }
}
