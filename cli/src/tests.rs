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
