"""Checks the local Kubernetes. Run with: python -m unittest discover -s tests/local-kubernetes

The token's checks need no server. The rest starts a real one where PODGRANT_KUBERNETES_BIN names the folder that
build.py printed, and is skipped elsewhere.
"""

import base64
import contextlib
import datetime
import glob
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from unittest import mock

import botocore.session
import build
from awscli.customizations.eks.get_token import STSClientFactory, TokenGenerator
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from identities import BadDocument, Known, LocalAws, is_principal
from kube_api import Api, ApiError
from token_review import PREFIX, Refused, Token
from webhook import Reviewer

HERE = pathlib.Path(__file__).parent
BIN = os.environ.get("PODGRANT_KUBERNETES_BIN")
KEY, SECRET, CLUSTER = "AKIAEXAMPLE", "its secret", "prod-eu"
ARN = "arn:aws:sts::111122223333:assumed-role/podgrant-install-agent/podgrant-install-agent"
MERGE = "application/merge-patch+json"
CALL = "Action=GetCallerIdentity&Version=2011-06-15"


def signed_url(url=f"https://sts.eu-west-1.amazonaws.com/?{CALL}", cluster=CLUSTER, secret=SECRET, expires=60,
               region="eu-west-1", service="sts", session_token=None, headers=None, key=KEY):
    headers = {"x-k8s-aws-id": cluster} if headers is None else headers
    request = AWSRequest("GET", url, headers=headers)
    SigV4QueryAuth(Credentials(key, secret, session_token), service, region, expires).add_auth(request)
    return request.url


def token_of(url):
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def in_(**duration):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**duration)


class TokenTest(unittest.TestCase):
    def accepted(self, text, now=None, secret=SECRET, cluster=CLUSTER):
        token = Token(text, now)
        token.check_signature(secret, cluster)
        return token

    def refused(self, why, text, **more):
        with self.assertRaises(Refused) as caught:
            self.accepted(text, **more)
        self.assertIn(why, str(caught.exception))

    def test_good(self):
        for region, suffix in (("eu-west-1", ""), ("us-east-1", ""), ("cn-north-1", ".cn")):
            with self.subTest(region):
                url = signed_url(f"https://sts.{region}.amazonaws.com{suffix}/?{CALL}", region=region)
                token = self.accepted(token_of(url))
                self.assertEqual((KEY, region, None), (token.access_key, token.region, token.session_token))

    def test_session_token_is_part_of_what_is_signed(self):
        url = signed_url(session_token="a+b/c==")
        self.assertEqual("a+b/c==", self.accepted(token_of(url)).session_token)
        self.refused("signature is wrong", token_of(url.replace("a%2Bb", "a%2Bc")))

    def test_the_aws_command_lines_own_token(self):
        session = botocore.session.get_session()
        session.set_credentials(KEY, SECRET, "a session")
        session.set_config_variable("sts_regional_endpoints", "regional")
        # Neither settings nor credentials of whoever runs this.
        with mock.patch.dict(os.environ, {"AWS_CONFIG_FILE": os.devnull}):
            sts = STSClientFactory(session).get_sts_client("eu-west-1")
        self.addCleanup(sts.close)
        token = self.accepted(TokenGenerator(sts).get_token(CLUSTER))
        self.assertEqual((KEY, "a session"), (token.access_key, token.session_token))

    def test_how_the_query_is_written_does_not_matter(self):
        url = signed_url()
        base, query = url.split("?")
        self.accepted(token_of(base + "?" + "&".join(reversed(query.split("&")))))
        self.accepted(token_of(url.replace("GetCallerIdentity", "Get%43allerIdentity")))

    def test_wrong_signature(self):
        self.refused("signature is wrong", token_of(signed_url(secret="another")))
        self.refused(f"another cluster than {CLUSTER}", token_of(signed_url(cluster="prod-us")))
        self.refused("signature is wrong", token_of(signed_url(expires=60).replace("Expires=60", "Expires=900")))
        # The last characters lost on the way: mostly base64 still, and of a URL.
        for lost in range(1, 9):
            with self.subTest(lost=lost), self.assertRaises(Refused):
                self.accepted(token_of(signed_url())[:-lost])

    def test_dates(self):
        text = token_of(signed_url(expires=60))
        # STS, and so EKS, does not look at X-Amz-Expires.
        self.accepted(text, in_(minutes=14))
        self.refused("expired", text, now=in_(minutes=16))
        self.accepted(text, in_(minutes=-4))
        self.refused("in the future", text, now=in_(minutes=-6))
        self.accepted(token_of(signed_url(expires=900)))
        self.refused("more than 900", token_of(signed_url(expires=901)))
        self.refused("not a number", token_of(signed_url().replace("Expires=60", "Expires=-1")))

    def test_other_urls(self):
        sts = "https://sts.eu-west-1.amazonaws.com"
        for why, url in (
            ("scheme", f"http://sts.eu-west-1.amazonaws.com/?{CALL}"),
            ("host", f"https://sts.amazonaws.com/?{CALL}"),
            ("host", f"https://sts.eu-west-1.amazonaws.com.example.com/?{CALL}"),
            ("host", f"https://sts.eu-west-1.amazonaws.com:443/?{CALL}"),
            ("host", f"https://me@sts.eu-west-1.amazonaws.com/?{CALL}"),
            ("host", f"https://sts-eu-west-1.amazonaws.com/?{CALL}"),
            ("path", f"{sts}/other?{CALL}"),
            ("unexpected query parameter 'RoleArn'", f"{sts}/?{CALL}&RoleArn=x"),
            ("action", f"{sts}/?Action=AssumeRole&Version=2011-06-15"),
            ("version", f"{sts}/?Action=GetCallerIdentity&Version=2012"),
            ("lacks action", f"{sts}/?Version=2011-06-15"),
        ):
            with self.subTest(url):
                self.refused(why, token_of(signed_url(url)))
        self.refused("twice", token_of(signed_url() + "&action=GetCallerIdentity"))
        self.refused("fragment", token_of(signed_url() + "#x"))

    def test_other_scopes(self):
        self.refused("service 's3'", token_of(signed_url(service="s3")))
        self.refused("region 'us-east-1'", token_of(signed_url(region="us-east-1")))
        self.refused("x-k8s-aws-id is not signed", token_of(signed_url(headers={})))
        self.refused("nobody sends: x-more", token_of(signed_url(headers={"x-k8s-aws-id": CLUSTER, "x-more": "1"})))
        self.refused("x-amz-credential", token_of(signed_url().replace("aws4_request", "aws5")))

    def test_garbage(self):
        self.refused("does not begin", signed_url())
        self.refused("does not begin", "")
        self.refused("not base64", PREFIX)
        self.refused("not base64", PREFIX + "a token, this?")
        self.refused("not base64", token_of(signed_url()) + "==")
        self.refused("not base64", PREFIX + "a")
        self.refused("not base64", PREFIX + base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode())
        self.refused("scheme", PREFIX + base64.urlsafe_b64encode(b"garbage").decode().rstrip("="))
        self.refused("more than 4096", PREFIX + "a" * 4096)


class AnyBinding:
    """Has every group, but none in the namespace `gone`."""

    def group(self, policy, namespace=None):
        return None if namespace == "gone" else f"access:{policy}:{namespace}" if namespace else f"access:{policy}"


class ReviewTest(unittest.TestCase):
    def setUp(self):
        self.reviewer = Reviewer(AnyBinding())

    def review(self, **more):
        status = self.reviewer.review(token_of(signed_url(**more)))
        return status, self.reviewer.reviews()[-1]

    def test_known_credentials(self):
        self.reviewer.set_known({"cluster": CLUSTER, "credentials": {KEY: {
            "secret": SECRET, "sessionToken": "a session", "arn": ARN, "groups": ["podgrant"], "policies": [
                {"policy": "AmazonEKSViewPolicy", "namespaces": ["kube-system", "gone"]},
                {"policy": "AmazonEKSAdminPolicy"},
                {"policy": "NobodyKnowsIt"},
            ],
        }}})
        with self.assertLogs("token-review", "WARNING"):
            status, record = self.review(session_token="a session")
        self.assertEqual({"authenticated": True, "user": {"username": ARN, "groups": [
            "podgrant", "access:AmazonEKSViewPolicy:kube-system", "access:AmazonEKSAdminPolicy",
        ]}}, status)
        self.assertEqual((CLUSTER, KEY, ARN, True, None),
                         tuple(record[name] for name in ("cluster", "accessKey", "arn", "ok", "reason")))

        status, record = self.review()
        self.assertFalse(status["authenticated"])
        self.assertIn("session token", status["error"])
        self.assertEqual((CLUSTER, None, False, status["error"]),
                         tuple(record[name] for name in ("cluster", "arn", "ok", "reason")))
        status, _ = self.review(session_token="a session", cluster="prod-us")
        self.assertIn("another cluster", status["error"])

        self.reviewer.forget_reviews()
        self.assertEqual([], self.reviewer.reviews())

    def test_nobodys_credentials(self):
        status, _ = self.review()
        self.assertIn(f"nobody has the access key {KEY}", status["error"])

    def test_documents_that_make_no_sense(self):
        for document in (None, {}, {"cluster": CLUSTER}, {"cluster": CLUSTER, "credentials": {KEY: {"arn": ARN}}}):
            with self.subTest(document), self.assertRaises(BadDocument):
                Known(document)
        with self.assertRaises(BadDocument):
            LocalAws({"endpoint": "http://127.0.0.1:1", "region": "eu-west-1"})


class StsAndEks(http.server.BaseHTTPRequestHandler):
    """As much of STS and of EKS's access entries as a review asks for, in AWS's own forms."""

    arn = ARN
    role = "arn:aws:iam::111122223333:role/apps/podgrant-install-agent"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        cluster = "/clusters/prod/access-entries"
        entry = f"{cluster}/{urllib.parse.quote(self.role, safe='')}"
        self.server.seen.append((path, self.headers))
        if path == "/" and "Action=GetCallerIdentity" in query:
            return self.answer(f"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{self.arn}</Arn>"
                               "</GetCallerIdentityResult></GetCallerIdentityResponse>")
        if path == cluster and "nextToken" not in query:
            return self.answer({"accessEntries": ["arn:aws:iam::111122223333:user/anna"], "nextToken": "more"})
        if path == cluster:
            return self.answer({"accessEntries": [self.role]})
        if path == entry:
            return self.answer({"accessEntry": {"clusterName": "prod", "principalArn": self.role,
                                                "kubernetesGroups": ["podgrant"], "type": "STANDARD"}})
        if path == f"{entry}/access-policies":
            policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKS{}Policy".format
            return self.answer({"clusterName": "prod", "principalArn": self.role, "associatedAccessPolicies": [
                {"policyArn": policy("View"), "accessScope": {"type": "namespace", "namespaces": ["kube-system"]}},
                {"policyArn": policy("Edit"), "accessScope": {"type": "cluster", "namespaces": []}},
            ]})
        return self.answer({"message": f"no {path}"}, 404)

    def answer(self, document, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write((document if isinstance(document, str) else json.dumps(document)).encode())

    def log_message(self, *_):
        pass


class LocalAwsTest(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StsAndEks)
        self.server.seen = []
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.reviewer = Reviewer(AnyBinding())
        self.use("prod")

    def use(self, cluster):
        endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.reviewer.set_aws({"endpoint": endpoint, "region": "eu-west-1", "cluster": cluster})

    def test_access_entry(self):
        status = self.reviewer.review(token_of(signed_url(cluster="prod")))
        self.assertEqual({"authenticated": True, "user": {"username": ARN, "groups": [
            "podgrant", "access:AmazonEKSViewPolicy:kube-system", "access:AmazonEKSEditPolicy",
        ]}}, status)
        _, headers = self.server.seen[0]
        self.assertEqual(("sts.eu-west-1.amazonaws.com", "prod"), (headers["Host"], headers["X-k8s-aws-id"]))
        _, headers = self.server.seen[1]
        self.assertIn("Credential=111122223333/", headers["Authorization"])

    def test_no_access_entry(self):
        with mock.patch.object(StsAndEks, "arn", ARN.replace("podgrant", "other")):
            status = self.reviewer.review(token_of(signed_url()))
        self.assertIn("has no access entry on the cluster prod", status["error"])

    def test_no_such_cluster(self):
        self.use("staging")
        status = self.reviewer.review(token_of(signed_url()))
        self.assertIn("does not tell the access entries of staging", status["error"])

    def test_principals(self):
        role = "arn:aws:iam::111122223333:role/podgrant-install-agent"
        self.assertTrue(is_principal(ARN, role))
        self.assertTrue(is_principal(ARN, StsAndEks.role))
        self.assertFalse(is_principal(ARN, role + "-2"))
        self.assertFalse(is_principal(ARN, role.replace("1111", "9999")))
        self.assertFalse(is_principal(ARN, role.replace(":role/", ":user/")))
        self.assertTrue(is_principal("arn:aws:iam::111122223333:user/anna", "arn:aws:iam::111122223333:user/anna"))


class BuildTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="local-kubernetes-test-")
        self.addCleanup(folder.cleanup)
        self.cache = pathlib.Path(folder.name)

    def build(self, cache=None, path=os.environ["PATH"]):
        return subprocess.run(
            [sys.executable, "-B", HERE / "build.py"], env={"PATH": path, "PODGRANT_CACHE": str(cache or self.cache)},
            capture_output=True, text=True, check=False, timeout=20,
        )

    def test_made_already(self):
        folder = self.cache / f"kubernetes-{build.KUBERNETES}-{build.RECIPE}"
        folder.mkdir()
        for name in build.BINARIES:
            (folder / name).touch()
        done = self.build()
        self.assertEqual((0, f"{folder}\n", ""), (done.returncode, done.stdout, done.stderr))

    def test_a_machine_that_can_not(self):
        done = self.build(path="/nowhere")
        self.assertEqual((3, ""), (done.returncode, done.stdout))
        self.assertRegex(done.stderr, r"\Abuild: (needs apt-get|only made on Linux).*\n\Z")
        self.assertEqual([], [path.name for path in self.cache.iterdir() if not path.name.endswith(".lock")])

    def test_a_cache_that_can_not_be_written(self):
        (self.cache / "file").touch()
        done = self.build(self.cache / "file/cache")
        self.assertEqual((3, ""), (done.returncode, done.stdout))
        self.assertIn("set PODGRANT_CACHE", done.stderr)


class LauncherTest(unittest.TestCase):
    """What needs no binaries."""

    def test_missing_binaries(self):
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run(
                [sys.executable, "-B", HERE / "local_kubernetes.py", "--bin", folder, "--state", f"{folder}/state"],
                capture_output=True, text=True, check=False, timeout=20,
            )
        self.assertEqual(1, ended.returncode)
        self.assertIn("no etcd, kube-apiserver, kube-controller-manager in", ended.stderr)
        self.assertIn("build.py makes them", ended.stderr)


class Launched:
    """local_kubernetes.py as a process of its own, in folders of its own."""

    def __init__(self, add_cleanup):
        folder = tempfile.TemporaryDirectory(prefix="local-kubernetes-test-")
        add_cleanup(folder.cleanup)
        self.state_path = pathlib.Path(folder.name, "state.json")
        self.temporary = pathlib.Path(folder.name, "tmp")
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-B", HERE / "local_kubernetes.py", "--bin", BIN, "--state", self.state_path],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self.temporary), "PODGRANT_EXIT_WITH_STDIN": "1",
                 "HTTPS_PROXY": "http://127.0.0.1:1"},
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        add_cleanup(self.stop)

    def wait_until_ready(self):
        wait_for(lambda: self.state_path.exists() or self.process.poll() is not None, "the state file", 60)
        if self.process.poll() is not None:
            raise AssertionError(f"the launcher ended: {self.process.stderr.read()}")
        return json.loads(self.state_path.read_text())

    def children(self):
        path = f"/proc/{self.process.pid}/task/*/children"
        return [int(pid) for found in glob.glob(path) for pid in pathlib.Path(found).read_text().split()]

    def stop(self):
        self.process.stdin.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.05)


def is_running(pid):
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    return False


@unittest.skipUnless(BIN, "PODGRANT_KUBERNETES_BIN does not name the binaries' folder; build.py makes it")
class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        launched = Launched(cls.addClassCleanup)
        cls.state = launched.wait_until_ready()
        cls.admin = cls.api(cls.state["adminToken"])

    @classmethod
    def api(cls, token):
        return Api(cls.state["server"], cls.state["certificateAuthority"], token)

    def control(self, method, path, document=None):
        body = json.dumps(document).encode() if document is not None else None
        request = urllib.request.Request(self.state["control"] + path, body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def let_in(self, key, **access):
        """The API as somebody who has such access."""
        self.control("PUT", "/identities", {"cluster": CLUSTER, "credentials": {
            key: {"secret": SECRET, "arn": ARN, **access},
        }})
        return self.api(token_of(signed_url(key=key)))

    def refused(self, status, api, path):
        with self.assertRaises(ApiError) as caught:
            api.call("GET", path)
        self.assertEqual(status, caught.exception.status, caught.exception)

    def test_view_in_one_namespace(self):
        api = self.let_in("AKIAVIEW", policies=[{"policy": "AmazonEKSViewPolicy", "namespaces": ["kube-system"]}])
        self.control("DELETE", "/reviews")
        found = api.call("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets?limit=1")
        self.assertEqual("DaemonSetList", found["kind"])
        self.refused(403, api, "/apis/apps/v1/namespaces/default/daemonsets")
        self.refused(403, api, "/api/v1/nodes")
        [review, *_] = self.control("GET", "/reviews")["reviews"]
        self.assertEqual((True, ARN, CLUSTER), (review["ok"], review["arn"], review["cluster"]))

    def test_view_in_the_cluster_and_in_new_namespaces(self):
        api = self.let_in("AKIAALL", policies=[{"policy": "AmazonEKSViewPolicy"}])
        self.assertEqual("PodList", api.call("GET", "/api/v1/pods?limit=1")["kind"])
        self.refused(403, api, "/api/v1/nodes")

        api = self.let_in("AKIANEW", policies=[{"policy": "AmazonEKSViewPolicy", "namespaces": ["payments"]}])
        self.refused(403, api, "/api/v1/namespaces/payments/pods")
        self.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "payments"}})
        # Another token: kube-apiserver believes one that was let in for 10 s.
        api = self.let_in("AKIANEW2", policies=[{"policy": "AmazonEKSViewPolicy", "namespaces": ["payments"]}])
        self.assertEqual("PodList", api.call("GET", "/api/v1/namespaces/payments/pods")["kind"])

    def test_groups(self):
        self.admin.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {
            "metadata": {"name": "read-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list"]}],
        })
        self.admin.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
            "metadata": {"name": "read-nodes"},
            "roleRef": {"kind": "ClusterRole", "name": "read-nodes", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "Group", "name": "podgrant", "apiGroup": "rbac.authorization.k8s.io"}],
        })
        api = self.let_in("AKIAGROUP", groups=["podgrant"])
        wait_for(lambda: allowed(api, "/api/v1/nodes"), "the group's binding to be heard of")
        self.refused(403, api, "/apis/apps/v1/namespaces/kube-system/daemonsets")

    def test_who_is_not_let_in(self):
        self.let_in("AKIANOBODY")
        for url in (signed_url(key="AKIANOBODY", secret="another"), signed_url(key="AKIANOBODY", cluster="prod-us"),
                    signed_url(key="AKIASTRANGER")):
            self.refused(401, self.api(token_of(url)), "/api/v1/namespaces")
        self.refused(401, self.api("garbage"), "/api/v1/namespaces")

    def test_control_says_what_it_knows(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            self.control("PUT", "/identities", {"cluster": CLUSTER})
        with caught.exception as error:
            self.assertEqual((400, "credentials is missing, or not an object"),
                             (error.code, json.load(error)["error"]))

    def test_daemon_set_by_the_real_controller(self):
        for name in ("node-1", "node-2"):
            self.admin.call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
            # Admission has tainted it: no kubelet says that it is ready.
            self.admin.call("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, MERGE)
        labels = {"app.kubernetes.io/name": "eks-pod-identity-agent"}
        path = "/apis/apps/v1/namespaces/kube-system/daemonsets"
        self.admin.call("POST", path, {
            "metadata": {"name": "eks-pod-identity-agent"},
            "spec": {"selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "agent", "image": "agent"}]},
            }},
        })

        def status(**wanted):
            found = self.admin.call("GET", f"{path}/eks-pod-identity-agent")["status"]
            return all(found.get(name, 0) == value for name, value in wanted.items())

        wait_for(lambda: status(desiredNumberScheduled=2, currentNumberScheduled=2, numberReady=0), "two pods wanted")
        pods = "/api/v1/namespaces/kube-system/pods"
        [first, _] = self.admin.call("GET", pods)["items"]
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}
        self.admin.call("PATCH", f"{pods}/{first['metadata']['name']}/status",
                        {"status": {"phase": "Running", "conditions": [ready]}}, MERGE)
        wait_for(lambda: status(desiredNumberScheduled=2, numberReady=1), "one pod ready")

        self.admin.call("DELETE", f"{path}/eks-pod-identity-agent")
        wait_for(lambda: not self.admin.call("GET", pods)["items"], "its pods to go along", 20)


def allowed(api, path):
    try:
        return api.call("GET", path)
    except ApiError as error:
        if error.status != 403:
            raise
        return None


@unittest.skipUnless(BIN, "PODGRANT_KUBERNETES_BIN does not name the binaries' folder; build.py makes it")
class EndTest(unittest.TestCase):
    def assert_gone(self, launched, children):
        wait_for(lambda: not any(map(is_running, children)), "the children to be gone")
        self.assertFalse(launched.state_path.exists())
        self.assertEqual([], list(launched.temporary.iterdir()))

    def test_with_stdin(self):
        launched = Launched(self.addCleanup)
        launched.wait_until_ready()
        children = launched.children()
        self.assertEqual(3, len(children))
        self.assertEqual(0, launched.stop())
        self.assert_gone(launched, children)

    def test_half_way_through_the_start(self):
        launched = Launched(self.addCleanup)
        children = wait_for(lambda: len(found := launched.children()) == 2 and found, "etcd and kube-apiserver")
        launched.process.send_signal(signal.SIGTERM)
        self.assertEqual(0, launched.process.wait(10))
        self.assert_gone(launched, children)

    def test_killed(self):
        launched = Launched(self.addCleanup)
        children = wait_for(lambda: len(found := launched.children()) == 2 and found, "etcd and kube-apiserver")
        launched.process.kill()
        launched.process.wait()
        wait_for(lambda: not any(map(is_running, children)), "the children to be gone")

    def test_a_component_that_ends(self):
        launched = Launched(self.addCleanup)
        launched.wait_until_ready()
        children = launched.children()
        os.kill(children[-1], signal.SIGKILL)
        self.assertEqual(1, launched.process.wait(10))
        said = launched.process.stderr.read()
        self.assertIn("kube-controller-manager ended with -9; its log", said)
        self.assert_gone(launched, children)


if __name__ == "__main__":
    unittest.main()
