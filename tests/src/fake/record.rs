//! What each caller asked for, written down for whoever compares it with a policy.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex};

/// The variable that names the file.
const FILE: &str = "PODGRANT_CALLS_FILE";

/// Adds a line `<access key> <service> <operation>`, once for each, if a file is named.
pub(super) fn note(access_key: &str, service: &str, operation: &str) {
    static KNOWN: LazyLock<Mutex<BTreeSet<String>>> = LazyLock::new(Mutex::default);
    let Some(path) = std::env::var_os(FILE) else { return };
    let line = format!("{access_key} {service} {operation}\n");
    let Ok(mut known) = KNOWN.lock() else { return };
    if known.insert(line.clone())
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        // Whoever reads the file finds it wanting.
        let _ = file.write_all(line.as_bytes());
    }
}
