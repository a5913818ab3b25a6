"""CloudTrail's events about IAM and EKS on the default event bus."""

import json
import time
import urllib.parse
import uuid

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge

from . import identity, operations

SERVICES = ("iam", "eks")

# IAM is global: CloudTrail delivers its events in this one region of the commercial partition.
_IAM_REGION = "us-east-1"
_READING = ("Get", "List", "Describe", "Simulate", "Generate")


def publish(service, operation, method, path, headers, body, query, request_id, access_key, answer):
    """AWS: each call that changes something becomes an event, failed calls too: IAM's in us-east-1, EKS's where made.
    ministack: nothing reaches EventBridge.
    """
    if operation not in operations.model(service).operation_names or operation.startswith(_READING):
        return
    account = get_account_id()
    region = _IAM_REGION if service == "iam" else get_region()
    detail = {
        "eventVersion": "1.11",
        "userIdentity": identity.user_identity(access_key, account),
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": operation,
        "awsRegion": region,
        "sourceIPAddress": "127.0.0.1",
        "userAgent": headers.get("user-agent", ""),
        "requestParameters": _request_parameters(service, operation, method, path, body, query),
        "responseElements": None,
        "requestID": request_id,
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
    if answer[0] >= 400:
        detail["errorCode"], detail["errorMessage"] = operations.error_of(service, answer)
    elif service == "iam":
        detail["responseElements"] = operations.iam_response(operation, answer)
    else:
        detail["responseElements"] = json.loads(answer[2] or b"null") or None
    put(account, region, f"aws.{service}", "AWS API Call via CloudTrail", detail)


def put(account, region, source, detail_type, detail):
    """Puts an event on a region's default bus, as AWS's own services do: with a source that callers may not use."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
    with request_scope(account, region):
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def _request_parameters(service, operation, method, path, body, query):
    if service == "iam":
        return operations.iam_request(operation, operations.query_parameters(body, query)) or None
    _, in_path = operations.eks_operation(method, path)
    # CloudTrail shows path parameters as they were sent, and clients percent-encode the ARNs among them.
    parameters = {name: urllib.parse.quote(value, safe="") for name, value in in_path.items()}
    shape = operations.model("eks").operation_model(operation).input_shape
    for name, member in shape.members.items():
        if member.serialization.get("location") == "querystring":
            values = query.get(member.serialization["name"])
            if values:
                parameters[name] = values if member.type_name == "list" else values[0]
    try:
        parameters.update(json.loads(body or b"{}"))
    except ValueError:
        pass  # a body that is no JSON was refused; the event still says who tried what
    return parameters or None
