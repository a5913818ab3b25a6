"""EKS as a whole: which function answers which operation, and tags on its resources."""

import dataclasses
import json

from ministack.core.responses import get_account_id, get_region
from ministack.services import eks

from . import access_entries, addons, associations, clusters, operations, wire
from .wire import Refused, json_answer


@dataclasses.dataclass(frozen=True)
class Call:
    """One EKS call: its path parameters (decoded), query and body."""

    operation: str
    path: dict
    query: dict
    body: dict

    def one(self, name):
        values = self.query.get(name)
        return values[0] if values else None

    def page(self, entries, listing):
        """A page of (key, item) pairs, by this call's maxResults and nextToken."""
        size = self.one("maxResults") or "100"
        if not size.isdigit() or not 1 <= int(size) <= 100:
            raise Refused("InvalidParameterException", "maxResults must be from 1 to 100")
        try:
            return wire.page_of(entries, int(size), self.one("nextToken"), listing)
        except wire.UnknownToken as error:
            raise Refused("InvalidParameterException", "The nextToken is not valid") from error


def tag_resource(call):
    """AWS: every EKS resource with an ARN can be tagged, and Describe shows the tags.
    ministack: not associations, nor access entries by an ARN of AWS's form.
    """
    arn = _taggable(call.path["resourceArn"])
    eks._tags[arn] = {**eks._tags.get(arn, {}), **call.body.get("tags", {})}
    return json_answer({})


def untag_resource(call):
    """AWS: removes all the tagKeys named. ministack: the first of them."""
    arn = _taggable(call.path["resourceArn"])
    gone = set(call.query.get("tagKeys", []))
    eks._tags[arn] = {name: value for name, value in eks._tags.get(arn, {}).items() if name not in gone}
    return json_answer({})


def list_tags(call):
    return json_answer({"tags": dict(eks._tags.get(_taggable(call.path["resourceArn"]), {}))})


def list_fargate_profiles(call):
    """AWS: a cluster's Fargate profiles. ministack: no such operation, and so no profiles."""
    clusters.existing(call.path["name"])
    return json_answer({"fargateProfileNames": []})


def _taggable(arn):
    for kind, name, known in (
        ("podidentityassociation", "associationArn", eks._pod_identity_associations),
        ("access-entry", "accessEntryArn", eks._access_entries),
    ):
        if arn.startswith(f"arn:aws:eks:{get_region()}:{get_account_id()}:{kind}/"):
            if not any(record[name] == arn for record in known.values()):
                raise Refused("NotFoundException", f"No resource found for ARN: {arn}")
            return arn
    known_arn, error = eks._resolve_tag_resource_arn(arn)
    if error:
        # ministack's codes are those of the other EKS operations; the model gives tag operations their own two.
        code = "NotFoundException" if error[0] == 404 else "BadRequestException"
        raise Refused(code, json.loads(error[2])["message"])
    return known_arn


# Answered here, from ministack's stores.
ANSWERS = {
    "AssociateAccessPolicy": access_entries.associate,
    "CreateAccessEntry": access_entries.create,
    "CreateAddon": addons.create,
    "CreatePodIdentityAssociation": associations.create,
    "DeleteAddon": addons.delete,
    "DeletePodIdentityAssociation": associations.delete,
    "DescribeAccessEntry": access_entries.describe,
    "DescribeAddon": addons.describe,
    "DescribeAddonConfiguration": addons.describe_configuration,
    "DescribeAddonVersions": addons.describe_versions,
    "DescribeCluster": clusters.describe,
    "DescribePodIdentityAssociation": associations.describe,
    "ListAccessEntries": access_entries.list_entries,
    "ListAddons": addons.list_addons,
    "ListAssociatedAccessPolicies": access_entries.list_policies,
    "ListClusters": clusters.list_clusters,
    "ListFargateProfiles": list_fargate_profiles,
    "ListPodIdentityAssociations": associations.list_associations,
    "ListTagsForResource": list_tags,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateAddon": addons.update,
    "UpdatePodIdentityAssociation": associations.update,
}

# Answered by ministack, and then put right.
CORRECTIONS = {
    "CreateCluster": clusters.create,
    "DeleteAccessEntry": access_entries.delete,
    "DeleteCluster": clusters.delete,
}


class Handler:
    """Stands where ministack's own EKS handler stood: below its authorization, above its stores."""

    def __init__(self, original):
        self._original = original

    async def __call__(self, method, path, headers, body, query):
        operation, in_path = operations.eks_operation(method, path)
        answer, correction = ANSWERS.get(operation), CORRECTIONS.get(operation)
        if answer is None and correction is None:
            return await self._original(method, path, headers, body, query)
        try:
            call = Call(operation, in_path, query, _document(body))
            if answer:
                return answer(call)
            return await correction(call, lambda: self._original(method, path, headers, body, query))
        except Refused as refused:
            return refused.answer()


def _document(body):
    try:
        document = json.loads(body or b"{}")
    except ValueError as error:
        raise Refused("InvalidParameterException", "The body is not JSON") from error
    if not isinstance(document, dict):
        raise Refused("InvalidParameterException", "The body is not a JSON object")
    return document


def install(handlers):
    handlers["eks"] = Handler(handlers["eks"])
