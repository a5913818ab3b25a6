//! What a pod's end proves.

use std::fmt;

use serde::Serialize;

use super::Run;
use super::pod::PodEnd;
use super::telling::{Answer, Telling, Unreadable, shortened};
use crate::explain::{State, wrapped};
use crate::names::RoleArn;

/// One thing that must be so for Pod Identity to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub kind: LinkKind,
    pub state: State,
    pub told: String,
    pub remedy: Option<String>,
}

/// Which, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    Role,
    Association,
    Account,
    /// It is made, has a node and ran.
    Pod,
    /// EKS's webhook gave it the variables.
    Variables,
    /// The agent gave it credentials.
    Credentials,
    /// They are those of the role.
    Identity,
    /// The role may do no more than it should.
    Privilege,
}

/// What is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    Works,
    /// It works; whether pods can do no more than their role was not seen.
    WorksInPart,
    DoesNotWork,
    /// The pod could not tell.
    Nothing,
}

/// From the pod on: the links, and what they prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub links: Vec<Link>,
    pub proof: Proof,
}

impl Link {
    pub fn right(kind: LinkKind, told: impl Into<String>) -> Self {
        Self { kind, state: State::Right, told: told.into(), remedy: None }
    }

    pub fn broken(kind: LinkKind, told: impl Into<String>, remedy: &str) -> Self {
        Self { state: State::Broken, ..Self::unknown(kind, told, remedy) }
    }

    pub fn unknown(kind: LinkKind, told: impl Into<String>, remedy: &str) -> Self {
        let remedy = Some(remedy.to_owned()).filter(|remedy| !remedy.is_empty());
        Self { kind, state: State::Unknown, told: told.into(), remedy }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Role => "role",
            Self::Association => "association",
            Self::Account => "account",
            Self::Pod => "pod",
            Self::Variables => "variables",
            Self::Credentials => "credentials",
            Self::Identity => "identity",
            Self::Privilege => "privilege",
        })
    }
}

/// Where a line's text begins, and where it should end: as in a chain.
const MARGIN: usize = 22;
const WIDTH: usize = 100;

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<7} {:<11} ", self.state, self.kind)?;
        let mut lines = wrapped(&self.told, WIDTH - MARGIN).into_iter();
        f.write_str(&lines.next().unwrap_or_default())?;
        let remedy = self.remedy.iter().flat_map(|remedy| wrapped(&format!("→ {remedy}"), WIDTH - MARGIN));
        lines.chain(remedy).try_for_each(|line| write!(f, "\n{:MARGIN$}{line}", ""))
    }
}

/// Judges how the pod of a run ended.
pub fn judge(run: &Run, role: &RoleArn, end: &PodEnd) -> Judged {
    let nothing = |link| Judged { links: vec![link], proof: Proof::Nothing };
    let pod = |told: String, remedy: &str| nothing(Link::unknown(LinkKind::Pod, told, remedy));
    match end {
        PodEnd::Told(telling) => told(run, role, telling),
        PodEnd::OnFargate => pod(
            "the pod came to Fargate, where Pod Identity does not work".to_owned(),
            "name a namespace whose pods get EC2 nodes with --namespace; on Fargate use IAM roles for service accounts (IRSA)",
        ),
        PodEnd::Unschedulable(why) => pod(
            format!("no node takes the pod: {}", shortened(why)),
            "see that a Linux node has room and no taint, or name a namespace whose pods get one with --namespace",
        ),
        PodEnd::NotStarted(why) => pod(
            format!("the pod's container can't be started: {}", shortened(why)),
            "name an image with sh and the AWS CLI that its nodes can pull, with --image",
        ),
        PodEnd::Silent(why) => pod(
            format!("the pod told nothing in time: {}", shortened(why)),
            "run it again with a longer --wait-limit; whether its nodes reach AWS at all may be the cause",
        ),
        PodEnd::Lost(why) => pod(
            format!("the pod was lost: {}", shortened(why)),
            "run it again, or elsewhere with --namespace",
        ),
        PodEnd::Unreadable(unreadable) => {
            let told = match unreadable {
                Unreadable::Nothing => "the pod ended, and told nothing".to_owned(),
                Unreadable::Truncated => "what the pod told is cut off".to_owned(),
                Unreadable::Other(text) => format!("the pod told what makes no sense: {text}"),
            };
            pod(told, "name an image with sh and the AWS CLI, with --image")
        }
    }
}

fn told(run: &Run, role: &RoleArn, telling: &Telling) -> Judged {
    let mut links = vec![match &telling.uri {
        Some(uri) => Link::right(LinkKind::Variables, format!("the pod was given {uri}")),
        None => Link::broken(
            LinkKind::Variables,
            "EKS gave the pod no variables, though its association stands",
            "EKS's webhook pod-identity-webhook gives them when a pod is made: see that no admission policy takes them \
             out, and that the association is of this cluster, namespace and service account",
        ),
    }];
    if telling.has_keys {
        links.push(Link::broken(
            LinkKind::Variables,
            "the pod has access keys in its variables, which come before the agent",
            "see what puts AWS_ACCESS_KEY_ID into pods of this namespace",
        ));
    }
    let became = match &telling.identity {
        Answer::Said(arn) => arn,
        Answer::Failed(why) => {
            links.push(no_identity(telling, why));
            let is_broken = links.iter().any(|link| link.state == State::Broken);
            return Judged { links, proof: if is_broken { Proof::DoesNotWork } else { Proof::Nothing } };
        }
    };
    links.push(Link::right(LinkKind::Credentials, credentials(telling.tries)));
    if !is_role(became, role) {
        links.push(another(run, telling, became));
        return Judged { links, proof: Proof::DoesNotWork };
    }
    links.push(Link::right(LinkKind::Identity, format!("the pod is {became}")));
    let (link, proof) = privilege(&telling.buckets);
    links.push(link);
    let is_broken = links.iter().any(|link| link.state == State::Broken);
    Judged { links, proof: if is_broken { Proof::DoesNotWork } else { proof } }
}

fn credentials(tries: u32) -> String {
    match tries {
        0 | 1 => "the pod got credentials at once".to_owned(),
        tries => format!("the pod got credentials after {tries} tries"),
    }
}

/// Whether a session is this role's: `arn:aws:sts::111122223333:assumed-role/NAME/SESSION` names it without its path.
fn is_role(became: &str, role: &RoleArn) -> bool {
    let session =
        format!("arn:{}:sts::{}:assumed-role/{}/", role.partition(), role.account(), role.role_name());
    became.strip_prefix(&session).is_some_and(|session| !session.is_empty() && !session.contains('/'))
}

/// Why the pod does not know who it is. Judged is the whole text, and shown its beginning.
fn no_identity(telling: &Telling, whole: &str) -> Link {
    let why = shortened(whole);
    if is_of_sts(whole) {
        return Link::unknown(
            LinkKind::Identity,
            format!("the pod asked with credentials, and STS did not tell it who it is: {why}"),
            "see the policy of the VPC's endpoint for com.amazonaws.<region>.sts, whether STS is active in the region, and \
             the clock of the pod's node",
        );
    }
    if unreachable(whole) {
        return Link::unknown(
            LinkKind::Credentials,
            format!("STS can't be reached from the pod: {why}"),
            "see the way out of its subnet, or the VPC's endpoint for com.amazonaws.<region>.sts; network policies, and \
             what proxy stands in between",
        );
    }
    let tries = if telling.tries == 1 { "a try".to_owned() } else { format!("{} tries", telling.tries) };
    let remedy = if telling.uri.is_none() {
        "mend the above first"
    } else {
        "see the agent on the pod's node (podgrant doctor), its node role's eks-auth:AssumeRoleForPodIdentity, and in \
         a VPC without a way out the endpoint com.amazonaws.<region>.eks-auth"
    };
    Link::broken(LinkKind::Credentials, format!("the pod got no credentials in {tries}: {why}"), remedy)
}

/// Whether the AWS CLI tells an error that STS itself answered: it asked with credentials, and so had some. An error of
/// whoever gives credentials names another operation, or none.
fn is_of_sts(why: &str) -> bool {
    why.contains("An error occurred") && why.contains("when calling the GetCallerIdentity operation")
}

/// The AWS CLI's words where it reaches no endpoint of AWS's (botocore, `exceptions.py`); of the agent, which it asks
/// without TLS and without a proxy, it says that credentials failed.
fn unreachable(why: &str) -> bool {
    const NO_ENDPOINT: [&str; 4] =
        ["Could not connect", "Connect timeout", "Read timeout", "Connection was closed"];
    const NO_WAY: [&str; 2] = ["SSL validation failed for", "Failed to connect to proxy URL"];
    let is_of_agent = ["169.254.170.23", "fd00:ec2::23", "Error when retrieving credentials"]
        .iter()
        .any(|said| why.contains(said));
    let has = |said: &&str| why.contains(*said);
    !is_of_agent && (NO_WAY.iter().any(has) || why.contains("endpoint URL") && NO_ENDPOINT.iter().any(has))
}

fn another(run: &Run, telling: &Telling, became: &str) -> Link {
    let session = became.rsplit('/').next().unwrap_or_default();
    let became = shortened(became);
    let expected = run.id.name();
    let (whose, remedy) = if telling.irsa.is_some() {
        (
            "by IAM roles for service accounts (IRSA), which go before the agent",
            "see what puts AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE into pods of this namespace",
        )
    } else if session.starts_with("i-") {
        // EC2 names the session of an instance's role by the instance.
        let whose = "its node's role, as every pod without credentials of its own has it";
        let remedy = match telling.uri {
            None => {
                "see why pods get no variables, and keep pods from their node's role (EKS best practices, hop limit 1)"
            }
            // EKS user guide, "Use pod identity with the AWS SDK".
            Some(_) => {
                "the image's AWS CLI may be older than 2.15 and not know the agent: name another with --image"
            }
        };
        (whose, remedy)
    } else if telling.uri.is_none() {
        ("and had no variables to ask the agent", "see where the pod has these credentials from")
    } else {
        (
            "though it asked the agent",
            "see whether another association or an image's own configuration gives it",
        )
    };
    Link::broken(LinkKind::Identity, format!("the pod became {became} and not {expected}, {whose}"), remedy)
}

/// That listing buckets is denied shows that the role's own policy counts.
fn privilege(buckets: &Answer) -> (Link, Proof) {
    match buckets {
        Answer::Failed(why) if why.contains("(AccessDenied)") => {
            (Link::right(LinkKind::Privilege, "listing buckets is denied, as it should be"), Proof::Works)
        }
        Answer::Failed(why) => (
            Link::unknown(
                LinkKind::Privilege,
                format!("whether listing buckets is denied is not known: {}", shortened(why)),
                "S3 can't be reached from the pod, perhaps; its role is right all the same",
            ),
            Proof::WorksInPart,
        ),
        Answer::Said(count) => (
            Link::broken(
                LinkKind::Privilege,
                format!(
                    "the pod may list buckets ({} of them), and its role allows only sts:GetCallerIdentity",
                    shortened(count)
                ),
                "see what gives its role more, such as a policy that something attaches to each new role",
            ),
            Proof::DoesNotWork,
        ),
    }
}
