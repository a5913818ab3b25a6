//! podgrant deployed onto the local AWS, from the templates in infra/ and with
//! the commands that its users type.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Account, bin, root, wait_for};

/// podgrant's home in tests and demo.
pub const HOME: &str = "eu-west-1";

/// Where CloudTrail's events of IAM appear.
pub const IAM_REGION: &str = "us-east-1";

/// The functions, as their folders are named.
pub const FUNCTIONS: [&str; 3] = ["install-agent", "reconcile-associations", "clean-up-orphans"];

/// How long anything may take: far more than it does.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A deployed podgrant.
pub struct Deployment {
    pub account: Account,
    /// The home stack's outputs.
    outputs: BTreeMap<String, String>,
    /// The queue that hears every outcome event.
    outcomes_url: String,
    heard: std::sync::Mutex<Vec<Value>>,
}

impl Deployment {
    /// Deploys infra/template.yaml at home and infra/forward-events.yaml in every
    /// region that podgrant hears from, and subscribes to its outcome events.
    ///
    /// `parameters` are the template's, beside those that a local deployment needs.
    ///
    /// # Errors
    /// What the AWS command line said.
    pub async fn new(account: Account, parameters: &[(&str, &str)]) -> Result<Self> {
        let folder = root().join("target/local-aws");
        let packaged = folder.join(format!("packaged-{}.yaml", account.id));
        // Names of buckets are shared by all accounts.
        let bucket = format!("artifacts-{}", account.id);
        aws(
            &account,
            HOME,
            &[
                "s3api",
                "create-bucket",
                "--bucket",
                &bucket,
                "--create-bucket-configuration",
                "LocationConstraint=eu-west-1",
            ],
        )
        .await?;
        let template = root().join("infra/template.yaml");
        aws(
            &account,
            HOME,
            &[
                "cloudformation",
                "package",
                "--template-file",
                &template.to_string_lossy(),
                "--s3-bucket",
                &bucket,
                "--output-template-file",
                &packaged.to_string_lossy(),
            ],
        )
        .await?;
        let regions = parameters.iter().find(|(name, _)| *name == "Regions").map(|(_, regions)| *regions);
        let of_clusters = regions.map_or_else(|| format!("{HOME},{IAM_REGION}"), str::to_owned);
        let mut overrides = vec![
            format!("Regions={of_clusters}"),
            "Architecture=x86_64".to_owned(),
            "RetryDelay=1".to_owned(),
        ];
        // Stacks in a stack take the command line's waiter half a minute.
        if !parameters.iter().any(|(name, _)| *name == "Watch") {
            overrides.push("Watch=off".to_owned());
        }
        let others = parameters.iter().filter(|(name, _)| *name != "Regions");
        overrides.extend(others.map(|(name, value)| format!("{name}={value}")));
        let mut deploy =
            vec!["cloudformation", "deploy", "--stack-name", "podgrant", "--capabilities", "CAPABILITY_IAM"];
        deploy.push("CAPABILITY_AUTO_EXPAND");
        let packaged_text = packaged.to_string_lossy().into_owned();
        deploy.extend(["--template-file", &packaged_text, "--parameter-overrides"]);
        deploy.extend(overrides.iter().map(String::as_str));
        aws(&account, HOME, &deploy).await?;
        let _ = std::fs::remove_file(&packaged);

        let described =
            aws(&account, HOME, &["cloudformation", "describe-stacks", "--stack-name", "podgrant"]).await?;
        let described: Value = serde_json::from_str(&described)?;
        let outputs: BTreeMap<String, String> = described["Stacks"][0]["Outputs"]
            .as_array()
            .context("the stack has no outputs")?
            .iter()
            .filter_map(|o| {
                Some((o["OutputKey"].as_str()?.to_owned(), o["OutputValue"].as_str()?.to_owned()))
            })
            .collect();

        let forward = root().join("infra/forward-events.yaml");
        let bus = format!("HomeBusArn={}", outputs.get("BusArn").context("no output BusArn")?);
        let listened_to: BTreeSet<&str> = of_clusters.split(',').chain([HOME, IAM_REGION]).collect();
        for region in listened_to {
            aws(
                &account,
                region,
                &[
                    "cloudformation",
                    "deploy",
                    "--stack-name",
                    "podgrant-forward",
                    "--capabilities",
                    "CAPABILITY_IAM",
                    "--template-file",
                    &forward.to_string_lossy(),
                    "--parameter-overrides",
                    &bus,
                ],
            )
            .await?;
        }
        let outcomes_url = account.hear("podgrant", "outcomes", &json!({"source": ["podgrant"]})).await?;
        Ok(Self { account, outputs, outcomes_url, heard: std::sync::Mutex::default() })
    }

    /// An output of the home stack.
    pub fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }

    /// Every outcome event heard so far.
    pub async fn outcomes(&self) -> Result<Vec<Value>> {
        loop {
            let received = self.receive(&self.outcomes_url).await?;
            if received.is_empty() {
                break;
            }
            for body in received {
                let event: Value = serde_json::from_str(&body)?;
                self.heard.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(event);
            }
        }
        Ok(self.heard.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.clone())
    }

    /// The details of the outcome events of one kind, heard so far.
    pub async fn told(&self, detail_type: &str) -> Result<Vec<Value>> {
        let events = self.outcomes().await?;
        Ok(events
            .into_iter()
            .filter(|e| e["detail-type"] == detail_type)
            .map(|mut e| e["detail"].take())
            .collect())
    }

    /// Waits for an outcome event whose detail satisfies the condition.
    pub async fn outcome(&self, detail_type: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let fitting = |event: &Value| event["detail-type"] == detail_type && fits(&event["detail"]);
        let found = wait_for(&format!("the event {detail_type}"), LIMIT, || async {
            Ok(self.outcomes().await?.into_iter().find(fitting))
        })
        .await;
        if found.is_err() {
            let heard = self.heard.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
            return found.with_context(|| format!("heard only {:#}", json!(*heard)));
        }
        found
    }

    /// Waits until a cluster's associations are just these (`namespace/account = role`).
    pub async fn expect_associations(&self, region: &str, cluster: &str, expected: &[&str]) -> Result<()> {
        let last = std::sync::Mutex::new(Vec::new());
        wait_for(&format!("{cluster} to have {expected:?}"), LIMIT, || async {
            let seen: Vec<String> =
                self.account.associations(region, cluster).await?.iter().map(|a| a.line()).collect();
            let as_expected = seen == expected;
            *last.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = seen;
            Ok(as_expected.then_some(()))
        })
        .await
        .with_context(|| format!("at last it had {:?}", last.lock().map(|l| l.clone()).unwrap_or_default()))
    }

    /// Invokes a function with one event, as a person would with the AWS command line.
    pub fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let output = match function {
            "install-agent" => "InstallAgentFunctionName",
            "reconcile-associations" => "ReconcileAssociationsFunctionName",
            "clean-up-orphans" => "CleanUpOrphansFunctionName",
            other => bail!("there is no function {other}"),
        };
        let url =
            format!("{}/2015-03-31/functions/{}/invocations", self.account.endpoint(), self.output(output)?);
        // The emulator reads account and region off the signature, and does not check it.
        let signature = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{HOME}/lambda/aws4_request, SignedHeaders=host, Signature=0",
            self.account.id
        );
        let mut answer = ureq::post(&url).header("authorization", &signature).send_json(event)?;
        Ok(answer.body_mut().read_json()?)
    }

    /// The URL of a function's queue, or of its dead letters.
    pub fn queue(&self, function: &str, dead: bool) -> Result<&str> {
        let name = match function {
            "install-agent" => "InstallAgent",
            "reconcile-associations" => "ReconcileAssociations",
            "clean-up-orphans" => "CleanUpOrphans",
            other => bail!("there is no function {other}"),
        };
        self.output(&format!("{name}{}", if dead { "DeadLettersUrl" } else { "QueueUrl" }))
    }
}

/// The AWS command line, kept to the local AWS.
pub(super) async fn aws(account: &Account, region: &str, arguments: &[&str]) -> Result<String> {
    let endpoint = account.endpoint();
    let output = Command::new(bin("aws")?)
        // Both: `cloudformation package` takes the variable for its upload to S3, others only the option.
        .args(["--endpoint-url", endpoint])
        .args(arguments)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_DEFAULT_REGION", region)
        .env("AWS_ACCESS_KEY_ID", &account.id)
        .env("AWS_SECRET_ACCESS_KEY", "no-secret")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_PAGER", "")
        .output()
        .await
        .context("starting aws")?;
    if !output.status.success() {
        bail!(
            "aws {} ended with {}: {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
