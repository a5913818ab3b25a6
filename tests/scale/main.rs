//! podgrant at scale: fleets of any size, AWS's limits, Lambda's deadlines, on a clock that does not wait.

mod lambda;
mod naive;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use podgrant_runtime::Function;
use podgrant_tests::fake::{FakeAws, Fault, RateLimit};
use podgrant_tests::fleet::{self, Size};
use serde::Serialize;
use serde_json::{Value, json};

use lambda::{Account, Run};

/// Sweeps and events over simulated fleets, with AWS's limits and Lambda's, in virtual time.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only fleets of up to this share of the whole: 5,000 roles, each on all of 100 clusters.
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// EKS calls a second in each region, and as many again at once after a rest. AWS publishes no figure.
    #[arg(long, default_value_t = 10.0)]
    eks: f64,
    /// IAM calls a second. AWS publishes no figure.
    #[arg(long, default_value_t = 15.0)]
    iam: f64,
    /// Calls of the tag index a second in each region (AWS General Reference, "Resource Groups Tagging API quotas").
    #[arg(long, default_value_t = 15.0)]
    tagging: f64,
    /// How long each call takes, in milliseconds.
    #[arg(long, default_value_t = 40)]
    latency: u64,
    /// Only the scenarios whose names hold this.
    #[arg(long)]
    only: Option<String>,
    /// Where to write the figures as JSON, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to draw growth, as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    scenario: String,
    roles: usize,
    clusters: usize,
    associations: usize,
    regions: usize,
    /// Calls that were not throttled, by service and operation.
    calls: BTreeMap<String, usize>,
    total: usize,
    throttled: usize,
    virtual_seconds: u64,
    invocations: usize,
    environments: usize,
    longest_invocation: u64,
    messages: usize,
    continued: usize,
    cut_off: usize,
    dead_letters: usize,
    /// Associations at the end, less those that there should be.
    missing: i64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let all = simulated(&arguments)?;
    print!("{}", table::of(&all));
    if let Some(path) = &arguments.json {
        let text = format!("{}\n", serde_json::to_string_pretty(&all)?);
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.plot {
        table::plot(&all, path)?;
    }
    Ok(())
}

fn simulated(arguments: &Arguments) -> Result<Vec<Figures>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(all(arguments))
}

async fn all(arguments: &Arguments) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    let whole = Size::part(arguments.share);
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let quiet = ("PODGRANT_DRIFT_ROUNDS", "0");

    for part in [0.01, 0.04, 0.16, 0.36, 0.64, 1.0] {
        let size = Size::part(part * arguments.share);
        if wanted("event") {
            let aws = world(arguments, size, true);
            aws.add_role(
                podgrant_tests::fake::Role::named("new-service")
                    .trusting_pods()
                    .tag("podgrant/grant", "new/service@cluster-000"),
            );
            let account = Account::new(aws, Function::ReconcileAssociations, &fleet::regions(size), &[])?;
            all.push(run("event", size, &account, &role_tagged("new-service"), 1).await?);
        }
        if wanted("sweep, nothing to do") {
            let account = account(arguments, size, &[quiet])?;
            all.push(run("sweep, nothing to do", size, &account, &sweep(), 0).await?);
        }
    }
    let one = Size { regions: 1, ..whole };
    if wanted("sweep, one region") {
        let account = account(arguments, one, &[quiet])?;
        all.push(run("sweep, one region", one, &account, &sweep(), 0).await?);
    }
    if wanted("sweep, with drift share") {
        let account = account(arguments, whole, &[])?;
        all.push(run("sweep, with drift share", whole, &account, &sweep(), 0).await?);
    }
    if wanted("sweep, 1 % lost") {
        let account = account(arguments, whole, &[quiet])?;
        fleet::lose(&account.aws, whole, 100);
        all.push(run("sweep, 1 % lost", whole, &account, &sweep(), 0).await?);
    }
    if wanted("sweep, 1 % lost, a function dies") {
        let mut account = account(arguments, whole, &[quiet])?;
        fleet::lose(&account.aws, whole, 100);
        account.dies = Some((3, Duration::from_secs(40)));
        all.push(run("sweep, 1 % lost, a function dies", whole, &account, &sweep(), 0).await?);
    }
    if wanted("sweep, a cluster throttles") {
        let account = account(arguments, whole, &[quiet])?;
        account
            .aws
            .fault(Fault::on("eks", podgrant_tests::fake::ANY).with("clusterName", "cluster-001").throttle());
        all.push(run("sweep, a cluster throttles", whole, &account, &sweep(), 0).await?);
    }
    for (name, function) in [
        ("clean-up, nothing to do", Function::CleanUpOrphans),
        ("agents, nothing to do", Function::InstallAgent),
    ] {
        if wanted(name) {
            let aws = world(arguments, whole, true);
            fleet::install_agents(&aws, whole);
            let account = Account::new(aws, function, &fleet::regions(whole), &[])?;
            all.push(run(name, whole, &account, &sweep(), 0).await?);
        }
    }
    let tenth = Size::part(0.1 * arguments.share);
    if wanted("first creation") {
        let account = Account::new(
            world(arguments, tenth, false),
            Function::ReconcileAssociations,
            &fleet::regions(tenth),
            &[quiet],
        )?;
        all.push(run("first creation", tenth, &account, &sweep(), 0).await?);
    }
    if wanted("naive sweep") {
        let aws = world(arguments, tenth, true);
        aws.clear_calls();
        let seconds = naive::sweep(&aws, tenth).await?;
        all.push(figures("naive sweep", tenth, &aws, &Run { seconds, ..Run::default() }, 0));
    }
    Ok(all)
}

fn world(arguments: &Arguments, size: Size, granted: bool) -> FakeAws {
    let aws = FakeAws::unserved();
    aws.association_limit(usize::MAX);
    fleet::build(&aws, size);
    if granted {
        fleet::grant_everything(&aws, size);
    }
    aws.set_latency(Duration::from_millis(arguments.latency));
    for (service, per_second) in
        [("eks", arguments.eks), ("iam", arguments.iam), ("tagging", arguments.tagging)]
    {
        aws.limit_rate(service, RateLimit { per_second, burst: per_second });
    }
    aws
}

fn account(arguments: &Arguments, size: Size, variables: &[(&str, &str)]) -> Result<Account> {
    let aws = world(arguments, size, true);
    Account::new(aws, Function::ReconcileAssociations, &fleet::regions(size), variables)
}

async fn run(scenario: &str, size: Size, account: &Account, event: &Value, more: usize) -> Result<Figures> {
    eprintln!("{scenario}: {} roles on {} clusters …", size.roles, size.clusters);
    account.aws.clear_calls();
    let run = account.serve(event).await?;
    let figures = figures(scenario, size, &account.aws, &run, more);
    ensure!(figures.total > 0, "{scenario}: nothing was asked");
    ensure!(figures.missing == 0, "{scenario}: {} associations are missing", figures.missing);
    ensure!(figures.dead_letters == 0, "{scenario}: {} messages were lost", figures.dead_letters);
    Ok(figures)
}

fn figures(scenario: &str, size: Size, aws: &FakeAws, run: &Run, more: usize) -> Figures {
    let tally = aws.tally();
    let mut calls = BTreeMap::new();
    let mut throttled = 0;
    for ([service, operation, error], count) in tally {
        if error.contains("Throttl") {
            throttled += count;
        } else {
            *calls.entry(format!("{service}:{operation}")).or_default() += count;
        }
    }
    let should = size.associations() + more;
    Figures {
        scenario: scenario.to_owned(),
        roles: size.roles,
        clusters: size.clusters,
        associations: size.associations(),
        regions: size.regions,
        total: calls.values().sum(),
        calls,
        throttled,
        virtual_seconds: run.seconds,
        invocations: run.invocations,
        environments: run.environments,
        longest_invocation: run.longest,
        messages: run.messages,
        continued: run.rounds,
        cut_off: run.cut_off,
        dead_letters: run.dead_letters,
        missing: i64::try_from(should).unwrap_or(i64::MAX)
            - i64::try_from(fleet::count(aws, size)).unwrap_or(i64::MAX),
    }
}

fn sweep() -> Value {
    sample(include_str!("../../events/samples/sweep.json"))
}

fn role_tagged(name: &str) -> Value {
    let mut event = sample(include_str!("../../events/samples/role-tagged.json"));
    event["detail"]["requestParameters"] = json!({ "roleName": name });
    event
}

fn sample(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct SweepCalls {
        least: usize,
        most: usize,
    }

    /// A page of roles, a page of clusters in each region, each hundred associations listed and looked up in the tag
    /// index; the queue asked what it takes, and given a message for each cluster, at most ten at once.
    fn sweep_calls(of: &Figures) -> SweepCalls {
        let reads = of.roles.div_ceil(1_000) + of.regions + 2 * of.clusters * of.roles.div_ceil(100);
        SweepCalls { least: reads + 1 + of.clusters.div_ceil(10), most: reads + 1 + of.clusters }
    }

    /// A hundredth of the largest fleet: 500 roles on 10 clusters, in five regions. Whether anything is missing or lost
    /// at the end is asked of every run.
    #[test]
    fn a_sweep_costs_what_its_formula_says_and_an_event_the_same_in_any_fleet() {
        let all = simulated(&Arguments::parse_from(["scale", "--share", "0.01"])).unwrap();
        let of = |scenario: &str| {
            let found: Vec<&Figures> = all.iter().filter(|figures| figures.scenario == scenario).collect();
            assert!(!found.is_empty(), "{scenario}");
            found
        };
        let events: Vec<usize> = of("event").iter().map(|figures| figures.total).collect();
        assert!(events.iter().all(|calls| calls == &events[0]) && events[0] <= 16, "{events:?}");
        for figures in of("sweep, nothing to do").into_iter().chain(of("sweep, one region")) {
            let SweepCalls { least, most } = sweep_calls(figures);
            assert!((least..=most).contains(&figures.total), "{figures:?}: {least} to {most} by formula");
            assert!(figures.virtual_seconds < 60, "{figures:?}");
        }
        let quiet = of("sweep, nothing to do").last().unwrap().total;
        let drift = of("sweep, with drift share")[0];
        assert!(drift.total > quiet && drift.total < 5 * quiet, "{drift:?} beside {quiet}");
        // A page of roles, the clusters one by one, and each hundred associations; a region may end on an empty page.
        let clean_up = of("clean-up, nothing to do")[0];
        let least = 1 + clean_up.regions + clean_up.clusters + clean_up.associations.div_ceil(100);
        let most = least + clean_up.regions;
        assert!((least..=most).contains(&clean_up.total), "{clean_up:?}: {least} to {most} by formula");
        // Each cluster and its agent, and once a region which clusters and which versions there are.
        let agents = of("agents, nothing to do")[0];
        assert_eq!(agents.total, 2 * agents.clusters + 2 * agents.regions, "{agents:?}");
        for figures in &all {
            // Nothing lasts long enough for a death to meet it.
            assert_eq!(figures.cut_off, 0, "{figures:?}");
            assert!(figures.longest_invocation < 300, "{figures:?}");
        }
        let naive = of("naive sweep")[0];
        assert!(naive.total > naive.roles + naive.associations, "{naive:?}");
    }
}
