//! One local AWS for all tests, and for each test an account with podgrant in it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use jsonschema::Validator;
use podgrant_tests::local_aws::{Account, Deployment, FUNCTIONS, LocalAws, root};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};

/// Never dropped, as statics are not: it ends because its standard input does, with this process.
static AWS: OnceCell<LocalAws> = OnceCell::const_new();

/// A deployment keeps two cores busy.
static DEPLOYING: Semaphore = Semaphore::const_new(2);

/// The schemas that outcome events promise to fit, by detail-type.
static SCHEMAS: LazyLock<Result<BTreeMap<String, Validator>>> = LazyLock::new(|| {
    let mut schemas = BTreeMap::new();
    for file in std::fs::read_dir(root().join("events/schemas"))? {
        let schema: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
        let title = schema["title"].as_str().context("a schema without title")?.to_owned();
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|error| anyhow!("{title}: {error}"))?;
        schemas.insert(title, validator);
    }
    Ok(schemas)
});

/// Deploys podgrant into a new account, plays, and then expects what is true
/// of every story: all work ends, no message is left over, every event that
/// podgrant sent fits its schema.
pub async fn play(
    parameters: &[(&str, &str)],
    story: impl AsyncFnOnce(&Deployment) -> Result<()>,
) -> Result<()> {
    let podgrant = deploy(parameters).await?;
    let played = match story(&podgrant).await {
        Ok(()) => at_the_end(&podgrant).await,
        Err(error) => Err(error),
    };
    let Err(error) = played else { return Ok(()) };
    let mut told = String::new();
    for function in FUNCTIONS {
        let lines = podgrant.log_lines(function).await.unwrap_or_default();
        told.push_str(&format!("\n{function} logged:\n{}\n", lines.join("\n")));
    }
    Err(error.context(told))
}

async fn deploy(parameters: &[(&str, &str)]) -> Result<Deployment> {
    static ACCOUNTS: AtomicU64 = AtomicU64::new(100_000_000_001);
    let aws = AWS.get_or_try_init(LocalAws::start).await?;
    let id = ACCOUNTS.fetch_add(1, Ordering::Relaxed).to_string();
    let account = aws.account(&id).await;
    let _permit = DEPLOYING.acquire().await?;
    Deployment::new(account, parameters).await
}

async fn at_the_end(podgrant: &Deployment) -> Result<()> {
    podgrant.settled().await?;
    let schemas = SCHEMAS.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    for event in podgrant.outcomes().await? {
        let title = event["detail-type"].as_str().unwrap_or_default();
        let schema = schemas.get(title).with_context(|| format!("no schema for {event}"))?;
        let problems: Vec<String> = schema
            .iter_errors(&event["detail"])
            .map(|problem| format!("{}: {problem}", problem.instance_path()))
            .collect();
        ensure!(problems.is_empty(), "{title} does not fit its schema: {problems:?}: {event:#}");
    }
    for function in FUNCTIONS {
        let dead = podgrant.receive(podgrant.queue(function, true)?).await?;
        ensure!(dead.is_empty(), "dead letters of {function}: {dead:#?}");
    }
    Ok(())
}

/// Compares, and says both when they differ.
pub fn same<T: Debug + PartialEq<U>, U: Debug>(what: &str, seen: T, expected: U) -> Result<()> {
    ensure!(seen == expected, "{what}\n    seen: {seen:?}\nexpected: {expected:?}");
    Ok(())
}

/// `namespace/account` of each detail, sorted.
pub fn workloads(details: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen: Vec<String> = details
        .iter()
        .map(|detail| format!("{}/{}", text(&detail["namespace"]), text(&detail["serviceAccount"])))
        .collect();
    seen.sort();
    seen
}

/// A role's unique id.
pub async fn role_id(account: &Account, name: &str) -> Result<String> {
    let answer = account.iam().get_role().role_name(name).send().await?;
    Ok(answer.role.context("no role in the answer")?.role_id)
}

/// The EventBridge event of a TagRole call, as CloudTrail sends it.
pub fn role_tagged(account: &Account, event_id: &str, role: &str) -> Value {
    json!({
        "version": "0",
        "id": event_id,
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam",
        "account": account.id,
        "time": "2026-01-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventSource": "iam.amazonaws.com",
            "eventName": "TagRole",
            "awsRegion": "us-east-1",
            "userIdentity": {"type": "Root", "arn": format!("arn:aws:iam::{}:root", account.id)},
            "requestParameters": {
                "roleName": role,
                "tags": [{"key": "podgrant/grant", "value": "what/ever@it-was"}],
            },
            "recipientAccountId": account.id,
        },
    })
}

/// The calls that podgrant's functions made, each as its own role, as
/// `service:Operation`, oldest first.
pub fn functions_calls(account: &Account) -> Result<Vec<(String, Value)>> {
    let calls = account.calls()?.into_iter().filter_map(|call| {
        call["principal"].as_str()?.contains(":assumed-role/podgrant-").then(|| {
            let text = |name: &str| call[name].as_str().unwrap_or_default();
            (format!("{}:{}", text("service"), text("operation")), call.clone())
        })
    });
    Ok(calls.collect())
}

/// How often podgrant's functions made this call.
pub fn count_calls(account: &Account, wanted: &str) -> Result<usize> {
    Ok(functions_calls(account)?.iter().filter(|(call, _)| call == wanted).count())
}
