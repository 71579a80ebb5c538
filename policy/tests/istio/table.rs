//! The form of the tables in `tests/data/istio/authz`. The end-to-end tests read them too.

#![allow(unreachable_pub, dead_code, reason = "a part of two test programs, each of which uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The tables below the folder of data, by name. The policies of each are beside it in YAML.
pub fn tables(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("authz")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|file| file.extension().is_some_and(|ending| ending == "json")).collect();
    files.sort();
    files
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The tests that the cases are from.
    pub istio: String,
    pub cases: Vec<Row>,
}

/// One line of a table: as many cases as its lists multiply to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub from: Items,
    #[serde(default)]
    pub to: Items,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub port: Items,
    #[serde(default)]
    pub method: Items,
    #[serde(default)]
    pub path: Items,
    #[serde(default)]
    pub host: Items,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub source: Items,
    #[serde(default)]
    pub remote: Items,
    #[serde(default)]
    pub sni: Items,
    #[serde(default)]
    pub token: Items,
    pub allow: bool,
}

/// One text or several; none says nothing.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub enum Items {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Items {
    pub fn each(&self) -> Vec<Option<&str>> {
        match self {
            Self::None => vec![None],
            Self::One(text) => vec![Some(text)],
            Self::Several(texts) => texts.iter().map(|text| Some(text.as_str())).collect(),
        }
    }
}

/// The fields of a row that multiply, in this order.
pub type Case<'r> = [Option<&'r str>; 10];

impl Row {
    pub fn cases(&self) -> Vec<Case<'_>> {
        let fields = [
            &self.from,
            &self.to,
            &self.port,
            &self.method,
            &self.path,
            &self.host,
            &self.source,
            &self.remote,
            &self.sni,
            &self.token,
        ];
        let mut cases: Vec<Case<'_>> = vec![[None; 10]];
        for (at, field) in fields.into_iter().enumerate() {
            let mut more = Vec::new();
            for item in field.each() {
                more.extend(cases.iter().map(|case| {
                    let mut case = *case;
                    case[at] = item;
                    case
                }));
            }
            cases = more;
        }
        cases
    }
}

pub struct Port<'p> {
    pub protocol: &'p str,
    pub number: u16,
}

pub fn port(text: Option<&str>) -> Port<'_> {
    let (protocol, number) = match text {
        None | Some("http") => ("http", 18080),
        Some("http2") => ("http2", 18085),
        Some("grpc") => ("grpc", 17070),
        Some("tcp") => ("tcp", 19090),
        Some(other) => {
            let (protocol, number) = other.split_once(':').unwrap();
            (protocol, number.parse().unwrap())
        }
    };
    Port { protocol, number }
}
