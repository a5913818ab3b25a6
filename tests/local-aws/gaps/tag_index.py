"""Resource Groups Tagging: EKS resources, and pages."""

import json

from ministack.services import eks, tagging

from . import wire

_OPERATION = "GetResources"
# AWS's default is not documented; its largest page is 100.
_DEFAULT_PAGE = 50


def eks_resources():
    """AWS: GetResources lists tagged clusters, add-ons, associations and access entries of the region
    asked.
    ministack: nothing of EKS.
    """
    # Tags live in one store for all regions; the resources live by region, so start from these.
    arns = [cluster["arn"] for cluster in eks._clusters.values()]
    arns += [addon["addonArn"] for addon in eks._addons.values()]
    arns += [association["associationArn"] for association in eks._pod_identity_associations.values()]
    arns += [entry["accessEntryArn"] for entry in eks._access_entries.values()]
    for arn in arns:
        tags = eks._tags.get(arn)
        if tags:
            yield arn, [{"Key": key, "Value": value} for key, value in tags.items()]


class Handler:
    """AWS: GetResources shows ResourcesPerPage (at most 100) and a PaginationToken.
    ministack: everything at once.
    """

    def __init__(self, original):
        self._original = original

    async def __call__(self, method, path, headers, body, query):
        if not headers.get("x-amz-target", "").endswith(f".{_OPERATION}"):
            return await self._original(method, path, headers, body, query)
        asked = json.loads(body or b"{}")
        size, token = asked.get("ResourcesPerPage", _DEFAULT_PAGE), asked.get("PaginationToken")
        if not isinstance(size, int) or not 1 <= size <= 100:
            return wire.json_error(400, "InvalidParameterException", "ResourcesPerPage must be from 1 to 100")
        status, answer_headers, found = await self._original(method, path, headers, body, query)
        if status != 200:
            return status, answer_headers, found
        document = json.loads(found)
        entries = [(mapping["ResourceARN"], mapping) for mapping in document["ResourceTagMappingList"]]
        listing = json.dumps([_OPERATION, asked.get("TagFilters"), asked.get("ResourceTypeFilters")])
        try:
            page, following = wire.page_of(entries, size, token, listing)
        except wire.UnknownToken:
            return wire.json_error(400, "InvalidParameterException", "The PaginationToken is not valid")
        document.update(ResourceTagMappingList=page, PaginationToken=following or "")
        return status, answer_headers, json.dumps(document).encode()


def install(handlers):
    tagging._COLLECTORS["eks"] = eks_resources
    handlers["tagging"] = Handler(handlers["tagging"])
