"""What the tests stand on: the launcher as a process, and a test case with an account of its own."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = pathlib.Path(__file__).parent
HOME_REGION = "eu-west-1"
POD_TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }],
})
LAMBDA_TRUST = POD_TRUST.replace("pods.eks", "lambda")

_accounts = itertools.count(100_000_000_001)
_server = None


class Server:
    """The launcher as a process of its own, on a free loopback port, with a clean environment."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="local-aws-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = pathlib.Path(self.directory.name, "log")
        environment = {
            "PATH": os.environ["PATH"],
            "TMPDIR": self.directory.name,
            "GATEWAY_PORT": str(self.port),
            "AWS_SECRET_ACCESS_KEY": "must-not-reach-a-function",
            "HTTPS_PROXY": "http://must-not-reach-a-function",
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "local_aws.py")], env=environment, stdout=log, stderr=log,
            )
        try:
            wait_for(self._is_ready, "the launcher to be ready", seconds=20)
        except BaseException:
            self.stop()
            raise

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the launcher ended: {self.log_path.read_text()}")
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.directory.cleanup()


def start():
    """For a test module's setUpModule: one server for all its tests, stopped whatever happens."""
    global _server
    _server = Server()
    unittest.addModuleCleanup(_server.stop)


def server_url():
    return _server.url


def wait_for(condition, what, seconds=10):
    """The first true value of `condition()`, asked until the time is up."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.05)


class Case(unittest.TestCase):
    """A test in an account of its own."""

    def setUp(self):
        self.account = self.new_account()

    @staticmethod
    def new_account():
        return str(next(_accounts))

    def client(self, service, region=HOME_REGION, **credentials):
        credentials = credentials or {"aws_access_key_id": self.account, "aws_secret_access_key": "test"}
        # One attempt: a test of faults must see each of them.
        client = boto3.client(
            service, region_name=region, endpoint_url=_server.url,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20), **credentials,
        )
        self.addCleanup(client.close)
        return client

    def control(self, method, path, document=None, account=True):
        query = f"?account={self.account}" if account else ""
        body = json.dumps(document).encode() if document is not None else None
        request = urllib.request.Request(f"{_server.url}/_podgrant/{path}{query}", body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def refused(self, code, call, *args, **kwargs):
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        self.assertEqual(code, caught.exception.response["Error"]["Code"])
        return caught.exception.response

    def role(self, name="reader", trust=POD_TRUST, **more):
        return self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]

    def cluster(self, name="prod", region=HOME_REGION, **more):
        return self.client("eks", region).create_cluster(
            name=name, roleArn=f"arn:aws:iam::{self.account}:role/eks", resourcesVpcConfig={}, **more,
        )["cluster"]

    def associate(self, namespace="payments", service_account="api", cluster="prod", role="reader", **more):
        return self.client("eks").create_pod_identity_association(
            clusterName=cluster, namespace=namespace, serviceAccount=service_account,
            roleArn=f"arn:aws:iam::{self.account}:role/{role}", **more,
        )["association"]

    def queue(self, region=HOME_REGION, name="events"):
        """A queue that gets what `rule` sends."""
        url = self.client("sqs", region).create_queue(QueueName=name)["QueueUrl"]
        return url, f"arn:aws:sqs:{region}:{self.account}:{name}"

    def rule(self, target_arn, region=HOME_REGION, bus="default", name="forward", pattern=None):
        events = self.client("events", region)
        pattern = pattern or {"source": ["aws.iam", "aws.eks"]}
        events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
        target = {"Id": "1", "Arn": target_arn}
        if ":event-bus/" in target_arn:
            target["RoleArn"] = f"arn:aws:iam::{self.account}:role/forward"
        events.put_targets(Rule=name, EventBusName=bus, Targets=[target])

    def take_event(self, queue_url, name, region=HOME_REGION):
        """The next CloudTrail event of that name; the ones before it are dropped."""
        sqs = self.client("sqs", region)
        end = time.monotonic() + 10
        seen = []
        while time.monotonic() < end:
            for message in sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=1).get("Messages", []):
                sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
                event = json.loads(message["Body"])
                seen.append(event["detail"].get("eventName", event["detail-type"]))
                if seen[-1] == name:
                    return event
        self.fail(f"no event {name}, only {seen}")
