//! The contract in `patterns`, `samples` and `schemas`, held to the code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

mod deferral;
mod hostile;
mod matcher;
mod samples;
mod schemas;

/// podgrant's own role in the samples.
const OWN_ROLE: &str = "arn:aws:iam::111122223333:role/podgrant/podgrant-reconcile-associations";

fn own_roles() -> Vec<String> {
    vec![OWN_ROLE.to_owned()]
}

/// Every file below a folder of this crate: its path without `.json`, and its text.
fn files(folder: &str) -> BTreeMap<String, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = name.strip_suffix(".json").unwrap_or_else(|| panic!("{name} is not JSON"));
            found.insert(name.to_owned(), std::fs::read_to_string(&path).unwrap());
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    found
}

fn json_files(folder: &str) -> BTreeMap<String, Value> {
    let parse = |name: &str, text: &str| {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{folder}/{name}: {error}"))
    };
    files(folder).into_iter().map(|(name, text)| (name.clone(), parse(&name, &text))).collect()
}
