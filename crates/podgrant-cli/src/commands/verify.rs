//! `podgrant verify`.

mod cleaning;
mod removal;
mod trial;

use podgrant_core::explain::{Cause, CauseKind, Diagnosis, NamedCluster, Suspicion, Target};
use podgrant_core::verify::{Link, MOST_PODS, Proof, Run, RunId};
use podgrant_core::{Cluster, Namespace};
use serde::Serialize;

use crate::arguments::{ClusterArgument, Consent, Trial as Settings};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::ui::{JSON_VERSION, Look};

pub use cleaning::clean;
use removal::Removed;
use trial::{Stopped, Trial};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    version: u32,
    cluster: String,
    namespace: &'a Namespace,
    /// The run's id: the end of the names of all that it makes.
    run: RunId,
    image: &'a str,
    /// Whether anything was to be made, and nobody declined.
    begun: bool,
    /// Whether Pod Identity works; null where it was not seen.
    works: Option<bool>,
    links: &'a [Link],
    causes: &'a [Cause],
    removed: &'a [Removed],
    /// What ended it before its pod told anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Problem>,
    seconds: i64,
}

/// What a run came to.
#[derive(Default)]
struct Ended {
    proof: Option<Proof>,
    stopped: Option<Stopped>,
    causes: Vec<Cause>,
    removed: Vec<Removed>,
}

/// Makes what it takes, asks the pod, and removes all of it again.
pub async fn run(
    session: &mut Session<'_>,
    named: &ClusterArgument,
    settings: &Settings,
    consent: &Consent,
) -> Result<Exit, Problem> {
    may_begin(session, consent)?;
    let cluster = ready_cluster(session, named).await?;
    no_obstacles(session, &cluster, &settings.namespace).await?;
    let id = RunId::at(session.millis());
    let run = Run { id, cluster: cluster.id.clone(), namespace: settings.namespace.clone() };
    announce(session, &run, &settings.image);
    let began = session.now();
    let mut trial = Trial::new(run, cluster, settings);
    if !consent.yes && !session.ui.agrees("Make these, and remove them again?") {
        session.ui.say("Nothing was made.");
        trial.put_out(session, &Ended::default(), false, began);
        return Ok(Exit::Declined);
    }
    if !trial.run.may_begin(session.now()) {
        let told = "the question stood too long, and nothing was made";
        return Err(Problem::failed(told, "run it again, and answer within five minutes"));
    }
    // From here on Ctrl-C is heeded between two calls.
    session.is_interrupted();
    let mut ended = Ended::default();
    match trial.prove(session).await {
        Ok(proof) => {
            ended.proof = Some(proof);
            if matches!(proof, Proof::DoesNotWork | Proof::Nothing) {
                ended.causes = causes(session, &trial).await;
            }
        }
        Err(stopped) => ended.stopped = Some(stopped),
    }
    if let Some(stopped) = &ended.stopped {
        stopped.say(session);
    }
    ended.removed = trial.remove(session).await;
    trial.sum_up(session, &ended, began);
    trial.put_out(session, &ended, true, began);
    Ok(ended.exit())
}

impl Ended {
    fn is_clean(&self) -> bool {
        self.removed.iter().all(Removed::is_gone)
    }

    fn exit(&self) -> Exit {
        match self.proof {
            _ if !self.is_clean() => Exit::Failed,
            Some(Proof::Works) => Exit::Done,
            Some(Proof::WorksInPart) => Exit::InPart,
            Some(Proof::DoesNotWork) => Exit::Found,
            Some(Proof::Nothing) | None => Exit::Failed,
        }
    }

    fn works(&self) -> Option<bool> {
        match self.proof? {
            Proof::Works | Proof::WorksInPart => Some(true),
            Proof::DoesNotWork => Some(false),
            Proof::Nothing => None,
        }
    }
}

impl Trial<'_> {
    fn sum_up(&self, session: &mut Session<'_>, ended: &Ended, began: i64) {
        let cluster = &self.run.cluster;
        let told = match ended.proof {
            Some(Proof::Works) => format!("Pod Identity works on {cluster}."),
            Some(Proof::WorksInPart) => {
                format!("Pod Identity works on {cluster}; not all that pods may do was seen.")
            }
            Some(Proof::DoesNotWork) => format!("Pod Identity does not work on {cluster}."),
            Some(Proof::Nothing) | None => format!("Whether Pod Identity works on {cluster} was not seen."),
        };
        let removed = match ended.removed.as_slice() {
            [] => "Nothing was made.".to_owned(),
            _ if ended.is_clean() => "All that was made is removed again.".to_owned(),
            left if !left.iter().any(Removed::may_go_later) => {
                "Not all that was made could be removed: look at it, and remove it by hand.".to_owned()
            }
            _ => format!(
                "Not all that was made could be removed: half an hour after it began podgrant verify --clean \
                 --cluster {cluster} tries again."
            ),
        };
        let look = match (ended.is_clean(), ended.works()) {
            (true, Some(true)) => Look::Green,
            (true, None) => Look::Yellow,
            _ => Look::Red,
        };
        let told = session.ui.look(look, &told);
        session.ui.show("");
        session.ui.show(&format!("{told} {removed} ({} s)", session.now() - began));
    }

    fn put_out(&self, session: &mut Session<'_>, ended: &Ended, begun: bool, began: i64) {
        let shape = Shape {
            version: JSON_VERSION,
            cluster: self.run.cluster.to_string(),
            namespace: &self.run.namespace,
            run: self.run.id,
            image: self.image,
            begun,
            works: ended.works(),
            links: &self.links,
            causes: &ended.causes,
            removed: &ended.removed,
            error: ended.stopped.as_ref().map(|stopped| &stopped.0),
            seconds: session.now() - began,
        };
        session.ui.json(&shape);
    }
}

/// Who changes anything asks first, and may be forbidden to.
fn may_begin(session: &Session<'_>, consent: &Consent) -> Result<(), Problem> {
    if session.config.dry_run {
        let remedy = "unset it, or use podgrant doctor";
        return Err(Problem::usage("PODGRANT_DRY_RUN is on, and forbids it", remedy));
    }
    if !consent.yes && !session.ui.can_ask() {
        return Err(Problem::usage(
            "verify asks before it makes or removes anything, and there is nobody to ask",
            "run it on a terminal, or with --yes",
        ));
    }
    Ok(())
}

/// The cluster, if Pod Identity can be there at all.
async fn ready_cluster(session: &mut Session<'_>, named: &ClusterArgument) -> Result<Cluster, Problem> {
    session.ui.progress("looking at the cluster …");
    let id = session.cluster(named).await?;
    let found = session.aws.cluster(&id).await.map_err(|error| session.problem(&error))?;
    let Some(cluster) = found else {
        return Err(Problem::failed(format!("there is no cluster {id} any more"), ""));
    };
    if cluster.kind.connected || cluster.kind.outpost {
        let kind = if cluster.kind.connected { "is only connected to EKS" } else { "is on an Outpost" };
        let told = format!("{id} {kind}, and Pod Identity is not there");
        return Err(Problem::failed(told, "use IAM roles for service accounts (IRSA) there"));
    }
    if !cluster.status.is_ready() || cluster.api.is_none() {
        let told = format!("{id} is {}, and has no Kubernetes API yet", cluster.status);
        return Err(Problem::failed(told, "run it again when it is ACTIVE"));
    }
    Ok(cluster)
}

/// Nothing is made where the pod could not be.
async fn no_obstacles(
    session: &mut Session<'_>,
    cluster: &Cluster,
    namespace: &Namespace,
) -> Result<(), Problem> {
    session.ui.progress("asking the cluster's Kubernetes API …");
    let way = session.aws.way_into(cluster, session.now()).await;
    let way = way.map_err(|why| Problem::failed(why, ""))?;
    let obstacles = session.hands().obstacles(way, namespace.clone()).await;
    let obstacles = obstacles.map_err(|trouble| trial::of_trouble(&cluster.id, cluster, &trouble))?;
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Problem::failed(
        format!("{}: {}", cluster.id, obstacles.join("; ")),
        format!(
            "name another namespace with --namespace, or be let in: an access entry with AmazonEKSEditPolicy for {namespace} \
             allows what verify does"
        ),
    ))
}

fn announce(session: &mut Session<'_>, run: &Run, image: &str) {
    let (cluster, namespace, name) = (&run.cluster, &run.namespace, run.id.name());
    let heading = session.ui.look(Look::Bold, &format!("To be made for {cluster}, and removed again"));
    session.ui.show(&heading);
    for line in [
        format!(
            "role             {name}: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity"
        ),
        format!("association      {namespace}/{name} with that role"),
        format!("service account  {namespace}/{name}"),
        format!(
            "pod              {namespace}/{}, image {image}; {MOST_PODS} at most, one after the other",
            run.id.pod_name(1)
        ),
    ] {
        session.ui.show(&format!("  {line}"));
    }
    session.ui.show("");
}

/// What the doctor says of the pod, while all of it stands; where no cluster can be asked, of its service account.
async fn causes(session: &mut Session<'_>, trial: &Trial<'_>) -> Vec<Cause> {
    session.ui.progress("looking for what is wrong …");
    let run = &trial.run;
    let (Some(workload), Ok(cluster)) = (run.workload(), NamedCluster::read(&run.cluster.to_string())) else {
        return Vec::new();
    };
    let pod = trial.pods.last_key_value().and_then(|(number, _)| run.id.pod_name(*number).parse().ok());
    // A pod that is over is seen only by its own name.
    let target = match pod.filter(|_| session.onlooker().is_some()) {
        Some(pod) => Target::Pod { namespace: run.namespace.clone(), pod, cluster },
        None => Target::ServiceAccount { workload, cluster },
    };
    let diagnoses = session.aws.diagnose(&target, session.onlooker(), session.now()).await;
    // That was waited for.
    let settled = |cause: &Cause| cause.kind != CauseKind::Possible(Suspicion::Settling);
    let causes: Vec<Cause> = diagnoses.into_iter().flat_map(|found| found.causes).filter(settled).collect();
    if causes.is_empty() {
        session.ui.show("  podgrant doctor sees nothing else that is wrong.");
        return causes;
    }
    let found = Diagnosis {
        about: "podgrant doctor".to_owned(),
        causes: causes.clone(),
        unseen: Vec::new(),
        right: 0,
    };
    for line in found.to_string().lines() {
        session.ui.show(&format!("  {line}"));
    }
    causes
}
