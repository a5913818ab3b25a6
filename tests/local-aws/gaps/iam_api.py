"""IAM's listings: pages, and no more in them than AWS shows."""

import xml.etree.ElementTree as ElementTree

from . import operations, wire
from .wire import IAM_NAMESPACE

_NS = f"{{{IAM_NAMESPACE}}}"
ElementTree.register_namespace("", IAM_NAMESPACE)

# The lists of each operation in the order AWS fills its pages, and what names their members.
_LISTS = {
    "ListRoles": {"Roles": "RoleName"},
    "GetAccountAuthorizationDetails": {
        "UserDetailList": "UserName",
        "GroupDetailList": "GroupName",
        "RoleDetailList": "RoleName",
        "Policies": "Arn",
    },
}
# GetRole shows these; ListRoles does not.
_NOT_IN_LIST_ROLES = ("Tags", "PermissionsBoundary", "RoleLastUsed")


class Handler:
    """AWS: at most MaxItems (100 unless said) a page with IsTruncated and Marker; ListRoles shows no tags.
    ministack: all at once, whatever MaxItems says, and ListRoles shows tags.
    """

    def __init__(self, original):
        self._original = original

    async def __call__(self, method, path, headers, body, query):
        answer = await self._original(method, path, headers, body, query)
        parameters = operations.query_parameters(body, query)
        operation = parameters.get("Action")
        if operation not in _LISTS or answer[0] != 200:
            return answer
        return _page(operation, parameters, answer)


def _page(operation, parameters, answer):
    size = parameters.get("MaxItems", "100")
    if not size.isdigit() or not 1 <= int(size) <= 1000:
        return wire.xml_error(400, "ValidationError", "maxItems must be from 1 to 1000")
    status, headers, body = answer
    root = ElementTree.fromstring(body)
    result = root.find(f"{_NS}{operation}Result")
    entries = []
    for position, (list_name, key_name) in enumerate(_LISTS[operation].items()):
        for member in result.find(_NS + list_name):
            entries.append(([position, member.findtext(_NS + key_name)], (list_name, member)))
    try:
        page, marker = wire.page_of(entries, int(size), parameters.get("Marker"), operation)
    except wire.UnknownToken:
        return wire.xml_error(400, "ValidationError", "Invalid Marker.")

    for list_name in _LISTS[operation]:
        members = result.find(_NS + list_name)
        members[:] = [member for name, member in page if name == list_name]
        if operation == "ListRoles":
            for member in members:
                for hidden in _NOT_IN_LIST_ROLES:
                    for element in member.findall(_NS + hidden):
                        member.remove(element)
    result.find(f"{_NS}IsTruncated").text = "true" if marker else "false"
    if marker:
        ElementTree.SubElement(result, f"{_NS}Marker").text = marker
    return status, headers, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def install(handlers):
    handlers["iam"] = Handler(handlers["iam"])
