//! Findings on the wire.

use palisade_policy::finding::Position;
use palisade_policy::{Finding, Severity};
use palisade_proto::v1;

#[test]
fn findings_arrive_as_they_were_sent() {
    let finding = Finding {
        code: "PAL0008",
        severity: Severity::Warning,
        position: Some(Position { file: "a.yaml".into(), line: 3, column: 9 }),
        object: Some("AuthorizationPolicy bank/x".into()),
        path: "spec.rulez".into(),
        message: "there is no field \"rulez\" here".into(),
        help: None,
    };
    let bare = Finding { position: None, object: None, help: Some("x".into()), ..finding.clone() };
    for sent in [&finding, &bare] {
        assert_eq!(Finding::try_from(v1::Finding::from(sent)).as_ref(), Ok(sent));
    }
    let newer = v1::Finding { code: "PAL9999".into(), ..v1::Finding::from(&finding) };
    let read = Finding::try_from(newer).unwrap();
    assert_eq!((read.code, read.message.as_str()), ("PAL0000", "PAL9999: there is no field \"rulez\" here"));
    let odd = v1::Finding { severity: "fatal".into(), ..v1::Finding::from(&finding) };
    assert_eq!(Finding::try_from(odd).unwrap_err().field, "severity");
}
