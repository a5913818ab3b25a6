"""Whose a token is, and what may he: from what a test has set, or from the local AWS."""

import dataclasses
import re
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from token_review import CLUSTER_HEADER, Refused

SECONDS = 10
# A test that counts calls to the local AWS can tell these from podgrant's.
USER_AGENT = "local-kubernetes"


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who made a token, and by what the cluster lets him in."""

    arn: str
    groups: tuple = ()
    # (policy's name, namespace or None for the whole cluster)
    policies: tuple = ()


class BadDocument(Exception):
    """A control document that makes no sense; the text says why."""


class Known:
    """Credentials that a test has set, secrets included, so that signatures are verified."""

    def __init__(self, document):
        self.cluster = _text(document, "cluster")
        self._credentials = _of_type(document, "credentials", dict)
        for access_key, entry in self._credentials.items():
            if not isinstance(entry, dict):
                raise BadDocument(f"the credentials of {access_key} are no object")
            _text(entry, "secret")
            self._identity(entry)

    def __contains__(self, access_key):
        return access_key in self._credentials

    def identify(self, token):
        entry = self._credentials[token.access_key]
        if entry.get("sessionToken") != token.session_token:
            raise Refused(f"the token's x-amz-security-token is not the session token of {token.access_key}")
        token.check_signature(entry["secret"], self.cluster)
        return self._identity(entry)

    @staticmethod
    def _identity(entry):
        policies = []
        for policy in entry.get("policies", []):
            namespaces = policy.get("namespaces") or [None]
            policies += [(_text(policy, "policy"), namespace) for namespace in namespaces]
        return Identity(_text(entry, "arn"), tuple(entry.get("groups", [])), tuple(policies))


class LocalAws:
    """A local AWS: its STS says who made the token, its EKS which access entry he has. The signature is not verified:
    that AWS takes any."""

    def __init__(self, document):
        self.endpoint = _text(document, "endpoint").rstrip("/")
        self.region = _text(document, "region")
        self.cluster = _text(document, "cluster")
        self._clients = {}

    def identify(self, token):
        arn = self._caller(token)
        try:
            return self._entry(arn)
        except (BotoCoreError, ClientError) as error:
            raise Refused(f"the local AWS does not tell the access entries of {self.cluster}: {error}") from error

    def _caller(self, token):
        request = urllib.request.Request(
            f"{self.endpoint}/?{token.query}",
            headers={"Host": token.host, CLUSTER_HEADER: self.cluster, "User-Agent": USER_AGENT},
        )
        try:
            with _without_proxy().open(request, timeout=SECONDS) as answer:
                body = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Refused(f"STS answers {error.code}: {error.read(500).decode(errors='replace')}") from None
        except OSError as error:
            raise Refused(f"no local AWS at {self.endpoint}: {error}") from None
        found = re.search(r"<Arn>([^<]+)</Arn>", body)
        if not found:
            raise Refused(f"STS answers without an ARN: {body[:200]}")
        return found[1]

    def _entry(self, arn):
        eks = self._eks(arn.split(":")[4])
        listed = eks.get_paginator("list_access_entries").paginate(clusterName=self.cluster)
        for principal in (principal for page in listed for principal in page["accessEntries"]):
            if is_principal(arn, principal):
                break
        else:
            raise Refused(f"{arn} has no access entry on the cluster {self.cluster}")
        named = {"clusterName": self.cluster, "principalArn": principal}
        entry = eks.describe_access_entry(**named)["accessEntry"]
        policies = []
        for page in eks.get_paginator("list_associated_access_policies").paginate(**named):
            for associated in page["associatedAccessPolicies"]:
                scope = associated["accessScope"]
                namespaces = scope["namespaces"] if scope["type"] == "namespace" else [None]
                name = associated["policyArn"].rsplit("/", 1)[-1]
                policies += [(name, namespace) for namespace in namespaces]
        return Identity(arn, tuple(entry.get("kubernetesGroups") or ()), tuple(policies))

    def _eks(self, account):
        if account not in self._clients:
            self._clients[account] = boto3.client(
                # In the local AWS, 12 digits as access key are the account.
                "eks", region_name=self.region, endpoint_url=self.endpoint,
                aws_access_key_id=account, aws_secret_access_key="test",
                config=Config(
                    retries={"total_max_attempts": 1}, connect_timeout=SECONDS, read_timeout=SECONDS, proxies={},
                    user_agent=USER_AGENT,
                ),
            )
        return self._clients[account]


def is_principal(arn, principal):
    """Whether an access entry's principal is who STS says. A session's ARN names its role without the role's path."""
    session = re.fullmatch(r"arn:[^:]+:sts::([0-9]+):assumed-role/([^/]+)/.+", arn)
    if not session:
        return arn == principal
    role = re.fullmatch(r"arn:[^:]+:iam::([0-9]+):role/(?:.+/)?([^/]+)", principal)
    return bool(role) and role.groups() == session.groups()


def _without_proxy():
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _text(document, name):
    return _of_type(document, name, str)


def _of_type(document, name, wanted):
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, wanted) or (wanted is str and not value):
        raise BadDocument(f"{name} is missing, or not {'a text' if wanted is str else 'an object'}")
    return value
