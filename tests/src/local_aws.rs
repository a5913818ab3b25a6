//! ministack, started by `tests/local-aws/local_aws.py` on a free loopback port,
//! and podgrant deployed onto it from `infra/`.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

mod account;
mod deployment;

pub use account::{Account, PODS_TRUST};
pub use deployment::{Deployment, FUNCTIONS, HOME, IAM_REGION};

/// A running local AWS. It ends when dropped, or when this process does.
pub struct LocalAws {
    process: Child,
    endpoint: String,
    folder: PathBuf,
}

impl LocalAws {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// What was not installed, or did not start, and where its log is.
    pub async fn start() -> Result<Self> {
        let port = free_port()?;
        let folder = root().join("target/local-aws").join(format!("run-{port}"));
        std::fs::create_dir_all(&folder)?;
        let python = bin("python")?;
        let log = File::create(folder.join("log.txt"))?;
        let process = Command::new(&python)
            .arg("-B")
            .arg(root().join("tests/local-aws/local_aws.py"))
            .env("GATEWAY_PORT", port.to_string())
            .env("TMPDIR", &folder)
            .env("PODGRANT_EXIT_WITH_STDIN", "1")
            // It ends when this pipe does: even if this process is killed.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", python.display()))?;
        let mut aws = Self { process, endpoint: format!("http://127.0.0.1:{port}"), folder };
        let ready = format!("{}/_ministack/ready", aws.endpoint);
        let waited = wait_for("the local AWS to be ready", Duration::from_secs(60), || {
            let ended = aws.process.try_wait().ok().flatten();
            let answer = ureq::get(&ready).call().is_ok();
            async move {
                match ended {
                    Some(status) => bail!("the local AWS ended with {status}"),
                    None => Ok(answer.then_some(())),
                }
            }
        })
        .await;
        waited.with_context(|| format!("its log is {}", aws.log().display()))?;
        Ok(aws)
    }

    /// `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }

    /// An account of twelve digits. Accounts share nothing.
    pub async fn account(&self, id: &str) -> Account {
        Account::new(self.endpoint.clone(), id).await
    }

    /// One of the launcher's control requests; tests/local-aws/README.md lists them.
    ///
    /// # Errors
    /// When the launcher refuses it.
    pub fn control(&self, what: &str, body: &Value) -> Result<()> {
        control(&self.endpoint, what, body)
    }

    /// The calls made in an account so far, oldest first.
    ///
    /// # Errors
    /// When the launcher does not answer.
    pub fn calls(&self, account: &str) -> Result<Vec<Value>> {
        let url = format!("{}/_podgrant/calls?account={account}", self.endpoint);
        let mut answer: Value = ureq::get(&url).call()?.body_mut().read_json()?;
        match answer["calls"].take() {
            Value::Array(calls) => Ok(calls),
            other => bail!("{url} answered {other}"),
        }
    }

    /// Waits for the process to end, as by Ctrl-C: for `demo --keep`.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub fn stop(&mut self) -> Result<()> {
        // Closing its input is the launcher's sign to end, functions included.
        drop(self.process.stdin.take());
        for _ in 0..100 {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        let _ = self.stop();
        // The log of a failed test is worth keeping; the emulator's own files never are.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn control(endpoint: &str, what: &str, body: &Value) -> Result<()> {
    ureq::post(&format!("{endpoint}/_podgrant/{what}"))
        .send_json(body)
        .with_context(|| format!("/_podgrant/{what} with {body}"))?;
    Ok(())
}

/// The repository.
pub fn root() -> PathBuf {
    std::env::var_os("PODGRANT_ROOT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from)
}

/// A program of the virtual environment that `cargo xtask` installs.
fn bin(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("PODGRANT_LOCAL_AWS_BIN")
        .map_or_else(|| root().join("target/local-aws/venv/bin"), PathBuf::from);
    let program = folder.join(name);
    if !program.exists() {
        bail!("{} is not installed: run cargo xtask test, which installs it", program.display());
    }
    Ok(program)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Asks until there is an answer, ten times a second, and no longer than `limit`.
///
/// # Errors
/// The time is up, or the question itself failed.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let steps = limit.as_millis() / 100;
    for _ in 0..=steps {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        #[expect(clippy::disallowed_methods, reason = "a condition, asked again, with a limit")]
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("waited {} s for {what}", limit.as_secs())
}

/// Tags as AWS's APIs take them.
pub type Tags<'a> = &'a [(&'a str, &'a str)];

fn tag_map(tags: Tags<'_>) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
