"""EKS pod identity associations: checks, idempotent creation, owners, tags."""

import fnmatch
import json
import re
import secrets
import string
import time
import uuid

from ministack.core.responses import get_account_id, get_region
from ministack.services import eks, iam

from . import clusters
from .wire import Refused, json_answer

_POD_SERVICE = "pods.eks.amazonaws.com"
_ID_LETTERS = string.ascii_lowercase + string.digits
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MOST_TAGS = 50
_MOST_PER_CLUSTER = 5000

# Kept on ministack's own association record, with the parameters that came with it.
_TOKEN = "_podgrant_token"


def create(call):
    """AWS: checks the role and its trust policy, names the association that is in the way, honours clientRequestToken.
    ministack: checks nothing but that namespace and service account are free, and ignores the token.
    """
    cluster_name, body = call.path["name"], call.body
    clusters.existing(cluster_name)
    for name in ("namespace", "serviceAccount", "roleArn"):
        if not body.get(name):
            raise Refused("InvalidParameterException", f"{name} is required")

    parameters = {name: value for name, value in body.items() if name != "clientRequestToken"}
    token = body.get("clientRequestToken")
    for association in _of_cluster(cluster_name):
        if token and association.get(_TOKEN, (None,))[0] == token:
            if association[_TOKEN][1] != parameters:
                # The code is not documented for EKS. What matters is that it is refused, and not as a conflict.
                text = "The clientRequestToken was used before, with other parameters"
                raise Refused("InvalidParameterException", text)
            return json_answer({"association": shown(association)})

    association = make(
        cluster_name, body["namespace"], body["serviceAccount"], body["roleArn"],
        tags=body.get("tags") or {},
        disableSessionTags=bool(body.get("disableSessionTags")),
        targetRoleArn=body.get("targetRoleArn"),
        policy=body.get("policy"),
    )
    if token:
        association[_TOKEN] = (token, parameters)
    return json_answer({"association": shown(association)})


def make(cluster_name, namespace, service_account, role_arn, tags=None, disableSessionTags=False, **optional):
    """Checks and stores an association. Members that are not given are left out, as AWS leaves them out."""
    tags = tags or {}
    if len(namespace) > 63 or not _DNS_LABEL.fullmatch(namespace):
        raise Refused("InvalidParameterException", f"The namespace {namespace!r} is not valid")
    if len(service_account) > 253 or not all(_DNS_LABEL.fullmatch(part) for part in service_account.split(".")):
        raise Refused("InvalidParameterException", f"The service account {service_account!r} is not valid")
    if len(tags) > _MOST_TAGS or any(name.lower().startswith("aws:") for name in tags):
        raise Refused("InvalidParameterException", "The tags are not valid")
    _check_role(role_arn)
    _check_policy(optional.get("policy"), disableSessionTags)
    taken = _of_cluster(cluster_name)
    for association in taken:
        if (association["namespace"], association["serviceAccount"]) == (namespace, service_account):
            raise Refused("ResourceInUseException", f"Association already exists: {association['associationId']}")
    if len(taken) >= _MOST_PER_CLUSTER:
        raise Refused("ResourceLimitExceededException", "The cluster has as many associations as it may have")

    association_id = "a-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(17))
    arn = f"arn:aws:eks:{get_region()}:{get_account_id()}:podidentityassociation/{cluster_name}/{association_id}"
    now = time.time()
    association = {
        "clusterName": cluster_name,
        "namespace": namespace,
        "serviceAccount": service_account,
        "roleArn": role_arn,
        "associationArn": arn,
        "associationId": association_id,
        "createdAt": now,
        "modifiedAt": now,
        "disableSessionTags": disableSessionTags,
        **{name: value for name, value in optional.items() if value},
    }
    if association.get("targetRoleArn"):
        association["externalId"] = str(uuid.uuid4())
    eks._pod_identity_associations[eks._pia_key(cluster_name, association_id)] = association
    if tags:
        eks._tags[arn] = dict(tags)
    return association


def describe(call):
    return json_answer({"association": shown(_existing(call))})


def list_associations(call):
    cluster_name = call.path["name"]
    clusters.existing(cluster_name)
    namespace, service_account = call.one("namespace"), call.one("serviceAccount")
    entries = [
        (association["associationId"], _summary(association))
        for association in _of_cluster(cluster_name)
        if namespace in (None, association["namespace"]) and service_account in (None, association["serviceAccount"])
    ]
    page, token = call.page(entries, f"ListPodIdentityAssociations {cluster_name} {namespace} {service_account}")
    return json_answer({"associations": page, "nextToken": token} if token else {"associations": page})


def update(call):
    """AWS: an empty targetRoleArn clears it; role and policy are checked as at creation.
    ministack: leaves the target role as it was, and checks nothing.
    """
    association, body = _existing(call), call.body
    if body.get("roleArn"):
        _check_role(body["roleArn"])
    disable = bool(body.get("disableSessionTags", association["disableSessionTags"]))
    policy = body.get("policy", association.get("policy"))
    _check_policy(policy, disable)

    if body.get("roleArn"):
        association["roleArn"] = body["roleArn"]
    association["disableSessionTags"] = disable
    _set_or_clear(association, "policy", policy)
    if "targetRoleArn" in body:
        _set_or_clear(association, "targetRoleArn", body["targetRoleArn"])
        if association.get("targetRoleArn"):
            association.setdefault("externalId", str(uuid.uuid4()))
        else:
            association.pop("externalId", None)
    association["modifiedAt"] = time.time()
    return json_answer({"association": shown(association)})


def delete(call):
    association = _existing(call)
    view = shown(association)
    _remove(association)
    return json_answer({"association": view})


def owned_by(owner_arn):
    return [a for a in eks._pod_identity_associations.values() if a.get("ownerArn") == owner_arn]


def delete_owned_by(owner_arn):
    for association in owned_by(owner_arn):
        _remove(association)


def shown(association):
    """AWS: tags as they are now, and no ownerArn where nothing owns it. ministack: the first tags, and ownerArn ""."""
    view = {name: value for name, value in association.items() if not name.startswith("_")}
    view["tags"] = dict(eks._tags.get(association["associationArn"], {}))
    return view


def _summary(association):
    names = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId", "ownerArn")
    return {name: association[name] for name in names if name in association}


def _of_cluster(cluster_name):
    return [a for a in eks._pod_identity_associations.values() if a["clusterName"] == cluster_name]


def _existing(call):
    cluster_name, association_id = call.path["name"], call.path["associationId"]
    clusters.existing(cluster_name)
    if len(association_id) != 19:
        text = "The parameter associationId should be 19 characters long."
        raise Refused("InvalidParameterException", text)
    association = eks._pod_identity_associations.get(eks._pia_key(cluster_name, association_id))
    if association is None:
        raise Refused("ResourceNotFoundException", f"No association found for ID: {association_id}")
    return association


def _remove(association):
    eks._pod_identity_associations.pop(eks._pia_key(association["clusterName"], association["associationId"]), None)
    eks._tags.pop(association["associationArn"], None)


def _set_or_clear(record, name, value):
    if value:
        record[name] = value
    else:
        record.pop(name, None)


def _check_role(role_arn):
    role = iam._roles.get(role_arn.rsplit("/", 1)[-1])
    if role is None or role["Arn"] != role_arn:
        raise Refused("InvalidParameterException", "Role provided in the request does not exist.")
    if not _trusts_pods(role.get("AssumeRolePolicyDocument") or "{}"):
        raise Refused("InvalidParameterException", "Trust policy of the role provided is invalid.")


def _check_policy(policy, disable_session_tags):
    if policy and not disable_session_tags:
        raise Refused("InvalidParameterException", "A policy needs disableSessionTags to be true")


def _trusts_pods(document):
    """Whether some statement lets the pod identity service assume the role.

    Whether AWS asks for sts:TagSession here as well is not known, so it is not asked for.
    """
    try:
        statements = json.loads(document).get("Statement", [])
    except (ValueError, AttributeError):
        return False
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = ["*"] if principal == "*" else _as_list(principal.get("Service", []))
        actions = _as_list(statement.get("Action", []))
        if (
            statement.get("Effect") == "Allow"
            and (_POD_SERVICE in services or "*" in services)
            and any(fnmatch.fnmatchcase("sts:assumerole", action.lower()) for action in actions)
        ):
            return True
    return False


def _as_list(value):
    return value if isinstance(value, list) else [value]
