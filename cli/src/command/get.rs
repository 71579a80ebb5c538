use std::time::Duration;

use palisade_policy::kind::Kind;
use palisade_proto::v1::{GetRequest, GetResponse, StoredObject};
use serde_json::json;

use super::kind;
use crate::admin;
use crate::exit::{Failure, Outcome};
use crate::output::{print, printable, table};

/// Show the documents in force.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Kind, for example AuthorizationPolicy [default: all].
    #[arg(value_name = "KIND", value_parser = kind::parse)]
    kind: Option<Kind>,
    #[arg(value_name = "[NAMESPACE/]NAME")]
    name: Option<String>,
    /// [default: all].
    #[arg(short, long, env = "PALISADE_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// As it was in this version of `palisade history` [default: in force].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// yaml: the documents as they were applied.
    #[arg(short, long, env = "PALISADE_OUTPUT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    admin: admin::Options,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Yaml,
    Json,
}

impl Get {
    pub(crate) fn run(self) -> Outcome {
        let (namespace, name) =
            kind::object(self.name.as_deref().unwrap_or_default(), self.namespace.as_deref())?;
        let request = GetRequest {
            kind: self.kind.map(Kind::name).unwrap_or_default().to_owned(),
            namespace: namespace.unwrap_or_default(),
            name,
            version: self.version.unwrap_or(0),
        };
        self.admin.with_client(Duration::ZERO, async |mut client| {
            let response = client.get(request).await.map_err(admin::refused)?.into_inner();
            if response.objects.is_empty() && self.name.is_some() {
                let kind = self.kind.map(Kind::name).unwrap_or_default();
                let name = self.name.as_deref().unwrap_or_default();
                let problem = anyhow::anyhow!("there is no {kind} {name}; `palisade get {kind}` lists them");
                return Err(Failure::from(problem));
            }
            print(&render(self.output, &response)?)?;
            Ok(())
        })
    }
}

fn render(format: Format, response: &GetResponse) -> serde_json::Result<String> {
    match format {
        Format::Table => Ok(table(
            ["KIND", "NAMESPACE", "NAME", "VERSION", "CHANGED BY", "CHANGED AT"],
            response.objects.iter().map(row),
        )),
        Format::Yaml => Ok(yaml(&response.objects)),
        Format::Json => serde_json::to_string_pretty(&json!({
            "version": response.version,
            "objects": response.objects.iter().map(object).collect::<Vec<_>>(),
        })),
    }
}

fn row(o: &StoredObject) -> [String; 6] {
    let version = o.version.to_string();
    [o.kind.clone(), o.namespace.clone(), o.name.clone(), version, o.changed_by.clone(), o.changed_at.clone()]
}

/// One file that `palisade apply` takes again.
fn yaml(objects: &[StoredObject]) -> String {
    let texts = objects.iter().map(|o| {
        let text = o.text.trim();
        printable(text.strip_prefix("---").map_or(text, str::trim_start))
    });
    texts.collect::<Vec<_>>().join("\n---\n")
}

fn object(o: &StoredObject) -> serde_json::Value {
    json!({
        "kind": o.kind,
        "namespace": o.namespace,
        "name": o.name,
        "version": o.version,
        "changed_by": o.changed_by,
        "changed_at": o.changed_at,
        "document": o.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> GetResponse {
        let object = |name: &str, text: &str| StoredObject {
            kind: "AuthorizationPolicy".into(),
            namespace: "fintech".into(),
            name: name.into(),
            text: text.into(),
            version: 3,
            changed_by: "spiffe://corp.example/operator/admin".into(),
            changed_at: "2026-11-23T22:00:00Z".into(),
        };
        GetResponse { objects: vec![object("a", "---\nkind: A\n"), object("b", "kind: B\n")], version: 4 }
    }

    #[test]
    fn prints_documents_as_one_file() {
        assert_eq!(render(Format::Yaml, &response()).unwrap(), "kind: A\n---\nkind: B");
    }

    #[test]
    fn prints_a_table_and_json() {
        let table = render(Format::Table, &response()).unwrap();
        assert!(table.starts_with("KIND                 NAMESPACE  NAME  VERSION"), "{table}");
        assert_eq!(table.lines().count(), 3);
        let json: serde_json::Value =
            serde_json::from_str(&render(Format::Json, &response()).unwrap()).unwrap();
        assert_eq!(json["objects"][1]["document"], "kind: B\n");
        assert_eq!(json["version"], 4);
    }
}
