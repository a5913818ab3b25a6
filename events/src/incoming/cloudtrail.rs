//! Calls that CloudTrail saw, and EKS's own words about add-ons.

use podgrant_core::model::RoleNews;
use podgrant_core::{ClusterId, ClusterName, Region, Workload};
use serde_json::Value;

use super::envelope::{Envelope, cut, decode};
use super::{Incoming, Malformed, RoleRef, Trigger};

/// The EKS add-on that podgrant installs.
const AGENT: &str = "eks-pod-identity-agent";

/// Where CloudTrail writes a cluster's name: as the path parameter `name`, in
/// older records as `clusterName`, and in the answer.
const CLUSTER: &[&str] = &[
    "/detail/requestParameters/name",
    "/detail/requestParameters/clusterName",
    "/detail/responseElements/cluster/name",
    "/detail/responseElements/cluster/clusterName",
    "/detail/responseElements/association/clusterName",
];
const REGION: &[&str] = &["/detail/awsRegion", "/region"];
const ISSUER: &str = "/detail/userIdentity/sessionContext/sessionIssuer/arn";

/// A call to IAM or EKS.
pub(super) fn read_call(event: &Envelope<'_>, own_roles: &[String]) -> Result<Incoming, Malformed> {
    let Some(call) = event.text("/detail/eventName") else {
        return Err(event.malformed("/detail/eventName", "the name of an API call"));
    };
    let service = event.source().strip_prefix("aws.").unwrap_or_default();
    if event.text("/detail/eventSource").is_some_and(|it| it != format!("{service}.amazonaws.com")) {
        return Ok(event.ignored("made on another service"));
    }
    if !is_known(service, call) {
        return Ok(event.ignored("a call that podgrant does not act on"));
    }
    // Successful calls have no errorCode; the rules filter on it, so this is the second line.
    if event.value("/detail/errorCode").is_some() {
        let code = cut(event.text("/detail/errorCode").unwrap_or("of an unknown kind"));
        return Ok(event.ignored(&format!("the call failed, error {code}: nothing changed")));
    }
    if may_be_own(call)
        && let Some(issuer) = event.text(ISSUER)
        && own_roles.iter().any(|role| role == issuer)
    {
        return Ok(event.ignored("podgrant's own call"));
    }
    let trigger = match call {
        "CreateCluster" => Trigger::ClusterCreated { cluster: event.cluster(CLUSTER, REGION)? },
        "DeleteCluster" => Trigger::ClusterDeleted { cluster: event.cluster(CLUSTER, REGION)? },
        "TagResource" | "UntagResource" => match retagged(event)? {
            Some(cluster) => Trigger::ClusterRetagged { cluster },
            None => return Ok(event.ignored("not about a cluster")),
        },
        "UpdateAssumeRolePolicy" => Trigger::RoleTrustChanged { role: role(event)?, news: news(event) },
        "DeleteRole" => Trigger::RoleDeleted { role: role(event)? },
        "CreateRole" | "TagRole" | "UntagRole" => {
            Trigger::RoleChanged { role: role(event)?, news: news(event) }
        }
        _ => association_changed(event)?,
    };
    event.wake(trigger, event.person("/detail/userIdentity/arn"))
}

fn is_known(service: &str, call: &str) -> bool {
    match service {
        "eks" => matches!(
            call,
            "CreateCluster"
                | "DeleteCluster"
                | "TagResource"
                | "UntagResource"
                | "CreatePodIdentityAssociation"
                | "UpdatePodIdentityAssociation"
                | "DeletePodIdentityAssociation"
        ),
        _ => matches!(call, "CreateRole" | "TagRole" | "UntagRole" | "UpdateAssumeRolePolicy" | "DeleteRole"),
    }
}

/// The calls that podgrant makes itself and must not be woken by.
fn may_be_own(call: &str) -> bool {
    call.ends_with("PodIdentityAssociation")
        || matches!(
            call,
            "TagRole" | "UntagRole" | "TagResource" | "UntagResource" | "UpdateAssumeRolePolicy"
        )
}

pub(crate) const ROLE_NAME: &str = "a role's name (1 to 64 letters, digits and _+=,.@-)";

/// IAM's own rule for role names.
pub(crate) fn is_role_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
}

fn role(event: &Envelope<'_>) -> Result<RoleRef, Malformed> {
    const NAME: &str = "/detail/requestParameters/roleName";
    let name =
        event.text(NAME).filter(|name| is_role_name(name)).ok_or_else(|| event.malformed(NAME, ROLE_NAME))?;
    let recipient = "/detail/recipientAccountId";
    let place = if event.value(recipient).is_some() { recipient } else { "/account" };
    let account = event
        .text(place)
        .filter(|account| account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()))
        .ok_or_else(|| event.malformed(place, "an account id (twelve digits)"))?;
    Ok(RoleRef { account: account.to_owned(), name: name.to_owned() })
}

/// What the call set or took away. A help, not a need: what can't be read is not waited for.
fn news(event: &Envelope<'_>) -> RoleNews {
    let list = |place: &str| event.value(place).and_then(Value::as_array).cloned().unwrap_or_default();
    let tag = |tag: &Value| {
        let text = |name: &str| tag.get(name).and_then(Value::as_str).map(str::to_owned);
        text("key").zip(text("value"))
    };
    RoleNews {
        tags_set: list("/detail/requestParameters/tags").iter().filter_map(tag).collect(),
        tags_removed: list("/detail/requestParameters/tagKeys")
            .iter()
            .filter_map(|key| key.as_str().map(str::to_owned))
            .collect(),
        // Longer than what is looked into elsewhere: a policy has up to 4,096 characters (IAM quotas).
        trust_policy: event
            .value("/detail/requestParameters/policyDocument")
            .and_then(Value::as_str)
            .map(str::to_owned),
    }
}

/// Which association changed is a help, not a need: without it, or where it does
/// not parse, the whole cluster is looked at.
fn association_changed(event: &Envelope<'_>) -> Result<Trigger, Malformed> {
    let text = |name: &str| {
        [format!("/detail/requestParameters/{name}"), format!("/detail/responseElements/association/{name}")]
            .iter()
            .find_map(|place| event.text(place))
    };
    let workload = text("namespace").zip(text("serviceAccount")).and_then(|(namespace, account)| {
        Some(Workload { namespace: namespace.parse().ok()?, service_account: account.parse().ok()? })
    });
    Ok(Trigger::AssociationChanged {
        cluster: event.cluster(CLUSTER, REGION)?,
        association: text("associationId").and_then(|id| decode(id)?.parse().ok()),
        workload,
    })
}

/// The cluster whose tags changed; `None` where another resource's did.
fn retagged(event: &Envelope<'_>) -> Result<Option<ClusterId>, Malformed> {
    const ARN: &str = "/detail/requestParameters/resourceArn";
    let malformed = || event.malformed(ARN, "an EKS resource's ARN");
    let text = event.text(ARN).and_then(decode).ok_or_else(malformed)?;
    let arn = EksArn::parse(&text).ok_or_else(malformed)?;
    if arn.kind != "cluster" {
        return Ok(None);
    }
    let name = arn.rest.parse::<ClusterName>().map_err(|_| malformed())?;
    Ok(Some(ClusterId::new(arn.region, name)))
}

/// EKS's own event about an add-on. AWS does not document the shape of its
/// detail, so it is looked for wherever it may be, `resources` included.
pub(super) fn read_agent_health(event: &Envelope<'_>) -> Result<Incoming, Malformed> {
    const ADDON: [&str; 3] = ["/detail/addonName", "/detail/addon-name", "/detail/addon/addonName"];
    const NAME: [&str; 5] = [
        "/detail/clusterName",
        "/detail/cluster-name",
        "/detail/cluster/name",
        "/detail/cluster",
        "/detail/addon/clusterName",
    ];
    // The first resource: an add-on's event is about one add-on of one cluster.
    let arn = event.text("/resources/0").and_then(EksArn::parse);
    let arn = arn.filter(|arn| matches!(arn.kind, "addon" | "cluster"));
    // arn:…:addon/<cluster>/<add-on>/<uuid>
    let mut words = arn.as_ref().map_or("", |arn| arn.rest).split('/');
    let (arn_cluster, arn_addon) = (words.next(), words.next());

    let addon = ADDON.iter().find_map(|place| event.text(place)).or(arn_addon);
    if addon.is_some_and(|addon| addon != AGENT) {
        return Ok(event.ignored("about another add-on"));
    }
    let name = NAME.iter().find_map(|place| event.text(place)).or(arn_cluster);
    let cluster = name.and_then(|name| name.parse::<ClusterName>().ok());
    match (cluster, addon) {
        // Without the add-on's name one look too many is made: it costs little.
        (Some(name), _) => {
            let region = match arn {
                Some(arn) => arn.region,
                None => event.name(&["/region"], Region::EXPECTED)?,
            };
            let cluster = ClusterId::new(region, name);
            event.wake(Trigger::AgentHealthChanged { cluster }, None)
        }
        (None, Some(_)) => Err(event.malformed(NAME[0], ClusterName::EXPECTED)),
        (None, None) => Ok(event.ignored("names neither an add-on nor a cluster")),
    }
}

/// `arn:aws:eks:<region>:<account>:<kind>/<rest>`
struct EksArn<'a> {
    region: Region,
    kind: &'a str,
    rest: &'a str,
}

impl<'a> EksArn<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let (kind, rest) = resource.split_once('/')?;
        (arn == "arn" && partition.starts_with("aws") && service == "eks").then_some(Self {
            region: region.parse().ok()?,
            kind,
            rest,
        })
    }
}
