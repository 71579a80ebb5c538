use std::path::{Path, PathBuf};

use anyhow::Context as _;
use palisade_policy::schema::{Subject, of, of_all, together};
use serde_json::Value;

use crate::exit::Outcome;
use crate::output::{print, print_json};

/// The file of the schema that is for every kind.
const ALL: &str = "palisade.json";

/// Print a JSON Schema of policy documents, for editors and other tools.
///
/// Without KIND it is for every document, told apart by its kind. A schema knows the form of documents; what they mean, `palisade lint`
/// checks.
#[derive(Debug, clap::Args)]
pub(crate) struct SchemaOf {
    /// AuthorizationPolicy and the like, in any case.
    #[arg(value_parser = parse)]
    kind: Option<Subject>,
    /// Write files to this directory instead, made if it is not there: KIND.json for each kind, and palisade.json for every document.
    #[arg(long, env = "PALISADE_OUT", value_name = "DIR")]
    out: Option<PathBuf>,
}

fn parse(text: &str) -> Result<Subject, String> {
    Subject::all().find(|subject| subject.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known: Vec<&str> = Subject::all().map(Subject::name).collect();
        format!("no kind of this name; there are {}", known.join(", "))
    })
}

impl SchemaOf {
    pub(crate) fn run(self) -> Outcome {
        let Some(folder) = self.out else {
            print_json(&self.kind.map_or_else(of_all, of))?;
            return Ok(());
        };
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make directory {}", folder.display()))?;
        let wanted = Subject::all().filter(|subject| self.kind.is_none_or(|kind| kind == *subject));
        let schemas: Vec<(Subject, Value)> = wanted.map(|subject| (subject, of(subject))).collect();
        for (subject, schema) in &schemas {
            write(&folder.join(format!("{}.json", subject.name())), schema)?;
        }
        if self.kind.is_none() {
            write(&folder.join(ALL), &together(schemas))?;
        }
        Ok(())
    }
}

/// What an older version wrote is written over: that is how schemas are brought up to date.
fn write(path: &Path, schema: &Value) -> anyhow::Result<()> {
    std::fs::write(path, format!("{schema:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    print(&format!("wrote {}", path.display()))?;
    Ok(())
}
