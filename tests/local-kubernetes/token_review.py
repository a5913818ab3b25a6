"""The tokens that EKS takes, checked as its authenticator checks them.

Such a token is `k8s-aws-v1.` and, in base64, a presigned URL of STS's GetCallerIdentity, signed together with the
header `x-k8s-aws-id: <cluster's name>`. EKS looks at the URL (it must be STS and nothing else that is called), calls it
with its own cluster's name in the header, and takes the ARN that STS answers. The checks and their limits are those of
aws-iam-authenticator, pkg/token/token.go; what EKS has of its own beyond that is not public.

The signature is computed anew by botocore, so by other code than what made the token.
"""

import base64
import binascii
import datetime
import hmac
import re
import urllib.parse

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
LONGEST = 4096
# STS takes a presigned URL this long after its date, whatever its X-Amz-Expires (presignedURLExpiration in that file).
VALID_FOR = datetime.timedelta(minutes=15)
# How far AWS lets a caller's clock be ahead (IAM user guide, on signing requests).
AHEAD = datetime.timedelta(minutes=5)

_HOST = re.compile(r"sts\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_KNOWN = {
    "action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-security-token",
    "x-amz-signature", "x-amz-signedheaders",
}
_NEEDED = _KNOWN - {"x-amz-security-token"}


class Refused(Exception):
    """Who is not let in; the text says why."""


class Token:
    """A well-formed token in its time. Whose it is and for which cluster, only its signature tells."""

    def __init__(self, text, now=None):
        url = _decoded(text)
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https":
            raise Refused(f"the URL's scheme is {parts.scheme!r}, not https")
        host = _HOST.fullmatch(parts.netloc)
        if not host:
            raise Refused(f"the URL's host {parts.netloc!r} is not STS's in a region: sts.<region>.amazonaws.com")
        if parts.path != "/":
            raise Refused(f"the URL's path is {parts.path!r}, not /")
        if parts.fragment:
            raise Refused("the URL has a fragment")
        self.host, self.region, self.query = parts.netloc, host[1], parts.query
        self._parameters = _parameters(parts.query)

        self._must_be("action", "GetCallerIdentity")
        self._must_be("version", "2011-06-15")
        self._must_be("x-amz-algorithm", "AWS4-HMAC-SHA256")
        self._check_expires()
        self._check_date(now or datetime.datetime.now(datetime.timezone.utc))
        self._check_scope()
        self._check_signed_headers()
        self.session_token = self._parameters.get("x-amz-security-token")

    def _must_be(self, name, wanted):
        if self._parameters[name] != wanted:
            raise Refused(f"{name} is {self._parameters[name]!r}, not {wanted!r}")

    def _check_expires(self):
        text = self._parameters["x-amz-expires"]
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise Refused(f"x-amz-expires is {text!r}, not a number of seconds")
        if int(text) > VALID_FOR.total_seconds():
            raise Refused(f"x-amz-expires is {text}, more than {VALID_FOR.total_seconds():.0f} seconds")

    def _check_date(self, now):
        self._timestamp = self._parameters["x-amz-date"]
        try:
            date = datetime.datetime.strptime(self._timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            raise Refused(f"x-amz-date is {self._timestamp!r}, not like 20260102T030405Z") from None
        if date - now > AHEAD:
            raise Refused(f"x-amz-date {self._timestamp} is {_seconds(date - now)} in the future")
        if now - date > VALID_FOR:
            raise Refused(f"expired: x-amz-date {self._timestamp} is {_seconds(now - date)} ago")

    def _check_scope(self):
        scope = self._parameters["x-amz-credential"].split("/")
        if len(scope) != 5 or not scope[0] or scope[4] != "aws4_request":
            raise Refused(f"x-amz-credential {'/'.join(scope)!r} is not <key>/<date>/<region>/sts/aws4_request")
        self.access_key, date, region, service, _ = scope
        if service != "sts":
            raise Refused(f"signed for the service {service!r}, not sts")
        if region != self.region:
            raise Refused(f"signed for the region {region!r}, and the host is {self.host}")
        if date != self._timestamp[:8]:
            raise Refused(f"signed for the day {date!r}, and x-amz-date is {self._timestamp}")

    def _check_signed_headers(self):
        signed = self._parameters["x-amz-signedheaders"].split(";")
        for name in ("host", CLUSTER_HEADER):
            if name not in signed:
                raise Refused(f"the header {name} is not signed, only {', '.join(signed)}")
        others = sorted(set(signed) - {"host", CLUSTER_HEADER})
        if others:
            raise Refused(f"signed with headers that nobody sends: {', '.join(others)}")

    def check_signature(self, secret, cluster):
        """Refused, unless signed with that secret access key for that cluster."""
        signer = SigV4QueryAuth(Credentials(self.access_key, secret), "sts", self.region)
        pairs = urllib.parse.parse_qsl(self.query, keep_blank_values=True)
        request = AWSRequest(
            "GET", f"https://{self.host}/", headers={"Host": self.host, CLUSTER_HEADER: cluster},
            # Taken apart and encoded anew: how the token wrote its query is no part of what is signed.
            params=[(name, value) for name, value in pairs if name.lower() != "x-amz-signature"],
        )
        request.context["timestamp"] = self._timestamp
        wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        if not hmac.compare_digest(wanted.encode(), self._parameters["x-amz-signature"].encode()):
            raise Refused(f"the signature is wrong: not made with the secret of {self.access_key}, or for another "
                          f"cluster than {cluster}")


def _decoded(text):
    if len(text) > LONGEST:
        raise Refused(f"the token has {len(text)} characters, more than {LONGEST}")
    if not text.startswith(PREFIX):
        raise Refused(f"the token does not begin with {PREFIX}")
    encoded = text[len(PREFIX):]
    # Python's decoder skips what it does not know.
    if not re.fullmatch(r"[A-Za-z0-9_-]+", encoded):
        raise Refused("the token is not base64 of the URL kind without padding")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused(f"the token is not base64 of a URL: {error}") from None


def _parameters(query):
    """Query parameters by their lower-case names, as the authenticator reads them."""
    found = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        lower = name.lower()
        if lower not in _KNOWN:
            raise Refused(f"the URL has the unexpected query parameter {name!r}")
        if lower in found:
            raise Refused(f"the URL has the query parameter {name!r} twice")
        found[lower] = value
    missing = sorted(_NEEDED - set(found))
    if missing:
        raise Refused(f"the URL lacks {', '.join(missing)}")
    return found


def _seconds(duration):
    return f"{duration.total_seconds():.0f} s"
