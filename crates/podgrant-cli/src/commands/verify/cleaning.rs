//! `podgrant verify --clean`: what runs left that were ended before they could remove it.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_core::moment::rfc3339;
use podgrant_core::verify::{Object, Run, RunId, Thing, Trouble};
use podgrant_core::{Cluster, ClusterId, Namespace};
use serde::Serialize;

use super::may_begin;
use super::removal::{Removed, remove_next};
use super::trial::{Known, of_trouble};
use crate::arguments::{ClusterArgument, Consent};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::ui::{JSON_VERSION, Look};

#[derive(Serialize)]
struct Shape {
    version: u32,
    runs: Vec<RunShape>,
    /// Whether anything was to be removed, and nobody declined.
    cleaned: bool,
    removed: Vec<Removed>,
    /// What could not be looked at, and why.
    unread: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunShape {
    run: RunId,
    cluster: String,
    namespace: Namespace,
    began: String,
    /// Whether it is left alone, for it may be under way.
    young: bool,
    left: Vec<String>,
}

/// What was found.
#[derive(Default)]
struct Left {
    /// Things and their names, in the order in which they go.
    runs: BTreeMap<Run, BTreeSet<(std::cmp::Reverse<Thing>, String)>>,
    unread: Vec<String>,
    /// Clusters in which more may be left.
    unseen: BTreeSet<ClusterId>,
}

impl Left {
    fn add(&mut self, run: Run, thing: Thing, name: String) {
        self.runs.entry(run).or_default().insert((std::cmp::Reverse(thing), name));
    }
}

/// Shows what is left, asks, and removes it.
pub async fn clean(
    session: &mut Session<'_>,
    named: Option<&ClusterArgument>,
    consent: &Consent,
) -> Result<Exit, Problem> {
    may_begin(session, consent)?;
    let cluster = match named {
        Some(named) => Some(session.cluster(named).await?),
        None => None,
    };
    let left = find(session, cluster.as_ref()).await?;
    let now = session.now();
    let shape = |left: &Left, removed: Vec<Removed>, cleaned| Shape {
        version: JSON_VERSION,
        runs: left.runs.iter().map(|(run, things)| RunShape::of(run, things, now)).collect(),
        cleaned,
        removed,
        unread: left.unread.clone(),
    };
    left.show(session, now);
    let settled: Vec<(&Run, _)> = left.runs.iter().filter(|(run, _)| run.is_settled(now)).collect();
    let is_whole = left.unread.is_empty() && settled.len() == left.runs.len();
    let as_seen = if is_whole { Exit::Done } else { Exit::InPart };
    if settled.is_empty() {
        session.ui.json(&shape(&left, Vec::new(), false));
        return Ok(as_seen);
    }
    session.ui.show("");
    if !consent.yes && !session.ui.agrees("Remove these?") {
        session.ui.say("Nothing was removed.");
        session.ui.json(&shape(&left, Vec::new(), false));
        return Ok(Exit::Declined);
    }
    session.is_interrupted();
    let mut removed = Vec::new();
    for (run, things) in settled {
        removed.extend(left.remove(session, run, things).await);
    }
    removed.iter().for_each(|removed| removed.show(session));
    let is_clean = removed.iter().all(Removed::is_as_wanted);
    session.ui.json(&shape(&left, removed, true));
    Ok(if is_clean { as_seen } else { Exit::Failed })
}

impl Left {
    /// Removes what is left of a run; its role only where nothing else is left, or may be.
    async fn remove(
        &self,
        session: &mut Session<'_>,
        run: &Run,
        things: &BTreeSet<(std::cmp::Reverse<Thing>, String)>,
    ) -> Vec<Removed> {
        let mut all = Vec::new();
        for (std::cmp::Reverse(thing), name) in things {
            let removed = if session.is_interrupted() {
                Removed::unseen(*thing, name, run, "interrupted before it")
            } else if *thing == Thing::Role && self.unseen.contains(&run.cluster) {
                Removed::kept(name, run)
            } else {
                remove_next(session, run, (*thing, name, Known::Not), &all).await
            };
            all.push(removed);
        }
        all
    }

    fn show(&self, session: &mut Session<'_>, now: i64) {
        if self.runs.is_empty() && self.unread.is_empty() {
            session.ui.show("Nothing of verify's is left.");
        }
        for (run, things) in &self.runs {
            let (id, cluster, namespace) = (run.id, &run.cluster, &run.namespace);
            let began = rfc3339(id.began());
            let heading = format!("run {id} of {began} on {cluster}, namespace {namespace}");
            let heading = session.ui.look(Look::Bold, &heading);
            session.ui.show(&heading);
            for (std::cmp::Reverse(thing), name) in things {
                session.ui.show(&format!("  {thing:<15} {name}"));
            }
            if !run.is_settled(now) {
                session.ui.show("  it may be under way, and is left alone; run this again in half an hour");
            }
        }
        for why in &self.unread {
            session.ui.show(&format!("! not read: {why}"));
        }
    }
}

impl RunShape {
    fn of(run: &Run, things: &BTreeSet<(std::cmp::Reverse<Thing>, String)>, now: i64) -> Self {
        let left = things.iter().map(|(thing, name)| format!("{} {name}", thing.0));
        Self {
            run: run.id,
            cluster: run.cluster.to_string(),
            namespace: run.namespace.clone(),
            began: rfc3339(run.id.began()),
            young: !run.is_settled(now),
            left: left.collect(),
        }
    }
}

/// By marks on roles and associations, and by labels on the clusters that they or the person name.
async fn find(session: &mut Session<'_>, cluster: Option<&ClusterId>) -> Result<Left, Problem> {
    session.ui.progress("looking for roles and associations …");
    let (found, errors) = session.aws.verify_left().await;
    if let Some(error) = errors.first().filter(|_| found.is_empty() && cluster.is_none()) {
        return Err(session.problem(error));
    }
    let mut left = Left { unread: errors.iter().map(ToString::to_string).collect(), ..Left::default() };
    for (run, thing) in found {
        if cluster.is_none_or(|cluster| *cluster == run.cluster) {
            let name = run.id.name();
            left.add(run, thing, name);
        }
    }
    // Whose region is not looked at can't be removed whole.
    let regions = &session.config.regions;
    let elsewhere: Vec<Run> =
        left.runs.keys().filter(|run| !regions.contains(&run.cluster.region)).cloned().collect();
    for run in elsewhere {
        left.runs.remove(&run);
        let region = &run.cluster.region;
        left.unread.push(format!("what run {} left on {}: add --region {region}", run.id, run.cluster));
    }
    let named: BTreeSet<ClusterId> =
        left.runs.keys().map(|run| run.cluster.clone()).chain(cluster.cloned()).collect();
    for id in named {
        session.ui.progress(&format!("looking into {id} …"));
        match session.aws.cluster(&id).await {
            Ok(Some(cluster)) => look_into(session, &cluster, &mut left).await,
            // Gone, with all that was on it.
            Ok(None) => {}
            Err(error) => {
                left.unread.push(error.to_string());
                left.unseen.insert(id);
            }
        }
    }
    Ok(left)
}

/// On the whole cluster, or, for whom that is not allowed, in the namespaces that are known.
async fn look_into(session: &Session<'_>, cluster: &Cluster, left: &mut Left) {
    let runs = left.runs.keys().filter(|run| run.cluster == cluster.id);
    let known: BTreeSet<Namespace> = runs.map(|run| run.namespace.clone()).collect();
    let objects = match objects(session, cluster, None).await {
        Err(Trouble::Refused(why)) if known.is_empty() => Err(Trouble::Refused(why)),
        Err(Trouble::Refused(_)) => {
            let mut all = Ok(Vec::new());
            for namespace in known {
                match (objects(session, cluster, Some(namespace)).await, &mut all) {
                    (Ok(found), Ok(all)) => all.extend(found),
                    (Err(trouble), all) => *all = Err(trouble),
                    (Ok(_), Err(_)) => {}
                }
            }
            all
        }
        answer => answer,
    };
    match objects {
        Ok(objects) => {
            for Object { thing, name, run } in objects {
                left.add(run, thing, name);
            }
        }
        Err(trouble) => {
            let Problem { message, remedy, .. } = of_trouble(&cluster.id, cluster, &trouble);
            let remedy = if remedy.is_empty() { remedy } else { format!("; {remedy}") };
            let again = format!("podgrant verify --clean --cluster {}", cluster.id);
            left.unread.push(format!("{message}{remedy}; what is left in it {again} finds"));
            left.unseen.insert(cluster.id.clone());
        }
    }
}

async fn objects(
    session: &Session<'_>,
    cluster: &Cluster,
    namespace: Option<Namespace>,
) -> Result<Vec<Object>, Trouble> {
    let way = session.aws.way_into(cluster, session.now()).await.map_err(Trouble::Unreachable)?;
    session.hands().objects(way, cluster.id.clone(), namespace).await
}
