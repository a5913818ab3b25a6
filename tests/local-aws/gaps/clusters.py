"""EKS clusters: creation that takes its time, tags as they are now, paging."""

import base64
import json
import time

from ministack.core.responses import get_account_id
from ministack.services import eks

from . import state
from .wire import Refused, json_answer

# Kept on ministack's own cluster record; it shows no name that begins with an underscore.
_CREATED = "_podgrant_created"
_OUTCOME = "_podgrant_outcome"

_CA = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nlocal\n-----END CERTIFICATE-----\n").decode()


def existing(name):
    cluster = eks._clusters.get(name)
    if cluster is None:
        raise Refused("ResourceNotFoundException", f"No cluster found for name: {name}.", clusterName=name)
    return cluster


def status(cluster):
    """The cluster's status now. Once creation has ended, its outcome stands."""
    if _OUTCOME not in cluster:
        account = get_account_id()
        age = time.time() - cluster.get(_CREATED, 0)
        if age < state.setting("clusterCreatingSeconds", account):
            return "CREATING"
        fails = cluster["name"] in state.setting("clusterFails", account)
        cluster[_OUTCOME] = "FAILED" if fails else "ACTIVE"
    return cluster[_OUTCOME]


def authentication_mode(cluster):
    """AWS: CONFIG_MAP where the API makes a cluster, API_AND_CONFIG_MAP where its console does. Here the console's.
    ministack: none.
    """
    return cluster["accessConfig"].get("authenticationMode") or "API_AND_CONFIG_MAP"


def shown(cluster, status_now):
    """AWS: endpoint and certificateAuthority only once ACTIVE; `tags` follow TagResource; accessConfig with its mode.
    ministack: both at once, the tags of the creation for ever, and accessConfig as it was sent.
    """
    view = {name: value for name, value in cluster.items() if not name.startswith("_")}
    view["status"] = status_now
    view["tags"] = dict(eks._tags.get(cluster["arn"], {}))
    view["health"] = {"issues": []}
    view["accessConfig"] = {**cluster["accessConfig"], "authenticationMode": authentication_mode(cluster)}
    if status_now == "ACTIVE":
        own = state.setting("clusterEndpoint", get_account_id()).get(cluster["name"], {})
        view["endpoint"] = own.get("endpoint", view["endpoint"])
        view["certificateAuthority"] = {"data": own.get("certificateAuthority", _CA)}
    else:
        view.pop("endpoint", None)
        view.pop("certificateAuthority", None)
    return view


async def create(call, ministack_answer):
    """AWS: a cluster is CREATING for ten minutes, and some end FAILED; its mode and its endpoint's reach are checked.
    ministack: it is ACTIVE within milliseconds; they are not.
    """
    mode = (call.body.get("accessConfig") or {}).get("authenticationMode")
    if mode not in (None, "API", "API_AND_CONFIG_MAP", "CONFIG_MAP"):
        raise Refused("InvalidParameterException", f"The authenticationMode {mode} is not valid")
    reach = call.body.get("resourcesVpcConfig") or {}
    if not reach.get("endpointPublicAccess", True) and not reach.get("endpointPrivateAccess", False):
        raise Refused("InvalidParameterException", "Private and public endpoint access cannot be false")
    answer = await ministack_answer()
    if answer[0] != 200:
        return answer
    cluster = existing(call.body["name"])
    cluster[_CREATED] = time.time()
    return json_answer({"cluster": shown(cluster, "CREATING")})


def describe(call):
    cluster = existing(call.path["name"])
    return json_answer({"cluster": shown(cluster, status(cluster))})


def list_clusters(call):
    names, token = call.page([(name, name) for name in eks._clusters.keys()], "ListClusters")
    return json_answer({"clusters": names, "nextToken": token} if token else {"clusters": names})


async def delete(call, ministack_answer):
    """AWS: a cluster takes its add-ons along, and can't be deleted while it has node groups.
    ministack: the add-ons stay, and show up in the next cluster of that name; node groups are no hindrance.
    """
    name = call.path["name"]
    cluster = existing(name)
    if any(key.startswith(f"{name}/") for key in eks._nodegroups.keys()):
        raise Refused("ResourceInUseException", "Cluster has nodegroups attached", clusterName=name)
    view = shown(cluster, "DELETING")
    answer = await ministack_answer()
    if answer[0] != 200:
        return answer
    for key in [key for key in eks._addons.keys() if key.startswith(f"{name}/")]:
        addon = eks._addons.pop(key)
        eks._tags.pop(addon["addonArn"], None)
    return json_answer({"cluster": {**json.loads(answer[2])["cluster"], **view}})
