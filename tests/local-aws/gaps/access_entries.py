"""EKS access entries: who may do what in a cluster's Kubernetes."""

import re
import time
import uuid

from ministack.core.responses import get_account_id, get_region
from ministack.services import eks, iam

from . import clusters
from .wire import Refused, json_answer

_PRINCIPAL = re.compile(r"arn:aws:iam::(?P<account>\d{12}):(?:(?P<kind>role|user)/(?:.+/)?(?P<name>[^/]+)|root)")
_POLICY = re.compile(r"arn:aws:eks::aws:cluster-access-policy/[A-Za-z0-9]+")
_TYPES = ("STANDARD", "EC2", "EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "HYBRID_LINUX", "HYPERPOD_LINUX")
# Neither a username nor a group may begin so: Kubernetes and AWS keep these for themselves.
_RESERVED = ("system:", "eks:", "aws:", "amazon:", "iam:")
_MOST_TAGS = 50

# Kept on ministack's own record, with the parameters that came with it.
_TOKEN = "_podgrant_token"


def build(cluster_name, principal_arn, body):
    """AWS: an ARN that names the principal, and a username made of it. Stands in for ministack's function of the same
    work, which also makes the entry of a cluster's creator.
    ministack: an ARN of another form, and no username.
    """
    match = _PRINCIPAL.fullmatch(principal_arn)
    if match and match["kind"]:
        account, kind, name = match["account"], match["kind"], match["name"]
    else:
        account, kind, name = get_account_id(), "root", "root"
    username = f"arn:aws:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}" if kind == "role" else principal_arn
    # Whether a role's path stands here is not known.
    who = f"{kind}/{account}/{name}/{uuid.uuid4()}"
    now = time.time()
    return {
        "clusterName": cluster_name,
        "principalArn": principal_arn,
        "kubernetesGroups": body.get("kubernetesGroups") or [],
        "accessEntryArn": f"arn:aws:eks:{get_region()}:{get_account_id()}:access-entry/{cluster_name}/{who}",
        "createdAt": now,
        "modifiedAt": now,
        "username": body.get("username") or username,
        "type": body.get("type") or "STANDARD",
    }


def create(call):
    """AWS: checks principal, groups and username, and honours clientRequestToken.
    ministack: checks nothing but that there is no such entry, and ignores the token.
    """
    cluster, body = _cluster(call), call.body
    principal_arn, tags = body.get("principalArn") or "", body.get("tags") or {}
    key = eks._ae_key(cluster["name"], principal_arn)
    parameters = {name: value for name, value in body.items() if name != "clientRequestToken"}
    before = eks._access_entries.get(key)
    if before and before.get(_TOKEN) == (body.get("clientRequestToken"), parameters):
        return json_answer({"accessEntry": _shown(before)})

    _check_principal(principal_arn)
    _check_names(body)
    if len(tags) > _MOST_TAGS or any(name.lower().startswith("aws:") for name in tags):
        raise Refused("InvalidParameterException", "The tags are not valid")
    if clusters.status(cluster) != "ACTIVE":
        # Guessed, as with add-ons.
        text = f"Cluster {cluster['name']} is not in ACTIVE state"
        raise Refused("InvalidRequestException", text, clusterName=cluster["name"])
    if before:
        text = "The specified access entry resource is already in use on this cluster."
        raise Refused("ResourceInUseException", text, clusterName=cluster["name"])
    entry = eks._access_entries[key] = build(cluster["name"], principal_arn, body)
    if body.get("clientRequestToken"):
        entry[_TOKEN] = (body["clientRequestToken"], parameters)
    if tags:
        eks._tags[entry["accessEntryArn"]] = dict(tags)
    return json_answer({"accessEntry": _shown(entry)})


def describe(call):
    """AWS: tags as they are now. ministack: the first tags."""
    return json_answer({"accessEntry": _shown(_existing(call))})


def list_entries(call):
    cluster_name, policy = _cluster(call)["name"], call.one("associatedPolicyArn")
    arns = [entry["principalArn"] for entry in eks._access_entries.values() if entry["clusterName"] == cluster_name]
    entries = [
        (arn, arn) for arn in arns if policy is None or eks._ap_key(cluster_name, arn, policy) in eks._access_policies
    ]
    page, token = call.page(entries, f"ListAccessEntries {cluster_name} {policy}")
    return json_answer({"accessEntries": page, "nextToken": token} if token else {"accessEntries": page})


async def delete(call, ministack_answer):
    """AWS: where the cluster knows access entries only. ministack: in every cluster."""
    _existing(call)
    return await ministack_answer()


def associate(call):
    """AWS: checks policy and scope; associating again replaces the scope. ministack: checks less."""
    entry, body = _existing(call), call.body
    # Entries of type EC2, for the nodes of EKS Auto Mode, have a policy too.
    if entry["type"] not in ("STANDARD", "EC2"):
        text = 'This operation can only be performed on Access Entries with a type of "STANDARD".'
        raise Refused("InvalidParameterException", text)
    policy_arn = body.get("policyArn") or ""
    if not _POLICY.fullmatch(policy_arn):
        # Which policies there are is not checked.
        raise Refused("InvalidParameterException", "The specified policyArn is invalid")
    scope = body.get("accessScope") or {}
    kind, namespaces = scope.get("type"), scope.get("namespaces") or []
    # What EKS makes of namespaces with the type cluster is not documented.
    if (kind, bool(namespaces)) not in (("cluster", False), ("namespace", True)):
        raise Refused("InvalidParameterException", "The accessScope is not valid")

    key = eks._ap_key(entry["clusterName"], entry["principalArn"], policy_arn)
    now = time.time()
    policy = eks._access_policies[key] = {
        "policyArn": policy_arn,
        "accessScope": {"type": kind, "namespaces": namespaces},
        "associatedAt": eks._access_policies.get(key, {}).get("associatedAt", now),
        "modifiedAt": now,
    }
    return json_answer({
        "clusterName": entry["clusterName"],
        "principalArn": entry["principalArn"],
        "associatedAccessPolicy": policy,
    })


def list_policies(call):
    entry = _existing(call)
    cluster_name, principal_arn = entry["clusterName"], entry["principalArn"]
    prefix = eks._ap_key(cluster_name, principal_arn, "")
    entries = [
        (policy["policyArn"], policy) for key, policy in eks._access_policies.items() if key.startswith(prefix)
    ]
    page, token = call.page(entries, f"ListAssociatedAccessPolicies {cluster_name} {principal_arn}")
    answer = {"clusterName": cluster_name, "principalArn": principal_arn, "associatedAccessPolicies": page}
    return json_answer({**answer, "nextToken": token} if token else answer)


def _cluster(call):
    cluster = clusters.existing(call.path["name"])
    if clusters.authentication_mode(cluster) == "CONFIG_MAP":
        text = ("The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] "
                "to perform this operation.")
        raise Refused("InvalidRequestException", text, clusterName=cluster["name"])
    return cluster


def _existing(call):
    cluster_name = _cluster(call)["name"]
    entry = eks._access_entries.get(eks._ae_key(cluster_name, call.path["principalArn"]))
    if entry is None:
        text = ("The specified principalArn could not be found. "
                "You can view your available access entries with 'list-access-entries'.")
        raise Refused("ResourceNotFoundException", text, clusterName=cluster_name)
    return entry


def _check_principal(arn):
    match = _PRINCIPAL.fullmatch(arn)
    known = {"role": iam._roles, "user": iam._users}.get(match and match["kind"])
    if match and known is not None and match["account"] == get_account_id():
        found = known.get(match["name"])
        match = found and found["Arn"] == arn
    if not match:
        raise Refused("InvalidParameterException", "The specified principalArn is invalid: invalid principal.")


def _check_names(body):
    kind, groups, username = body.get("type") or "STANDARD", body.get("kubernetesGroups") or [], body.get("username") or ""
    if kind not in _TYPES:
        raise Refused("InvalidParameterException", f"The type {kind} is not valid")
    for prefix in _RESERVED:
        if username.startswith(prefix):
            raise Refused("InvalidParameterException", f"The username must not begin with {prefix}")
        for group in groups:
            if group.startswith(prefix):
                text = f"The kubernetes group name {group} is invalid, it cannot start with {prefix}"
                raise Refused("InvalidParameterException", text)
    # AWS documents it of EC2_LINUX and EC2_WINDOWS; of the other types for nodes it is a guess.
    if kind != "STANDARD" and groups:
        raise Refused("InvalidParameterException", f"An access entry of type {kind} has no kubernetesGroups")


def _shown(entry):
    view = {name: value for name, value in entry.items() if not name.startswith("_")}
    view["tags"] = dict(eks._tags.get(entry["accessEntryArn"], {}))
    return view


def install():
    eks._build_access_entry = build
