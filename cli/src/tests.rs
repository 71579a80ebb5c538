use super::*;

#[test]
fn the_definition_is_consistent() {
    definition().debug_assert();
}

#[test]
fn every_option_can_be_given_as_an_environment_variable() {
    fn check(command: &clap::Command) {
        for argument in command.get_arguments().filter(|a| !a.is_positional()) {
            let id = argument.get_id().as_str();
            if matches!(id, "help" | "version") {
                continue;
            }
            let env = argument.get_env().and_then(|e| e.to_str()).unwrap_or_default();
            let long = argument.get_long().unwrap_or_default();
            let expected = format!("PALISADE_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(env, expected, "--{long} of {}", command.get_name());
        }
        command.get_subcommands().filter(|c| !c.is_hide_set()).for_each(check);
    }
    check(&definition());
}

const REFERENCE: &str = concat!(
    include_str!("../../docs/reference/cli.md"),
    include_str!("../../docs/reference/control-plane.md"),
    include_str!("../../docs/reference/proxy.md"),
    include_str!("../../docs/reference/edge.md"),
    include_str!("../../docs/file-mode.md"),
);

#[test]
fn the_reference_names_every_subcommand_and_every_option() {
    fn check(command: &clap::Command, path: &str) {
        for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
            let long = argument.get_long().unwrap_or_default();
            let written = matches!(long, "" | "help" | "version" | "output" | "namespace")
                || REFERENCE.contains(&format!("--{long}"));
            assert!(written, "docs/reference does not explain --{long} of {path}");
        }
        for child in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", child.get_name());
            assert!(REFERENCE.contains(&path), "docs/reference/cli.md does not explain {path}");
            check(child, &path);
        }
    }
    check(&definition(), "palisade");
}

#[test]
fn refuses_lines_that_mean_nothing() {
    let rows: [(&[&str], &str); 11] = [
        (&[], "Usage"),
        (&["aply"], "unrecognized subcommand 'aply'"),
        (&["apply"], "<PATH>"),
        (&["apply", "x", "--server", "a:1"], "--operator-dir"),
        (&["get", "Pod", "--server", "a:1", "--operator-dir", "d"], "no kind of this name"),
        (&["token", "create", "--namespace", "a b", "--service-account", "c"], "not allowed in a namespace"),
        (&["control-plane", "--data-dir", "d", "--trust-domain", "UPPER"], "not allowed in a trust domain"),
        (&["wait", "--timeout", "60"], "is no duration"),
        (&["fault", "inject", "--from", "a", "--to", "b", "--for", "1m"], "--drop-response"),
        (&["fault", "stop"], "NAME|--all"),
        (&["fault", "stop", "a", "--all"], "cannot be used with"),
    ];
    for (words, part) in rows {
        let error = Cli::try_parse_from([&["palisade"], words].concat()).unwrap_err().to_string();
        assert!(error.contains(part), "{words:?}: {error}");
    }
}

#[test]
fn the_documents_that_are_built_in_have_no_errors() {
    let documents = palisade_demo::yaml::INIT.into_iter().chain(palisade_demo::yaml::FINTECH);
    let files: Vec<_> = documents
        .chain([palisade_demo::yaml::EDGE_USERS, palisade_demo::yaml::NOTIFICATIONS_READ_LEDGER])
        .map(|(name, text)| palisade_policy::document::SourceFile { name: name.into(), text: text.into() })
        .collect();
    let (objects, findings) = palisade_policy::document::parse(&files);
    assert!(findings.is_empty(), "{findings}");
    let (set, warnings) = palisade_policy::PolicySet::new(objects, &[]).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    let report = palisade_policy::lint::lint(set.objects(), std::time::SystemTime::now());
    assert!(report.findings.is_empty() && report.ignored.is_empty(), "{}", report.findings);
}
