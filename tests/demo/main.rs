//! podgrant's whole job on a local AWS, told step by step and checked at the end.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use podgrant_tests::local_aws::{Account, Deployment, HOME, IAM_REGION, LocalAws, root};
use serde_json::{Value, json};

/// Plays podgrant's whole job on a local AWS.
#[derive(Parser)]
struct Arguments {
    /// Leave the local AWS running until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let told = runtime.block_on(async {
        tokio::select! {
            told = tell(arguments.keep) => told,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn tell(keep: bool) -> Result<()> {
    let began = now();
    println!("Starting a local AWS and deploying podgrant onto it, from infra/ …");
    let mut aws = LocalAws::start().await?;
    let account = aws.account("111122223333").await;
    let podgrant = Deployment::new(account.clone(), &[]).await?;
    println!(
        "Ready in {:.1} s: {}, account {}, podgrant's home is {HOME}, clusters in {HOME} and {IAM_REGION}.",
        began.elapsed().as_secs_f64(),
        aws.endpoint(),
        account.id
    );
    let played = Story { account, podgrant, step: 0, began: now(), grant_seconds: None }.play().await;
    if let Err(error) = &played {
        println!("\nNot as told. The log of the local AWS follows.\n");
        println!("{}", std::fs::read_to_string(aws.log()).unwrap_or_default());
        println!("error: {error:#}");
    }
    if keep {
        look_around(&aws);
        let _ = tokio::signal::ctrl_c().await;
        println!("\nStopping.");
    }
    aws.stop()?;
    played
}

fn look_around(aws: &LocalAws) {
    let bin = std::env::var("PODGRANT_LOCAL_AWS_BIN")
        .unwrap_or_else(|_| root().join("target/local-aws/venv/bin").display().to_string());
    println!(
        "
Left running until Ctrl-C. In another terminal:

  alias aws='{bin}/aws --endpoint-url {endpoint}'
  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION={HOME}
  export AWS_ACCESS_KEY_ID=111122223333 AWS_SECRET_ACCESS_KEY=no-secret AWS_PAGER=

  aws eks list-clusters
  aws eks list-pod-identity-associations --cluster-name prod-eu
  aws iam tag-role --role-name payments-api --tags Key=podgrant/grant/mine,Value=my-namespace/my-account@prod-eu
  aws eks list-pod-identity-associations --cluster-name prod-eu --namespace my-namespace
  aws logs tail /podgrant/podgrant/reconcile-associations --since 5m",
        endpoint = aws.endpoint()
    );
}

struct Story {
    account: Account,
    podgrant: Deployment,
    step: u32,
    began: Instant,
    grant_seconds: Option<f64>,
}

impl Story {
    async fn play(mut self) -> Result<()> {
        let account = self.account.clone();
        // As on AWS, only quicker: a cluster takes its time to be made.
        account.settings(json!({"clusterCreatingSeconds": 3, "addonCreatingSeconds": 2}))?;

        self.title("A role waits for a cluster that does not exist yet");
        self.aws("CreateRole payments-api, tagged podgrant/grant = payments/api@prod-eu");
        account.create_role("payments-api", &[("podgrant/grant", "payments/api@prod-eu")]).await?;

        self.title("The cluster is created");
        self.aws("CreateCluster prod-eu in eu-west-1, tagged env = prod: CREATING");
        account.create_cluster(HOME, "prod-eu", &[("env", "prod")]).await?;
        self.event(
            "Cluster Ready",
            |d| d["cluster"]["name"] == "prod-eu",
            |_| "announced prod-eu as ready for grants".into(),
        )
        .await?;
        self.event("Access Granted", |d| d["namespace"] == "payments", granted).await?;
        self.event(
            "Agent Installed",
            |d| d["cluster"]["name"] == "prod-eu",
            |d| format!("agent {} is installed and healthy", text(&d["version"])),
        )
        .await?;

        self.title("A role is tagged, and its pods get access");
        account.create_role("reports", &[]).await?;
        self.aws("TagRole reports podgrant/grant = reports/nightly@env=prod (every cluster with that tag)");
        let tagged = now();
        account.tag_role("reports", "podgrant/grant", "reports/nightly@env=prod").await?;
        self.podgrant
            .expect_associations(
                HOME,
                "prod-eu",
                &["payments/api = payments-api", "reports/nightly = reports"],
            )
            .await?;
        self.grant_seconds = Some(tagged.elapsed().as_secs_f64());
        self.event("Access Granted", |d| d["namespace"] == "reports", granted).await?;

        self.title("A second cluster, in another region, gets the grants that mean it too");
        self.aws("CreateCluster prod-us in us-east-1, tagged env = prod: CREATING");
        account.create_cluster(IAM_REGION, "prod-us", &[("env", "prod")]).await?;
        self.event(
            "Cluster Ready",
            |d| d["cluster"]["name"] == "prod-us",
            |_| "announced prod-us as ready for grants".into(),
        )
        .await?;
        self.event("Access Granted", |d| d["cluster"]["name"] == "prod-us", granted).await?;
        self.event(
            "Agent Installed",
            |d| d["cluster"]["name"] == "prod-us",
            |d| format!("agent {} is installed and healthy", text(&d["version"])),
        )
        .await?;

        self.title("Two subjects on a role, one of them mistyped");
        self.aws("CreateRole batch, tagged podgrant/grant = \"batch/worker@prod-eu batch/Worker2@prod-eu\"");
        account
            .create_role("batch", &[("podgrant/grant", "batch/worker@prod-eu batch/Worker2@prod-eu")])
            .await?;
        self.event("Access Granted", |d| d["namespace"] == "batch", granted).await?;
        self.event("Grant Refused", |d| d["kind"] == "bad-tag", refused).await?;

        self.title("A role that pods may not assume: a grant needs two hands");
        self.aws("CreateRole closed, trusting only EC2, tagged podgrant/grant = closed/door@prod-eu");
        let ec2 = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        account.create_role_trusting("closed", ec2, &[("podgrant/grant", "closed/door@prod-eu")]).await?;
        self.event("Grant Refused", |d| d["kind"] == "trust-policy", refused).await?;

        self.title("A person makes an association by hand; podgrant never touches it");
        account.create_role("by-hand", &[]).await?;
        self.aws("CreatePodIdentityAssociation tools/debug = by-hand, without podgrant's mark");
        let by_hand = account.associate(HOME, "prod-eu", ("tools", "debug"), "by-hand").await?;
        self.aws("CreateRole wants-it, tagged podgrant/grant = tools/debug@prod-eu");
        account.create_role("wants-it", &[("podgrant/grant", "tools/debug@prod-eu")]).await?;
        self.event("Grant Refused", |d| d["kind"] == "foreign-association", refused).await?;

        self.title("A grant moves to another service account");
        self.aws("TagRole payments-api podgrant/grant = payments/api-v2@prod-eu");
        account.tag_role("payments-api", "podgrant/grant", "payments/api-v2@prod-eu").await?;
        self.event("Access Granted", |d| d["serviceAccount"] == "api-v2", granted).await?;
        self.event("Access Revoked", |d| d["serviceAccount"] == "api", revoked).await?;

        self.title("A tag is taken away");
        self.aws("UntagRole batch podgrant/grant");
        account.untag_role("batch", "podgrant/grant").await?;
        self.event("Access Revoked", |d| d["namespace"] == "batch", revoked).await?;

        self.title("A role is deleted, and nothing may inherit its pods");
        self.aws("DeleteRole reports");
        account.delete_role("reports").await?;
        self.event("Orphan Removed", |d| d["cluster"]["name"] == "prod-eu", revoked).await?;
        self.event("Orphan Removed", |d| d["cluster"]["name"] == "prod-us", revoked).await?;

        self.title("A cluster is deleted, and a role with it has no cluster left");
        account.create_role("us-only", &[("podgrant/grant", "us/only@prod-us")]).await?;
        self.event("Access Granted", |d| d["namespace"] == "us", granted).await?;
        self.aws("DeleteCluster prod-us");
        account.delete_cluster(IAM_REGION, "prod-us").await?;
        self.event("Orphan Found", |d| text(&d["roleArn"]).ends_with("/us-only"), refused).await?;

        self.title("The sweep looks at everything once more, and finds nothing to do");
        self.sweep().await?;
        self.check(&by_hand).await
    }

    /// Wakes all three functions as the schedule does, and expects no changes.
    async fn sweep(&self) -> Result<()> {
        let event = json!({
            "version": "0", "id": "demo-sweep", "detail-type": "Scheduled Event", "source": "aws.events",
            "account": self.account.id, "time": "2026-01-01T00:00:00Z", "region": HOME, "resources": [], "detail": {}
        });
        for function in podgrant_tests::local_aws::FUNCTIONS {
            let report = self.podgrant.invoke(function, &event)?;
            ensure!(report["ending"] == "done", "{function}'s sweep did not end well: {report:#}");
            ensure!(report["changes"] == json!([]), "{function}'s sweep changed something: {report:#}");
            self.line(
                "podgrant",
                &format!(
                    "{function}: {} as they should be, {} findings, {} ms",
                    report["unchanged"],
                    report["findings"].as_array().map_or(0, Vec::len),
                    report["durationMs"]
                ),
            );
        }
        Ok(())
    }

    /// The final state, asked of AWS and not of podgrant.
    async fn check(&self, by_hand: &str) -> Result<()> {
        println!("\nChecking the final state through the AWS API");
        let expected = ["payments/api-v2 = payments-api", "tools/debug = by-hand"];
        self.podgrant.expect_associations(HOME, "prod-eu", &expected).await?;
        let seen = self.account.associations(HOME, "prod-eu").await?;
        for association in &seen {
            let ours = association.tags.contains_key("podgrant/managed");
            let whose = if ours { "podgrant's" } else { "made by hand" };
            println!("  prod-eu  {}  {}  ({whose})", association.id, association.line());
        }
        let manual =
            seen.iter().find(|a| a.line() == expected[1]).context("the association made by hand is gone")?;
        ensure!(
            manual.id == by_hand && manual.tags.is_empty(),
            "the association made by hand was changed: {manual:?}"
        );
        let (status, version) = self.account.agent(HOME, "prod-eu").await?.context("prod-eu has no agent")?;
        println!("  prod-eu  eks-pod-identity-agent {version}  {status}");
        ensure!(status == "ACTIVE", "the agent is {status}");
        for function in podgrant_tests::local_aws::FUNCTIONS {
            let dead = self.podgrant.queue(function, true)?;
            let waiting = self.account.sqs().receive_message().queue_url(dead).send().await?;
            ensure!(waiting.messages().is_empty(), "{function} has dead letters: {:?}", waiting.messages());
        }
        println!(
            "\nAll as told, in {:.0} s. From TagRole to the association: {:.2} s.",
            self.began.elapsed().as_secs_f64(),
            self.grant_seconds.unwrap_or_default()
        );
        Ok(())
    }

    /// Waits for an outcome event and tells it.
    async fn event(
        &self,
        detail_type: &str,
        fits: impl Fn(&Value) -> bool,
        tell: impl Fn(&Value) -> String,
    ) -> Result<()> {
        let event = self.podgrant.outcome(detail_type, fits).await?;
        self.line("podgrant", &tell(&event["detail"]));
        Ok(())
    }

    fn title(&mut self, title: &str) {
        self.step += 1;
        println!("\n{}. {title}", self.step);
    }

    fn aws(&self, what: &str) {
        self.line("aws", what);
    }

    fn line(&self, who: &str, what: &str) {
        println!("  {:>6.2} s  {who:<9} {what}", self.began.elapsed().as_secs_f64());
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn place(detail: &Value) -> String {
    format!(
        "{}/{} on {}: role {}",
        text(&detail["namespace"]),
        text(&detail["serviceAccount"]),
        text(&detail["cluster"]["name"]),
        text(&detail["roleArn"]).rsplit('/').next().unwrap_or_default()
    )
}

fn granted(detail: &Value) -> String {
    format!("granted  {}", place(detail))
}

fn revoked(detail: &Value) -> String {
    format!("revoked  {}  ({})", place(detail), text(&detail["reason"]).replace('-', " "))
}

fn refused(detail: &Value) -> String {
    let role = text(&detail["roleArn"]).rsplit('/').next().unwrap_or_default();
    format!("{}: role {role}: {}", text(&detail["kind"]).replace('-', " "), text(&detail["reason"]))
}

#[expect(clippy::disallowed_methods, reason = "the demo tells how long things take")]
fn now() -> Instant {
    Instant::now()
}
