//! What a run makes, and what its pod tells.

use std::collections::BTreeMap;

use podgrant_aws::{AwsError, Meaning};
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::explain::State;
use podgrant_core::verify::{
    Link, LinkKind, MOST_PODS, Object, PAUSE, PodEnd, PodWish, Proof, ROLE_LIMIT, Removal, Run, SeenPod,
    Stage, TRIES, Thing, Trouble, judge, may_go_on, stage,
};
use podgrant_core::{Cluster, ClusterId, RoleArn};

use crate::arguments::Trial as Settings;
use crate::problem::Problem;
use crate::session::Session;
use crate::ui::Look;

/// What ended a run before its pod told anything.
pub struct Stopped(pub Problem);

/// A run under way.
pub struct Trial<'a> {
    pub run: Run,
    pub cluster: Cluster,
    pub image: &'a str,
    limit: i64,
    pub links: Vec<Link>,
    /// What it began to make besides pods, and what is known of it.
    pub begun: BTreeMap<Thing, Known>,
    /// Pods that may stand, by their numbers.
    pub pods: BTreeMap<u32, Known>,
}

impl Stopped {
    pub fn say(&self, session: &mut Session<'_>) {
        let Problem { message, remedy, .. } = &self.0;
        session.ui.say(&format!("podgrant: {message}"));
        if !remedy.is_empty() {
            session.ui.say(&format!("  {remedy}"));
        }
    }
}

/// What is known of a thing that a run began to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was not made.
    Not,
    /// An answer was lost: where it does not show it is looked for again.
    Perhaps,
    /// It was made: where it lacks its mark that is told, and where AWS does not show it, it is looked for again.
    Made,
}

impl Known {
    /// Whether what does not show may yet. Kubernetes shows what it made at once; AWS may take some seconds.
    pub fn may_show_later(self, thing: Thing) -> bool {
        match thing {
            Thing::Role | Thing::Association => self != Self::Not,
            Thing::ServiceAccount | Thing::Pod => self == Self::Perhaps,
        }
    }
}

/// What an error tells of a thing that was to be made. It may be the answer to a call that repeated one whose
/// answer was lost: so only a plain no is one.
fn after(error: &AwsError) -> Known {
    match error.meaning {
        Meaning::AccessDenied
        | Meaning::NoCredentials
        | Meaning::BadCredentials
        | Meaning::Invalid
        | Meaning::TrustPolicy
        | Meaning::LimitExceeded
        | Meaning::RoleNotVisible
        | Meaning::NotFound => Known::Not,
        _ => Known::Perhaps,
    }
}

/// The same of a cluster's Kubernetes API.
fn after_trouble(trouble: &Trouble) -> Known {
    if trouble.may_be_done() { Known::Perhaps } else { Known::Not }
}

/// For a person: what a cluster's Kubernetes API said, and what helps.
pub fn of_trouble(id: &ClusterId, cluster: &Cluster, trouble: &Trouble) -> Problem {
    let is_private = cluster.api.as_ref().is_some_and(|api| !api.public);
    let remedy = match trouble {
        Trouble::Refused(_) => {
            "be let in by an access entry (AmazonEKSEditPolicy allows what verify does), or see what admission policy says no"
        }
        Trouble::Unreachable(_) if is_private => {
            "its endpoint is private: run it where it can be reached, such as in its VPC"
        }
        Trouble::Unreachable(_) => {
            "see the way there: its public access CIDRs, and a proxy (HTTPS_PROXY) in between"
        }
        Trouble::Rejected(_) => "",
    };
    Problem::failed(format!("{id}: {trouble}"), remedy)
}

impl<'a> Trial<'a> {
    pub fn new(run: Run, cluster: Cluster, settings: &'a Settings) -> Self {
        Self {
            run,
            cluster,
            image: &settings.image,
            limit: settings.wait_limit,
            links: Vec::new(),
            begun: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Makes one thing after the other, and hears the pod.
    pub async fn prove(&mut self, session: &mut Session<'_>) -> Result<Proof, Stopped> {
        let role = self.make_role(session).await?;
        self.make_association(session, &role).await?;
        self.make_account(session).await?;
        let pod = self.make_pods(session).await?;
        let end = self.hear(session, pod).await?;
        let judged = judge(&self.run, &role, &end);
        for link in judged.links {
            self.link(session, link);
        }
        Ok(judged.proof)
    }

    /// One more link, shown as it becomes known.
    fn link(&mut self, session: &mut Session<'_>, link: Link) {
        let look = match link.state {
            State::Right => Look::Green,
            State::Broken => Look::Red,
            State::Unknown => Look::Yellow,
        };
        let text = link.to_string();
        let state = format!("{:<7}", link.state);
        let text = text.replacen(&state, &session.ui.look(look, &state), 1);
        session.ui.show(&text);
        self.links.push(link);
    }

    fn right(&mut self, session: &mut Session<'_>, kind: LinkKind, told: String) {
        self.link(session, Link::right(kind, told));
    }

    fn goes_on(session: &Session<'_>) -> Result<(), Stopped> {
        if session.is_interrupted() {
            return Err(Stopped(Problem::failed("interrupted", "what was made is removed now")));
        }
        Ok(())
    }

    /// Waits, unless whoever waits wants no more.
    async fn pause(session: &Session<'_>) -> Result<(), Stopped> {
        Self::goes_on(session)?;
        session.pause(PAUSE).await;
        Self::goes_on(session)
    }

    /// An error of a call that was to make something.
    fn not_made(&mut self, session: &Session<'_>, thing: Thing, error: &AwsError) -> Stopped {
        self.begun.insert(thing, after(error));
        Stopped(session.problem(error))
    }

    fn trouble(&self, trouble: &Trouble) -> Stopped {
        Stopped(of_trouble(&self.run.cluster, &self.cluster, trouble))
    }

    /// The way in, with a token of now.
    pub async fn way(&self, session: &Session<'_>) -> Result<KubernetesAccess, Stopped> {
        let way = session.aws.way_into(&self.cluster, session.now()).await;
        way.map_err(|why| Stopped(Problem::failed(why, "")))
    }

    async fn make_role(&mut self, session: &mut Session<'_>) -> Result<RoleArn, Stopped> {
        Self::goes_on(session)?;
        session.ui.progress("making the role …");
        self.begun.insert(Thing::Role, Known::Perhaps);
        let made = session.aws.make_verify_role(&self.run, &self.cluster).await;
        let role = made.map_err(|error| self.not_made(session, Thing::Role, &error))?;
        self.begun.insert(Thing::Role, Known::Made);
        Self::goes_on(session)?;
        let allowed = session.aws.allow_verify_role(&self.run).await;
        allowed.map_err(|error| Stopped(session.problem(&error)))?;
        self.right(session, LinkKind::Role, format!("{} is made", role.role_name()));
        Ok(role)
    }

    /// EKS sees a new role after some seconds.
    async fn make_association(&mut self, session: &mut Session<'_>, role: &RoleArn) -> Result<(), Stopped> {
        let began = session.now();
        loop {
            Self::goes_on(session)?;
            session.ui.progress("making the association …");
            self.begun.insert(Thing::Association, Known::Perhaps);
            let waited = session.now() - began;
            match session.aws.make_verify_association(&self.run, role).await {
                Ok(()) => {
                    self.begun.insert(Thing::Association, Known::Made);
                    let place = format!("{}/{}", self.run.namespace, self.run.id.name());
                    let after =
                        if waited > 0 { format!(", {waited} s after its role") } else { String::new() };
                    self.right(session, LinkKind::Association, format!("{place} is made{after}"));
                    return Ok(());
                }
                Err(error) if error.is(Meaning::RoleNotVisible) && waited < ROLE_LIMIT => {
                    self.begun.insert(Thing::Association, Known::Not);
                    session.ui.progress("waiting until EKS sees the role …");
                    Self::pause(session).await?;
                }
                Err(error) => return Err(self.not_made(session, Thing::Association, &error)),
            }
        }
    }

    async fn make_account(&mut self, session: &mut Session<'_>) -> Result<(), Stopped> {
        Self::goes_on(session)?;
        session.ui.progress("making the service account …");
        let way = self.way(session).await?;
        self.begun.insert(Thing::ServiceAccount, Known::Perhaps);
        match session.hands().make_account(way, self.run.clone()).await {
            Ok(()) => {
                self.begun.insert(Thing::ServiceAccount, Known::Made);
                let told = format!("{}/{} is made", self.run.namespace, self.run.id.name());
                self.right(session, LinkKind::Account, told);
                Ok(())
            }
            Err(trouble) => {
                self.begun.insert(Thing::ServiceAccount, after_trouble(&trouble));
                Err(self.trouble(&trouble))
            }
        }
    }

    /// Makes pods until one is given the variables, or the last one has to do without; tells its number.
    async fn make_pods(&mut self, session: &mut Session<'_>) -> Result<u32, Stopped> {
        let mut number = 1;
        loop {
            Self::goes_on(session)?;
            session.ui.progress("making the pod …");
            let way = self.way(session).await?;
            self.pods.insert(number, Known::Perhaps);
            let wish = PodWish::new(&self.run, number, self.image, self.limit);
            let made = session.hands().make_pod(way, wish).await;
            self.pods.insert(number, made.as_ref().map_or_else(after_trouble, |_| Known::Made));
            match made {
                Ok(seen) if seen.has_variables || seen.on_fargate || number >= MOST_PODS => {
                    return Ok(number);
                }
                Ok(_) => {}
                Err(trouble) => return Err(self.trouble(&trouble)),
            }
            self.take_back(session, number).await?;
            session.ui.progress("waiting until EKS gives pods their variables …");
            Self::pause(session).await?;
            number += 1;
        }
    }

    /// A pod without variables is of no use. What can't be removed now is tried again at the end.
    async fn take_back(&mut self, session: &Session<'_>, number: u32) -> Result<(), Stopped> {
        let object = self.pod(number);
        let name = object.name.clone();
        match session.hands().remove(self.way(session).await?, object).await {
            Ok(Removal::Removed | Removal::Absent) => {
                self.pods.remove(&number);
            }
            // So would the next one be: each would be left.
            Ok(Removal::Foreign) => {
                return Err(Stopped(Problem::failed(
                    format!("{}: the pod {name} lost verify's mark when it was made", self.run.cluster),
                    "see what admission policy rewrites the labels of pods, or name a namespace without one with \
                     --namespace",
                )));
            }
            Ok(Removal::Going) | Err(_) => {}
        }
        Ok(())
    }

    pub fn pod(&self, number: u32) -> Object {
        Object { thing: Thing::Pod, name: self.run.id.pod_name(number), run: self.run.clone() }
    }

    /// Waits for the pod to end.
    async fn hear(&mut self, session: &mut Session<'_>, number: u32) -> Result<PodEnd, Stopped> {
        let (began, name) = (session.now(), self.run.id.pod_name(number));
        let mut unanswered = 0;
        loop {
            Self::goes_on(session)?;
            let way = self.way(session).await?;
            let waited = session.now() - began;
            match session.hands().pod(way, self.run.namespace.clone(), name.clone()).await {
                Ok(seen) => {
                    unanswered = 0;
                    let stage = stage(seen.as_ref());
                    if let Err(end) = may_go_on(&stage, waited, self.limit) {
                        self.tell_pod(session, &end, seen.as_ref(), &name, waited);
                        return Ok(end);
                    }
                    session.ui.progress(&format!("{} ({waited} s)", waiting_for(&stage)));
                }
                Err(Trouble::Unreachable(_)) if unanswered < TRIES => unanswered += 1,
                Err(trouble) => return Err(self.trouble(&trouble)),
            }
            Self::pause(session).await?;
        }
    }

    /// Of a pod that told something: that it ran, and where.
    fn tell_pod(
        &mut self,
        session: &mut Session<'_>,
        end: &PodEnd,
        seen: Option<&SeenPod>,
        name: &str,
        waited: i64,
    ) {
        if let PodEnd::Told(_) = end {
            let node = seen
                .and_then(|pod| pod.node.as_deref())
                .map(|node| format!(" on {node}"))
                .unwrap_or_default();
            let told = format!("{}/{name} ran{node}, {waited} s after it was made", self.run.namespace);
            self.right(session, LinkKind::Pod, told);
        }
    }
}

fn waiting_for(stage: &Stage) -> String {
    match stage {
        Stage::Unscheduled(Some(why)) => format!("the pod waits for a node: {why}"),
        Stage::Unscheduled(None) => "the pod waits for a node".to_owned(),
        Stage::Stuck(why) => format!("the pod does not start: {why}"),
        Stage::Starting => "the pod starts".to_owned(),
        Stage::Running | Stage::Over(_) => "the pod asks who it is".to_owned(),
    }
}
