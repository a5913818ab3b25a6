"""EKS add-ons: the versions there are, creation that takes its time, health, and the associations an add-on owns."""

import dataclasses
import json
import time
import uuid

from ministack.core.responses import get_account_id, get_region
from ministack.services import eks

from . import associations, clusters, configuration, state
from .wire import Refused, json_answer


@dataclasses.dataclass(frozen=True)
class Version:
    name: str
    clusters: tuple
    default_for: tuple = ()
    compute_types: tuple = ("ec2", "hybrid")


@dataclasses.dataclass(frozen=True)
class Addon:
    type: str
    namespace: str
    versions: tuple  # newest first, as AWS lists them

    def default_for(self, kubernetes_version):
        for version in self.versions:
            if kubernetes_version in version.default_for:
                return version.name
        return None

    def runs(self, version_name, kubernetes_version):
        return any(v.name == version_name and kubernetes_version in v.clusters for v in self.versions)


def _minors(first, last):
    return tuple(f"1.{minor}" for minor in range(first, last + 1))


# A small, fixed world. As in AWS the newest version is not always the default one, and old ones fit old clusters only.
CATALOGUE = {
    "eks-pod-identity-agent": Addon("security", "kube-system", (
        Version("v1.3.10-eksbuild.1", _minors(31, 34)),
        Version("v1.3.8-eksbuild.2", _minors(28, 34), _minors(31, 34)),
        Version("v1.3.4-eksbuild.1", _minors(28, 33), _minors(28, 30)),
        Version("v1.2.0-eksbuild.1", _minors(24, 31), _minors(24, 27), ("ec2",)),
        Version("v1.0.0-eksbuild.1", _minors(24, 30), (), ("ec2",)),
    )),
    "vpc-cni": Addon("networking", "kube-system", (
        Version("v1.20.1-eksbuild.3", _minors(30, 34), _minors(30, 34), ("ec2",)),
        Version("v1.19.0-eksbuild.1", _minors(24, 32), _minors(24, 29), ("ec2",)),
    )),
    "coredns": Addon("networking", "kube-system", (
        Version("v1.12.1-eksbuild.2", _minors(31, 34), _minors(31, 34), ("ec2", "fargate", "hybrid")),
        Version("v1.11.4-eksbuild.2", _minors(24, 32), _minors(24, 30), ("ec2", "fargate")),
    )),
}

# Kept on ministack's own add-on record.
_CHANGED = "_podgrant_changed"
_CHANGING = "_podgrant_changing"


def describe_versions(call):
    """AWS: the versions there are, with the cluster versions each fits and for which it is the default.
    ministack: no such operation.
    """
    wanted_name, wanted_cluster = call.one("addonName"), call.one("kubernetesVersion")
    entries = []
    for name, addon in CATALOGUE.items():
        if wanted_name not in (None, name):
            continue
        versions = [_version_shown(version, wanted_cluster) for version in addon.versions
                    if wanted_cluster is None or wanted_cluster in version.clusters]
        if versions:
            entries.append((name, {
                "addonName": name,
                "type": addon.type,
                "publisher": "eks",
                "owner": "aws",
                "defaultNamespace": addon.namespace,
                "addonVersions": versions,
            }))
    page, token = call.page(entries, "DescribeAddonVersions")
    return json_answer({"addons": page, "nextToken": token} if token else {"addons": page})


def _version_shown(version, wanted_cluster):
    fits = [minor for minor in reversed(version.clusters) if wanted_cluster in (None, minor)]
    return {
        "addonVersion": version.name,
        "architecture": ["amd64", "arm64"],
        "computeTypes": list(version.compute_types),
        "compatibilities": [
            {"clusterVersion": minor, "platformVersions": ["*"], "defaultVersion": minor in version.default_for}
            for minor in fits
        ],
        "requiresConfiguration": False,
        "requiresIamPermissions": False,
    }


def describe_configuration(call):
    """AWS: the JSON schema that an add-on's configurationValues must fit.
    ministack: no such operation. Here the agent has one in the form that EKS has, and the others take any object.
    """
    name, version = call.one("addonName"), call.one("addonVersion")
    addon = CATALOGUE.get(name)
    if addon is None or not any(known.name == version for known in addon.versions):
        raise Refused("ResourceNotFoundException", f"No configuration found for add-on {name} version {version}")
    return json_answer({
        "addonName": name,
        "addonVersion": version,
        "configurationSchema": json.dumps(configuration.schema(name)),
        "podIdentityConfiguration": [],
    })


def create(call):
    """AWS: refuses unknown names and versions, clusters not ready, and configuration that does not fit the add-on's
    schema; takes the default version where none is named.
    ministack: takes anything, at once ACTIVE.
    """
    cluster_name, name = call.path["name"], call.body.get("addonName", "")
    cluster = clusters.existing(cluster_name)
    if clusters.status(cluster) != "ACTIVE":
        # The code is the one whose documented meaning fits ("invalid given the state of the cluster"). The text is ours.
        raise Refused("InvalidRequestException", f"Cluster {cluster_name} is not in ACTIVE state", clusterName=cluster_name)
    version = _version_for(cluster, name, call.body.get("addonVersion"))
    configuration.check(name, call.body.get("configurationValues"))
    key = f"{cluster_name}/{name}"
    if key in eks._addons:
        raise Refused("ResourceInUseException", "Addon already exists.", clusterName=cluster_name, addonName=name)

    now = time.time()
    arn = f"arn:aws:eks:{get_region()}:{get_account_id()}:addon/{cluster_name}/{name}/{uuid.uuid4()}"
    record = {
        "addonName": name,
        "clusterName": cluster_name,
        "addonVersion": version,
        "addonArn": arn,
        "createdAt": now,
        "modifiedAt": now,
        _CHANGED: now,
        _CHANGING: "CREATING",
    }
    _take_over(record, call.body, ("serviceAccountRoleArn", "configurationValues"))
    _own_associations(record, call.body.get("podIdentityAssociations") or [])
    eks._addons[key] = record
    if call.body.get("tags"):
        eks._tags[arn] = dict(call.body["tags"])
    return json_answer({"addon": _shown(record, "CREATING")})


def describe(call):
    record = _existing(call)
    return json_answer({"addon": _shown(record, _status(record))})


def list_addons(call):
    cluster_name = call.path["name"]
    clusters.existing(cluster_name)
    entries = [(record["addonName"], record["addonName"]) for key, record in eks._addons.items()
               if key.startswith(f"{cluster_name}/")]
    names, token = call.page(entries, f"ListAddons {cluster_name}")
    return json_answer({"addons": names, "nextToken": token} if token else {"addons": names})


def update(call):
    """AWS: validated; UPDATING for a while; an empty podIdentityAssociations deletes those that the add-on owns.
    ministack: takes anything, at once ACTIVE.
    """
    record = _existing(call)
    if _status(record) in ("CREATING", "UPDATING"):
        raise Refused("ResourceInUseException", f"Addon {record['addonName']} is being changed", addonName=record["addonName"])
    configuration.check(record["addonName"], call.body.get("configurationValues"))
    if call.body.get("addonVersion"):
        cluster = clusters.existing(record["clusterName"])
        record["addonVersion"] = _version_for(cluster, record["addonName"], call.body["addonVersion"])
    _take_over(record, call.body, ("serviceAccountRoleArn", "configurationValues"))
    if "podIdentityAssociations" in call.body:
        associations.delete_owned_by(record["addonArn"])
        _own_associations(record, call.body["podIdentityAssociations"])
    record["modifiedAt"] = record[_CHANGED] = time.time()
    record[_CHANGING] = "UPDATING"
    return json_answer({"update": {
        "id": str(uuid.uuid4()),
        "status": "InProgress",
        "type": "AddonUpdate",
        "params": [{"type": "AddonVersion", "value": record["addonVersion"]}],
        "createdAt": record["modifiedAt"],
        "errors": [],
    }})


def delete(call):
    """AWS: DELETING for a while. Here, as in ministack, it is gone at once; and so are the associations it owns."""
    record = _existing(call)
    eks._addons.pop(f"{record['clusterName']}/{record['addonName']}", None)
    view = _shown(record, "DELETING")
    eks._tags.pop(record["addonArn"], None)
    associations.delete_owned_by(record["addonArn"])
    return json_answer({"addon": view})


def _existing(call):
    cluster_name, name = call.path["name"], call.path["addonName"]
    clusters.existing(cluster_name)
    record = eks._addons.get(f"{cluster_name}/{name}")
    if record is None:
        raise Refused("ResourceNotFoundException", f"No addon: {name} found in cluster: {cluster_name}",
                      clusterName=cluster_name, addonName=name)
    return record


def _version_for(cluster, name, wanted):
    kubernetes_version = cluster["version"]
    addon = CATALOGUE.get(name)
    if addon is None:
        raise Refused("InvalidParameterException", "Addon specified is not supported", addonName=name)
    if wanted:
        if not addon.runs(wanted, kubernetes_version):
            raise Refused("InvalidParameterException", "Addon version specified is not supported", addonName=name)
        return wanted
    default = addon.default_for(kubernetes_version)
    if default is None:
        text = f"Addon {name} specified is not supported in {kubernetes_version} kubernetes version"
        raise Refused("InvalidParameterException", text, addonName=name)
    return default


def _status(record):
    health = _health(record)
    if time.time() - record[_CHANGED] < state.setting("addonCreatingSeconds", get_account_id()):
        return record[_CHANGING]
    return health.get("status", "ACTIVE")


def _health(record):
    return state.setting("addonHealth", get_account_id()).get(f"{record['clusterName']}/{record['addonName']}", {})


def _shown(record, status_now):
    view = {name: value for name, value in record.items() if not name.startswith("_")}
    view["status"] = status_now
    view["tags"] = dict(eks._tags.get(record["addonArn"], {}))
    view["health"] = {"issues": _health(record).get("issues", [])}
    view["namespaceConfig"] = {"namespace": CATALOGUE[record["addonName"]].namespace}
    owned = associations.owned_by(record["addonArn"])
    if owned:
        view["podIdentityAssociations"] = [association["associationArn"] for association in owned]
    return view


def _take_over(record, body, names):
    for name in names:
        if body.get(name):
            record[name] = body[name]


def _own_associations(record, wanted):
    namespace = CATALOGUE[record["addonName"]].namespace
    for association in wanted:
        associations.make(
            record["clusterName"], namespace, association["serviceAccount"], association["roleArn"],
            ownerArn=record["addonArn"],
        )
