//! What stdout is: how wide, and whether it shows colours.

use std::io::IsTerminal as _;

/// Where there is no terminal to ask: what fits most logs of CI.
const WIDTH_DEFAULT: u16 = 120;

/// Columns of stdout: of the terminal, else `COLUMNS`, else 120.
pub(crate) fn width() -> u16 {
    let stdout = std::io::stdout();
    let terminal = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| size.ws_col);
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.filter(|columns| *columns > 0).or_else(told).unwrap_or(WIDTH_DEFAULT)
}

/// Colours are for terminals, and for those who did not ask for none (no-color.org).
pub(crate) fn has_colours() -> bool {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && unset("NO_COLOR") && !dumb
}
