//! Rules about the project itself: what ARCHITECTURE.md and DESIGN promise stays true because these tests fail when
//! it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "all of this is test code: a surprise must fail the test on the spot"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_policy::kind::Kind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file below `folder` with this ending, without build output.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with("target") && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[test]
fn every_kind_has_its_places() {
    let root = root();
    let wire = fs::read_to_string(root.join("proto/palisade/v1/policy.proto")).unwrap();
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        let (name, file) = (kind.name(), snake(kind.name()));
        let module = root.join(format!("policy/src/kind/{file}.rs"));
        if !module.exists() && !module.with_extension("").join("mod.rs").exists() {
            missing.push(format!("{name}: its module policy/src/kind/{file}"));
        }
        let mentions = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&format!("kind: {name}"));
        if !files(&root.join("policy/tests"), ".rs").iter().any(mentions) {
            missing.push(format!("{name}: its cases in policy/tests"));
        }
        if !root.join(format!("docs/reference/{name}.md")).exists() {
            missing.push(format!("{name}: its page docs/reference/{name}.md"));
        }
        if !wire.contains(&format!("message {name} {{")) {
            missing.push(format!("{name}: its message in policy.proto"));
        }
        let proved = files(&root.join("tests/tests"), ".rs")
            .iter()
            .any(|path| !path.ends_with("tidy.rs") && mentions(path));
        if !proved {
            missing.push(format!("{name}: an end-to-end test that applies one"));
        }
    }
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}

#[test]
fn who_may_use_whom_is_kept() {
    let rows: [(&str, &[&str]); 8] = [
        ("certs/identity", &[]),
        ("policy", &["palisade-identity"]),
        ("certs", &["palisade-identity"]),
        ("proto", &["palisade-identity", "palisade-policy", "palisade-certs"]),
        ("control-plane", &["palisade-identity", "palisade-policy", "palisade-certs", "palisade-proto"]),
        ("proxy", &["palisade-identity", "palisade-policy", "palisade-certs", "palisade-proto"]),
        ("demo", &["palisade-identity", "palisade-certs"]),
        ("rehearsal", &["palisade-policy"]),
    ];
    for (member, allowed) in rows {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        let dependencies = section(&manifest, "[dependencies]");
        for line in dependencies.lines().filter(|line| line.starts_with("palisade-")) {
            let name = line.split('.').next().unwrap();
            assert!(allowed.contains(&name), "{member} must not use {name} (DESIGN section 3)");
        }
    }
}

#[test]
fn policy_stays_pure() {
    let manifest = fs::read_to_string(root().join("policy/Cargo.toml")).unwrap();
    let dependencies = section(&manifest, "[dependencies]");
    for banned in ["tokio", "hyper", "tonic", "rustls", "tracing", "jiff", "rand", "socket2"] {
        let used = dependencies.lines().any(|line| line.split(['.', ' ']).next() == Some(banned));
        assert!(!used, "policy must not use {banned}");
    }
    for path in files(&root().join("policy/src"), ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        for banned in ["std::env", "std::fs", "std::net::TcpStream", "SystemTime::now", "Instant::now"] {
            assert!(!text.contains(banned), "{} uses {banned}", path.display());
        }
    }
}

/// The lines of one table of a manifest.
fn section<'a>(manifest: &'a str, header: &str) -> &'a str {
    let rest = manifest.split_once(header).map_or("", |(_, rest)| rest);
    rest.split_once("\n[").map_or(rest, |(section, _)| section)
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in files(&root(), ".md") {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            if !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for path in files(&root(), ".rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > 500 {
            long.push(format!("{} has {lines} lines", path.strip_prefix(root()).unwrap().display()));
        }
    }
    assert!(
        long.is_empty(),
        "split these into rooms with one purpose each (limit 500):\n{}",
        long.join("\n")
    );
}

#[test]
fn every_subcommand_is_in_the_reference() {
    let page = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_palisade-under-test")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let names = commands.split("\n\n").next().unwrap().lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty()).then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("`palisade {name}")),
            "docs/reference/cli.md does not speak of {name}"
        );
    }
}

/// `docs/reference/hardening.md` names the test for every attack. A renamed test would leave a claim that nobody checks.
#[test]
fn every_test_that_the_hardening_page_names_is_there() {
    let page = fs::read_to_string(root().join("docs/reference/hardening.md")).unwrap();
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::") && *name != "a::b" && *name != "edge::c::b")
        .collect();
    assert!(named.len() > 40, "{}", named.len());
    for name in named {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = root().join(format!("tests/tests/e2e/{}.rs", module.replace("::", "/")));
        let text = fs::read_to_string(&file).unwrap_or_default();
        let at = text.find(&format!("fn {test}("));
        let before = at.map(|at| text[..at].trim_end().to_owned()).unwrap_or_default();
        assert!(before.ends_with("async") && before.contains("#[tokio::test"), "{name} is no test");
    }
}

/// `docs/reference/istio-semantics.md` has a line for each of the 26 points, and each names the test that shows it.
#[test]
fn every_point_of_istios_semantics_has_its_line_and_its_test() {
    let page = fs::read_to_string(root().join("docs/reference/istio-semantics.md")).unwrap();
    let points = fs::read_to_string(root().join("policy/tests/istio/points.rs")).unwrap();
    let mut numbers = Vec::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, test, _] = cells[..] else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        numbers.push(number);
        let name = test.trim_matches('`');
        let (file, name) = match name.strip_prefix("e2e::") {
            Some(path) => {
                let (module, name) = path.rsplit_once("::").unwrap();
                let file = root().join(format!("tests/tests/e2e/{}.rs", module.replace("::", "/")));
                (fs::read_to_string(file).unwrap_or_default(), name)
            }
            None => {
                assert!(name.starts_with(&format!("point_{number:02}_")), "point {number} names {name}");
                (points.clone(), name)
            }
        };
        let before = file.find(&format!("fn {name}(")).map(|at| &file[..at]).unwrap_or_default();
        let before = before.trim_end().trim_end_matches("async").trim_end();
        assert!(before.ends_with("test]"), "point {number}: {name} is no test");
    }
    assert_eq!(numbers, (1..=26).collect::<Vec<_>>());
}
