//! The pod that asks, and how far it came.

use std::collections::BTreeMap;

use super::telling::{Telling, Unreadable};
use super::{Run, SCRIPT};

/// A pod that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodWish {
    pub run: Run,
    pub name: String,
    pub image: String,
    /// Run by `sh`, as `aws` is looked for on its path.
    pub script: &'static str,
    pub variables: BTreeMap<String, String>,
    /// It ends after so many seconds, whatever it does.
    pub limit: i64,
}

impl PodWish {
    pub fn new(run: &Run, number: u32, image: &str, limit: i64) -> Self {
        let region = run.cluster.region.to_string();
        // Where the webhook gives none of its own: what the AWS CLI wants to know before it asks anybody.
        let variables = [
            ("AWS_REGION", region.as_str()),
            ("AWS_DEFAULT_REGION", region.as_str()),
            ("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
            ("AWS_MAX_ATTEMPTS", "2"),
            ("AWS_PAGER", ""),
            // Its user has no home.
            ("HOME", "/tmp"),
        ];
        Self {
            run: run.clone(),
            name: run.id.pod_name(number),
            image: image.to_owned(),
            script: SCRIPT,
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            limit,
        }
    }
}

/// A pod as the cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeenPod {
    /// Kubernetes' phase, such as `Pending`.
    pub phase: String,
    pub node: Option<String>,
    /// Whether a profile sent it to Fargate.
    pub on_fargate: bool,
    /// Whether EKS's webhook gave it `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub has_variables: bool,
    /// Why it has no node, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// Why its container does not run: reason and message.
    pub waiting: Option<(String, String)>,
    pub terminated: Option<Terminated>,
    /// Why the pod as a whole failed, such as `Evicted` or `DeadlineExceeded`, and Kubernetes' words.
    pub failed: Option<(String, String)>,
    pub is_going: bool,
}

/// How its container ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terminated {
    pub reason: String,
    pub exit_code: i32,
    /// Its termination message.
    pub message: String,
}

/// How far a pod came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No node yet, and why if it is told.
    Unscheduled(Option<String>),
    /// The image can't be had, or the container not be made; it may yet come.
    Stuck(String),
    /// The image is on its way, or the container starts.
    Starting,
    Running,
    Over(PodEnd),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodEnd {
    Told(Telling),
    /// It came to Fargate, where Pod Identity does not work (EKS user guide, "Learn how EKS Pod Identity grants pods
    /// access to AWS services"): of other nodes it can tell nothing.
    OnFargate,
    /// It ended, and what it told can't be read.
    Unreadable(Unreadable),
    /// No node takes it.
    Unschedulable(String),
    /// Its container can't be started, the image not be pulled.
    NotStarted(String),
    /// It ran, or was about to, and never told anything.
    Silent(String),
    /// It was deleted or evicted, and not by this run.
    Lost(String),
}

/// Reasons that no time mends (kubelet, `pkg/kubelet/images/types.go` and `container/sync_result.go`).
const HOPELESS: [&str; 4] =
    ["InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"];

/// How long an image may fail to come, in seconds: registries throttle.
const PULLING: i64 = 60;

/// How far a pod came; `None`: it is gone.
pub fn stage(pod: Option<&SeenPod>) -> Stage {
    let Some(pod) = pod else {
        return Stage::Over(PodEnd::Lost("somebody deleted the pod".to_owned()));
    };
    if pod.on_fargate {
        return Stage::Over(PodEnd::OnFargate);
    }
    if let Some(ended) = &pod.terminated {
        return Stage::Over(match Telling::read(&ended.message) {
            Ok(telling) => PodEnd::Told(telling),
            Err(_) if pod.failed.is_some() || ended.reason == "DeadlineExceeded" => {
                PodEnd::Silent(words(pod.failed.as_ref().unwrap_or(&(ended.reason.clone(), String::new()))))
            }
            Err(unreadable) => {
                PodEnd::Unreadable(unreadable.of_exit(ended.exit_code, &ended.reason, &ended.message))
            }
        });
    }
    if let Some(failed) = &pod.failed {
        return Stage::Over(match failed.0.as_str() {
            "DeadlineExceeded" => PodEnd::Silent(words(failed)),
            _ => PodEnd::Lost(words(failed)),
        });
    }
    if pod.is_going {
        return Stage::Over(PodEnd::Lost("somebody deleted the pod".to_owned()));
    }
    match (&pod.waiting, &pod.node) {
        _ if pod.phase == "Running" => Stage::Running,
        (Some(waiting), _) if waiting.0.contains("Image") || HOPELESS.contains(&waiting.0.as_str()) => {
            Stage::Stuck(words(waiting))
        }
        (_, None) => Stage::Unscheduled(pod.unschedulable.clone()),
        _ => Stage::Starting,
    }
}

/// How it ended, if it is not to be waited for any longer; `waited` seconds since the pod was made.
pub fn may_go_on(stage: &Stage, waited: i64, limit: i64) -> Result<(), PodEnd> {
    let is_over = waited >= limit;
    match stage {
        Stage::Over(end) => Err(end.clone()),
        Stage::Stuck(why)
            if is_over || waited >= PULLING || HOPELESS.iter().any(|reason| why.starts_with(reason)) =>
        {
            Err(PodEnd::NotStarted(why.clone()))
        }
        Stage::Unscheduled(why) if is_over => Err(match why {
            Some(why) => PodEnd::Unschedulable(why.clone()),
            None => PodEnd::Unschedulable(format!("no scheduler looked at it within {waited} s")),
        }),
        Stage::Starting if is_over => {
            Err(PodEnd::NotStarted(format!("its container did not start within {waited} s")))
        }
        Stage::Running if is_over => Err(PodEnd::Silent(format!("it still ran after {waited} s"))),
        _ => Ok(()),
    }
}

fn words((reason, message): &(String, String)) -> String {
    if message.is_empty() { reason.clone() } else { format!("{reason}: {message}") }
}
