"""Which operation an HTTP request is, and its parameters, read with botocore's service models."""

import datetime
import functools
import json
import re
import urllib.parse

import botocore.parsers
import botocore.session

_URI_PARAMETER = re.compile(r"\{(\w+)\+?\}")


@functools.cache
def model(service):
    return botocore.session.get_session().get_service_model(service)


@functools.cache
def _eks_routes():
    """(method, pattern, operation), the routes with most literal text first: a parameter that is an ARN takes slashes."""
    routes = []
    for name in model("eks").operation_names:
        http = model("eks").operation_model(name).http
        uri = http["requestUri"].split("?")[0]
        pattern = _URI_PARAMETER.sub(
            lambda match: f"(?P<{match[1]}>{'.+?' if match[1].lower().endswith('arn') else '[^/]+'})", uri
        )
        literal = len(_URI_PARAMETER.sub("", uri))
        routes.append((literal, http["method"], re.compile(pattern), name))
    routes.sort(key=lambda route: -route[0])
    return [(method, pattern, name) for _, method, pattern, name in routes]


def eks_operation(method, path):
    """(operation, path parameters), or (None, {}) for a path that is not EKS's. The path is already percent-decoded."""
    for route_method, pattern, name in _eks_routes():
        match = pattern.fullmatch(path) if route_method == method else None
        if match:
            return name, match.groupdict()
    return None, {}


def query_parameters(body, query):
    """The flat parameters of a query-protocol call (IAM, STS, …), from its body and its query string."""
    flat = {name: values[0] for name, values in query.items()}
    flat.update(urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    return flat


def operation_name(service, method, path, headers, body, query):
    """The operation's name as AWS documents it, or "GET /path" where it can't be told."""
    if service == "eks":
        name, _ = eks_operation(method, path)
        return name or f"{method} {path}"
    target = headers.get("x-amz-target", "")
    if "." in target:
        return target.rsplit(".", 1)[1]
    action = query.get("Action")
    if action:
        return action[0]
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        action = query_parameters(body, {}).get("Action")
        if action:
            return action
    return f"{method} {path}"


def iam_request(operation, flat):
    """The parameters of an IAM call as CloudTrail writes them: nested, camelCase."""
    shape = model("iam").operation_model(operation).input_shape
    return _nested(shape, flat, "") if shape else {}


def _nested(shape, flat, prefix):
    nested = {}
    for name, member in shape.members.items():
        key = prefix + name
        if member.type_name == "list":
            items = _nested_list(member.member, flat, f"{key}.member.")
            if items:
                nested[camel_case(name)] = items
        elif member.type_name == "structure":
            inner = _nested(member, flat, f"{key}.")
            if inner:
                nested[camel_case(name)] = inner
        elif key in flat:
            nested[camel_case(name)] = _scalar(member, flat[key])
    return nested


def _nested_list(member, flat, prefix):
    numbers = sorted({int(rest) for rest in (name[len(prefix):].split(".")[0] for name in flat
                                            if name.startswith(prefix)) if rest.isdigit()})
    if member.type_name == "structure":
        return [_nested(member, flat, f"{prefix}{number}.") for number in numbers]
    return [_scalar(member, flat[f"{prefix}{number}"]) for number in numbers if f"{prefix}{number}" in flat]


def _scalar(shape, text):
    if shape.type_name == "integer":
        return int(text) if text.lstrip("-").isdigit() else text
    if shape.type_name == "boolean":
        return text == "true"
    return text


def iam_response(operation, answer):
    """The response elements of an IAM call as CloudTrail writes them, or None where there are none."""
    shape = model("iam").operation_model(operation).output_shape
    if shape is None:
        return None
    status, headers, body = answer
    parser = botocore.parsers.create_parser("query")
    parsed = parser.parse({"status_code": status, "headers": headers, "body": body}, shape)
    parsed.pop("ResponseMetadata", None)
    return _trail_form(parsed) or None


def _trail_form(value):
    if isinstance(value, dict):
        return {camel_case(name): _trail_form(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_trail_form(inner) for inner in value]
    if isinstance(value, datetime.datetime):
        return f"{value:%b} {value.day}, {value.year} {value.hour % 12 or 12}:{value:%M:%S %p}"
    return value


def error_of(service, answer):
    """(code, message) of a failed answer. With IAM's codes as CloudTrail has them: NoSuchEntityException."""
    status, headers, body = answer
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else ""
    if service == "iam" or text.lstrip().startswith("<"):
        code = _between(text, "<Code>", "</Code>") or str(status)
        return _iam_exceptions().get(code, code), _between(text, "<Message>", "</Message>") or ""
    try:
        document = json.loads(text or "{}")
    except ValueError:
        document = {}
    named = {name.lower(): value for name, value in headers.items()}.get("x-amzn-errortype")
    code = named or document.get("__type") or str(status)
    return code.split(":")[0].rsplit("#", 1)[-1], document.get("message") or document.get("Message") or ""


@functools.cache
def _iam_exceptions():
    """IAM's error codes on the wire (NoSuchEntity) → the names of their exceptions (NoSuchEntityException)."""
    return {shape.error_code: shape.name for shape in model("iam").error_shapes}


def _between(text, start, end):
    _, found, rest = text.partition(start)
    return rest.partition(end)[0] if found else None


def camel_case(name):
    return name[:1].lower() + name[1:]
