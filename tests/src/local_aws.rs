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
mod queues;

pub use account::{Account, PODS_TRUST};
pub use deployment::{Deployment, FUNCTIONS, HOME, IAM_REGION, LIMIT};

/// A running local AWS. It ends when dropped, or when this process does.
pub struct LocalAws {
    process: Child,
    endpoint: String,
    log: PathBuf,
}

impl LocalAws {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    /// What was not installed, or did not start, and where its log is.
    pub async fn start() -> Result<Self> {
        let port = free_port()?;
        let folder = root().join("target/local-aws");
        let python = bin("python")?;
        let log_path = folder.join(format!("{}.log", program()?));
        let log = File::create(&log_path)?;
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
        let mut aws = Self { process, endpoint: format!("http://127.0.0.1:{port}"), log: log_path };
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

    /// What the emulator said; the next run of the same program writes it anew.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An account of twelve digits. Accounts share nothing.
    pub async fn account(&self, id: &str) -> Account {
        Account::new(self.endpoint.clone(), id).await
    }

    /// Ends the process, and waits until it has.
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
pub(crate) fn bin(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("PODGRANT_LOCAL_AWS_BIN")
        .map_or_else(|| root().join("target/local-aws/venv/bin"), PathBuf::from);
    let program = folder.join(name);
    if !program.exists() {
        bail!("{} is not installed: run cargo xtask test, which installs it", program.display());
    }
    Ok(program)
}

/// The name of this program, without the hash that cargo gives to test binaries.
pub(crate) fn program() -> Result<String> {
    let path = std::env::current_exe()?;
    let name = path.file_stem().context("this program has no name")?.to_string_lossy();
    Ok(name.split('-').next().unwrap_or_default().to_owned())
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
