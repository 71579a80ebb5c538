use std::path::PathBuf;

use palisade_policy::posture;

use crate::exit::{Failure, Outcome};
use crate::files;
use crate::output::posture::{render, summary};
use crate::output::{Format, print, print_json, terminal};
use crate::policies;

/// Show what every route of an edge asks for, and who is let in behind it. Holes stand out.
///
/// Needs no control plane, and knows only what it is given: name all documents of the mesh at once. A hole is a finding of
/// `palisade lint`, with the same code.
#[derive(Debug, clap::Args)]
#[command(name = "posture")]
pub(crate) struct PostureOf {
    /// Files, directories (every .yaml and .yml in them) or `-` for stdin.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// text: a table; json: the same as data.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "text")]
    output: Format,
    /// Exit with 2 when there is a hole that no annotation accepts.
    #[arg(long, env = "PALISADE_CHECK")]
    check: bool,
    /// Columns of the table, 40 to 500; as wide as the terminal unless given. Below 100 it is a list.
    #[arg(long, env = "PALISADE_WIDTH", value_parser = clap::value_parser!(u16).range(40..=500))]
    width: Option<u16>,
}

impl PostureOf {
    pub(crate) fn run(self) -> Outcome {
        let files = files::read(&self.paths).map_err(Failure::input)?;
        let set = policies::accepted(&files)?;
        let posture = posture::posture(set.objects());
        match self.output {
            Format::Json => print_json(&posture)?,
            Format::Text => {
                let width = self.width.unwrap_or_else(terminal::width);
                let table = render(&posture, usize::from(width), terminal::has_colours());
                let gap = if table.is_empty() { "" } else { "\n\n" };
                print(&format!("{table}{gap}{}", summary(&posture)))?;
            }
        }
        match self.check && posture.open_holes() > 0 {
            true => Err(Failure::input_reported()),
            false => Ok(()),
        }
    }
}
