"""How answers look on the wire: JSON and XML bodies, errors, and page tokens."""

import base64
import json
import uuid
from xml.sax.saxutils import escape

IAM_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"

# The statuses that EKS's own service model gives its errors.
_EKS_STATUS = {
    "BadRequestException": 400,
    "InvalidParameterException": 400,
    "InvalidRequestException": 400,
    "NotFoundException": 404,
    "ResourceInUseException": 409,
    "ResourceLimitExceededException": 400,
    "ResourceNotFoundException": 404,
}


class Refused(Exception):
    """A call that EKS turns down. Becomes the error answer at the one place that handles EKS calls."""

    def __init__(self, code, message, **members):
        super().__init__(message)
        self.code = code
        self.message = message
        self.members = members

    def answer(self):
        return json_error(_EKS_STATUS[self.code], self.code, self.message, self.members)


def json_answer(document, status=200):
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def json_error(status, code, message, members=None):
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
    return status, headers, json.dumps({"__type": code, "message": message, **(members or {})}).encode()


def xml_error(status, code, message):
    fault = "Sender" if status < 500 else "Receiver"
    body = (
        f'<ErrorResponse xmlns="{IAM_NAMESPACE}">'
        f"<Error><Type>{fault}</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return status, {"Content-Type": "text/xml"}, body.encode()


class UnknownToken(ValueError):
    """A page token that this listing never gave out."""


def page_of(entries, size, token, listing):
    """One page of (key, item) pairs, and the token of the next page or None.

    A token names its listing and the last key shown, not a position: entries made or deleted between two pages then
    neither repeat nor hide others, which is what callers may expect of AWS.
    """
    entries = sorted(entries, key=lambda entry: entry[0])
    if token:
        last_key = _last_key(token, listing)
        entries = [entry for entry in entries if entry[0] > last_key]
    page = entries[:size]
    following = _token(listing, page[-1][0]) if len(entries) > size else None
    return [item for _, item in page], following


def _token(listing, last_key):
    return base64.urlsafe_b64encode(json.dumps([listing, last_key]).encode()).decode()


def _last_key(token, listing):
    try:
        named, last_key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except ValueError as error:
        raise UnknownToken(token) from error
    if named != listing:
        raise UnknownToken(token)
    return last_key
