//! What must hold for any bytes from outside: one function per parser, which panics where it does not. `fuzz/` feeds
//! them; the tests below feed them what is kept in `fuzz/corpus`.

use std::collections::BTreeMap;

use palisade_identity::SpiffeId;
use palisade_policy::document::{self, SourceFile};
use palisade_policy::kind::Meta;
use palisade_policy::projection::{Projection, project};
use palisade_policy::{PolicySet, Severity, Snapshot, Workload};
use palisade_proto::v1;
use prost::Message;

pub use crate::edge::fuzzing::{forwarded, proxy_header};
pub use crate::http::fuzzing::{framing, path};
pub use crate::jwt::fuzzing::{Memory, SIGNED, is_signed, key_set, token};
pub use crate::telemetry::fuzzing::Scribe;
pub use crate::telemetry::trace::fuzzing::trace;

/// Documents of policy. What is read without errors reads the same from its own text, and lint has an answer to it.
pub fn documents(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A lone CR ends a line too (YAML 1.2 section 5.4).
    let lines = text.split(['\n', '\r']).count();
    let (objects, findings) = document::parse(&[file(text)]);
    for finding in &findings.0 {
        assert!(!finding.message.is_empty());
        let place = finding.position.as_ref();
        assert!(place.is_none_or(|place| (1..=lines + 1).contains(&place.line)), "{finding:?}");
    }
    if findings.0.iter().any(|finding| finding.severity == Severity::Error) {
        return;
    }
    for object in &objects {
        let (again, findings) = document::parse(&[file(&object.text)]);
        assert!(!findings.has_errors(), "{findings:?} in {:?}", object.text);
        let [again] = again.as_slice() else { panic_on("one document became several or none", &object.text) };
        assert_eq!((&again.meta, &again.spec), (&object.meta, &object.spec));
    }
    if let Ok((set, _warnings)) = PolicySet::new(objects, &[]) {
        let _report = palisade_policy::lint::lint(set.objects(), std::time::SystemTime::UNIX_EPOCH);
        set.objects().iter().for_each(|object| is_understood_by_some(&set, &object.meta));
    }
}

/// By workloads of the object's namespace, among them one with its labels.
fn is_understood_by_some(set: &PolicySet, meta: &Meta) {
    for account in ["ledger", "edge"] {
        let id = SpiffeId::parse(&format!("spiffe://corp.example/ns/{}/sa/{account}", meta.namespace));
        // Objects may lie in namespaces that no workload can have.
        let Ok(id) = id else { continue };
        let labels = BTreeMap::from([("app".to_owned(), account.to_owned())]);
        is_understood_as_sent(&project(set, &[], &Workload { id, labels }));
    }
}

/// What a control plane sends. What is understood of it is sent as it was understood, and a snapshot is made of it or refused.
pub fn wire(data: &[u8]) {
    let Ok(body) = v1::SnapshotBody::decode(data) else { return };
    if let Ok(projection) = Projection::try_from(body) {
        is_understood_as_sent(&projection);
        let _snapshot = Snapshot::compile(1, &projection);
    }
}

fn is_understood_as_sent(projection: &Projection) {
    let bytes = v1::SnapshotBody::from(projection).encode_to_vec();
    let understood = v1::SnapshotBody::decode(bytes.as_slice()).ok().map(Projection::try_from);
    assert_eq!(understood, Some(Ok(projection.clone())));
}

fn file(text: &str) -> SourceFile {
    SourceFile { name: "fuzz.yaml".into(), text: text.into() }
}

/// Ends the run. A target that returned would hide what it found.
#[expect(clippy::panic, reason = "how a fuzzer is told")]
pub(crate) fn panic_on(what: &str, input: impl std::fmt::Debug) -> ! {
    panic!("{what}: {input:?}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 9] = [
        ("documents", super::documents),
        ("forwarded", super::forwarded),
        ("framing", super::framing),
        ("key_set", super::key_set),
        ("path", super::path),
        ("proxy_header", super::proxy_header),
        ("token", super::token),
        ("trace", super::trace),
        ("wire", super::wire),
    ];

    #[test]
    fn whatever_was_found_once_holds_from_then_on() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(home.join("targets")).unwrap() {
            names.push(entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        }
        names.sort();
        assert_eq!(names, TARGETS.map(|(name, _)| name), "fuzz/targets and this list differ");
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for entry in fs::read_dir(home.join("corpus").join(name)).unwrap() {
                target(&fs::read(entry.unwrap().path()).unwrap());
                seeds += 1;
            }
            assert!(seeds > 2, "fuzz/corpus/{name} has {seeds} seeds");
        }
    }
}
