"""IAM's answers about roles: pages, and what AWS shows in them."""

import xml.etree.ElementTree as ElementTree

from ministack.core.responses import get_account_id
from ministack.services import iam

from . import operations, state, wire
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
    """Stands where ministack's own IAM handler stood, and edits some of its answers."""

    def __init__(self, original):
        self._original = original

    async def __call__(self, method, path, headers, body, query):
        answer = await self._original(method, path, headers, body, query)
        parameters = operations.query_parameters(body, query)
        operation = parameters.get("Action")
        if answer[0] != 200:
            return answer
        if operation in ("GetRole", "GetAccountAuthorizationDetails"):
            answer = _with_role_details(operation, answer)
        if operation in _LISTS:
            answer = _page(operation, parameters, answer)
        return answer


def _with_role_details(operation, answer):
    """AWS: GetRole and GetAccountAuthorizationDetails show RoleLastUsed, empty where unused, and PermissionsBoundary.
    ministack: never RoleLastUsed, and the boundary in GetRole only.
    """
    status, headers, body = answer
    root = ElementTree.fromstring(body)
    last_used = state.setting("roleLastUsed", get_account_id())
    for role in root.iterfind(f".//{_NS}Role" if operation == "GetRole" else f".//{_NS}RoleDetailList/{_NS}member"):
        name = role.findtext(f"{_NS}RoleName")
        used = ElementTree.SubElement(role, f"{_NS}RoleLastUsed")
        if name in last_used:
            ElementTree.SubElement(used, f"{_NS}LastUsedDate").text = last_used[name]["date"]
            ElementTree.SubElement(used, f"{_NS}Region").text = last_used[name]["region"]
        boundary = (iam._roles.get(name) or {}).get("PermissionsBoundary")
        if boundary and role.find(f"{_NS}PermissionsBoundary") is None:
            element = ElementTree.SubElement(role, f"{_NS}PermissionsBoundary")
            ElementTree.SubElement(element, f"{_NS}PermissionsBoundaryType").text = "PermissionsBoundaryPolicy"
            ElementTree.SubElement(element, f"{_NS}PermissionsBoundaryArn").text = boundary
    return status, headers, _serialized(root)


def _serialized(root):
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _page(operation, parameters, answer):
    """AWS: at most MaxItems (100 unless said) a page with IsTruncated and Marker; ListRoles shows no tags.
    ministack: all at once, whatever MaxItems says, and ListRoles shows tags.
    """
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
    return status, headers, _serialized(root)


def install(handlers):
    handlers["iam"] = Handler(handlers["iam"])
