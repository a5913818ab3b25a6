"""Checks the launcher: events, functions, the control endpoint, the start. The EKS, IAM and tagging APIs are in
test_local_aws_apis.py. Run all with: python -m unittest discover -s tests/local-aws
"""

import http.client
import io
import json
import sys
import unittest
import urllib.error
import urllib.parse
import zipfile

import boto3
import harness
import local_aws
from gaps import required, wire
from harness import HERE, HOME_REGION, LAMBDA_TRUST, POD_TRUST, Case, wait_for

# A function that makes one IAM call and answers with its own environment.
FUNCTION = """\
#!/usr/bin/env python3
import json, os, sys, urllib.request
sys.path[:0] = {path!r}
import boto3
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(base + "next") as event:
        request_id = event.headers["Lambda-Runtime-Aws-Request-Id"]
    boto3.client("iam").tag_role(RoleName="tagged-by-function", Tags=[{{"Key": "by", "Value": "function"}}])
    print("a line on stdout", flush=True)
    answer = json.dumps({{name: value for name, value in os.environ.items()}}).encode()
    urllib.request.urlopen(base + request_id + "/response", answer).read()
"""


def setUpModule():
    harness.start()


class TrailTest(Case):
    def test_iam_in_us_east_1_reaches_a_bus_of_another_region(self):
        queue, queue_arn = self.queue()
        bus = self.client("events").create_event_bus(Name="podgrant")["EventBusArn"]
        self.rule(queue_arn, bus="podgrant")
        self.rule(bus, region="us-east-1", pattern={"source": ["aws.iam"]})

        # IAM is called in another region still: its events are us-east-1's all the same.
        iam = self.client("iam", "ap-southeast-2")
        iam.create_role(
            RoleName="reader", Path="/apps/", AssumeRolePolicyDocument=POD_TRUST,
            Tags=[{"Key": "podgrant/grant", "Value": "payments/api@prod"}],
        )
        event = self.take_event(queue, "CreateRole")
        self.assertEqual("AWS API Call via CloudTrail", event["detail-type"])
        self.assertEqual(("aws.iam", "us-east-1", self.account), (event["source"], event["region"], event["account"]))
        detail = event["detail"]
        self.assertEqual("us-east-1", detail["awsRegion"])
        self.assertEqual([{"key": "podgrant/grant", "value": "payments/api@prod"}], detail["requestParameters"]["tags"])
        role = detail["responseElements"]["role"]
        self.assertEqual(f"arn:aws:iam::{self.account}:role/apps/reader", role["arn"])
        self.assertTrue(role["roleId"].startswith("AROA"))
        self.assertEqual(("reader", "/apps/"), (role["roleName"], role["path"]))
        self.assertRegex(role["createDate"], r"^[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d{2}:\d{2} [AP]M$")
        self.assertEqual("Root", detail["userIdentity"]["type"])

        iam.tag_role(RoleName="reader", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
        parameters = self.take_event(queue, "TagRole")["detail"]["requestParameters"]
        self.assertEqual(
            {"roleName": "reader", "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": ""}]}, parameters)
        iam.untag_role(RoleName="reader", TagKeys=["a", "b"])
        self.assertEqual(["a", "b"], self.take_event(queue, "UntagRole")["detail"]["requestParameters"]["tagKeys"])

        self.refused("NoSuchEntity", iam.delete_role, RoleName="nobody")
        detail = self.take_event(queue, "DeleteRole")["detail"]
        self.assertEqual("NoSuchEntityException", detail["errorCode"])
        self.assertIn("nobody", detail["errorMessage"])
        self.assertIsNone(detail["responseElements"])

    def test_rules_of_one_name_in_two_regions_are_no_loop(self):
        queue, queue_arn = self.queue()
        self.rule(queue_arn, name="same")
        self.rule(f"arn:aws:events:{HOME_REGION}:{self.account}:event-bus/default", "us-east-1", name="same")
        self.role()
        self.assertEqual("us-east-1", self.take_event(queue, "CreateRole")["region"])

    def test_rules_that_send_in_a_circle_end(self):
        queue, queue_arn = self.queue()
        self.rule(queue_arn, name="count")
        for here, there in ((HOME_REGION, "us-east-1"), ("us-east-1", HOME_REGION)):
            self.rule(f"arn:aws:events:{there}:{self.account}:event-bus/default", here, name="circle")
        self.role()
        self.take_event(queue, "CreateRole")

    def test_eks_where_it_was_called(self):
        queue, queue_arn = self.queue("eu-central-1")
        self.rule(queue_arn, "eu-central-1")
        arn = self.cluster(region="eu-central-1", tags={"env": "prod"})["arn"]
        event = self.take_event(queue, "CreateCluster", "eu-central-1")
        self.assertEqual(("aws.eks", "eu-central-1"), (event["source"], event["detail"]["awsRegion"]))
        self.assertEqual("prod", event["detail"]["requestParameters"]["name"])
        cluster = event["detail"]["responseElements"]["cluster"]
        self.assertEqual(
            ("prod", arn, "CREATING", {"env": "prod"}),
            (cluster["name"], cluster["arn"], cluster["status"], cluster["tags"]))

        eks = self.client("eks", "eu-central-1")
        eks.tag_resource(resourceArn=arn, tags={"podgrant/enroll": "off"})
        parameters = self.take_event(queue, "TagResource", "eu-central-1")["detail"]["requestParameters"]
        encoded = urllib.parse.quote(arn, safe="")
        self.assertEqual({"resourceArn": encoded, "tags": {"podgrant/enroll": "off"}}, parameters)
        eks.untag_resource(resourceArn=arn, tagKeys=["env", "podgrant/enroll"])
        parameters = self.take_event(queue, "UntagResource", "eu-central-1")["detail"]["requestParameters"]
        self.assertEqual(["env", "podgrant/enroll"], parameters["tagKeys"])

        self.refused("ResourceInUseException", self.cluster, region="eu-central-1")
        detail = self.take_event(queue, "CreateCluster", "eu-central-1")["detail"]
        self.assertEqual("ResourceInUseException", detail["errorCode"])
        eks.describe_cluster(name="prod")
        eks.delete_cluster(name="prod")
        detail = self.take_event(queue, "DeleteCluster", "eu-central-1")["detail"]
        self.assertEqual({"name": "prod"}, detail["requestParameters"])

    def test_who_called(self):
        queue, queue_arn = self.queue("us-east-1")
        self.rule(queue_arn, "us-east-1")
        role_arn = self.role("worker", Path="/podgrant/")
        session = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="night")["Credentials"]
        self.client(
            "iam", aws_access_key_id=session["AccessKeyId"], aws_secret_access_key=session["SecretAccessKey"],
            aws_session_token=session["SessionToken"],
        ).tag_role(RoleName="worker", Tags=[{"Key": "a", "Value": "1"}])
        identity = self.take_event(queue, "TagRole", "us-east-1")["detail"]["userIdentity"]
        issuer = identity["sessionContext"]["sessionIssuer"]
        self.assertEqual(("AssumedRole", self.account), (identity["type"], identity["accountId"]))
        self.assertEqual(f"arn:aws:sts::{self.account}:assumed-role/worker/night", identity["arn"])
        self.assertEqual(("Role", role_arn, "worker"), (issuer["type"], issuer["arn"], issuer["userName"]))
        self.assertEqual(f"{issuer['principalId']}:night", identity["principalId"])

    def test_event_of_aws_and_schedule_on_demand(self):
        queue, queue_arn = self.queue()
        self.rule(queue_arn, pattern={"detail-type": [{"prefix": "EKS Addon"}]})
        self.control("POST", "events", {
            "region": HOME_REGION, "source": "aws.eks", "detail-type": "EKS Addon Health Degraded", "detail": {"a": 1}})
        event = self.take_event(queue, "EKS Addon Health Degraded")
        self.assertEqual(("aws.eks", {"a": 1}), (event["source"], event["detail"]))

        events = self.client("events")
        rule_arn = events.put_rule(Name="sweep", ScheduleExpression="rate(1 day)")["RuleArn"]
        events.put_targets(Rule="sweep", Targets=[{"Id": "1", "Arn": queue_arn}])
        self.assertEqual({"targets": 1}, self.control("POST", "schedule", {"region": HOME_REGION, "rule": "sweep"}))
        event = self.take_event(queue, "Scheduled Event")
        self.assertEqual(("aws.events", [rule_arn], {}), (event["source"], event["resources"], event["detail"]))


class FunctionTest(Case):
    def make_function(self, name, role_arn):
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            bootstrap = zipfile.ZipInfo("bootstrap")
            bootstrap.external_attr = 0o755 << 16
            source = FUNCTION.format(path=[path for path in sys.path if path.endswith("site-packages")])
            archive.writestr(bootstrap, source.replace("/usr/bin/env python3", sys.executable, 1))
        self.client("lambda").create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Role=role_arn, Timeout=20,
            Code={"ZipFile": code.getvalue()}, Environment={"Variables": {"PODGRANT_X": "1"}},
        )

    def logged(self, function, text):
        """Whether the function has written `text`; its output goes to CloudWatch Logs."""
        logs = self.client("logs")

        def found():
            try:
                events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
            except logs.exceptions.ResourceNotFoundException:
                return False
            return any(text in event["message"] for event in events)

        wait_for(found, f"the log of {function}")

    def test_queue_feeds_function_with_a_concurrency_from_a_template_parameter(self):
        self.make_function("fed", self.role("runner", LAMBDA_TRUST))
        self.role("tagged-by-function")
        url, queue_arn = self.queue()
        mapping = {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "FunctionName": "fed", "EventSourceArn": queue_arn,
                "ScalingConfig": {"MaximumConcurrency": {"Ref": "Concurrency"}},
            },
        }
        template = {"Parameters": {"Concurrency": {"Type": "Number", "Default": 2}}, "Resources": {"Mapping": mapping}}
        self.client("cloudformation").create_stack(StackName="s", TemplateBody=json.dumps(template))
        wait_for(lambda: self.client("lambda").list_event_source_mappings()["EventSourceMappings"], "the mapping")
        self.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
        self.logged("fed", "a line on stdout")

    def test_function_runs_as_its_role_and_sees_nothing_of_the_host(self):
        queue, queue_arn = self.queue("us-east-1")
        self.rule(queue_arn, "us-east-1", pattern={"detail": {"eventName": ["TagRole"]}})
        role_arn = self.role("runner", LAMBDA_TRUST, Path="/podgrant/")
        self.role("tagged-by-function")
        self.make_function("tagger", role_arn)
        functions = self.client("lambda")
        answer = functions.invoke(FunctionName="tagger")
        environment = json.load(answer["Payload"])
        self.assertNotIn("FunctionError", answer, environment)
        self.assertEqual(harness.server_url(), environment["AWS_ENDPOINT_URL"])
        self.assertEqual((HOME_REGION, "1"), (environment["AWS_REGION"], environment["PODGRANT_X"]))
        self.assertTrue(environment["AWS_ACCESS_KEY_ID"].startswith("ASIA"))
        self.assertNotIn("must-not-reach-a-function", json.dumps(environment))
        self.assertNotIn("LOG_LEVEL", environment)

        identity = self.take_event(queue, "TagRole", "us-east-1")["detail"]["userIdentity"]
        self.assertEqual(role_arn, identity["sessionContext"]["sessionIssuer"]["arn"])
        self.assertEqual(f"arn:aws:sts::{self.account}:assumed-role/runner/tagger", identity["arn"])

        self.logged("tagger", "a line on stdout")

        # What an EKS token holds: a presigned GET, of which the cluster's name is a signed header.
        keys = {f"aws_{name}": environment[f"AWS_{name.upper()}"]
                for name in ("access_key_id", "secret_access_key", "session_token")}
        sts = boto3.client("sts", region_name=HOME_REGION, endpoint_url=f"https://sts.{HOME_REGION}.amazonaws.com", **keys)
        sts.meta.events.register(
            "before-sign.sts.GetCallerIdentity", lambda request, **_: request.headers.add_header("x-k8s-aws-id", "prod"))
        signed = urllib.parse.urlsplit(sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET"))
        self.assertIn("x-k8s-aws-id", signed.query)
        gateway = urllib.parse.urlsplit(harness.server_url()).netloc
        for host in (signed.netloc, gateway):
            connection = http.client.HTTPConnection(gateway, timeout=10)
            self.addCleanup(connection.close)
            connection.request("GET", f"/?{signed.query}", headers={"Host": host, "x-k8s-aws-id": "prod"})
            answer = connection.getresponse()
            self.assertEqual(200, answer.status)
            self.assertIn(f"<Arn>{identity['arn']}</Arn>", answer.read().decode())


class ControlTest(Case):
    def test_faults_and_calls(self):
        eks, iam = self.client("eks"), self.client("iam")
        self.control("POST", "faults", {"service": "eks", "operation": "ListClusters", "status": 429,
                                        "code": "ThrottlingException", "message": "Rate exceeded", "times": 2})
        self.control("POST", "faults", {"service": "iam", "operation": "GetRole", "status": 400,
                                        "code": "Throttling", "message": "Rate exceeded"})
        for _ in range(2):
            response = self.refused("ThrottlingException", eks.list_clusters)
            self.assertEqual(429, response["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual([], eks.list_clusters()["clusters"])
        response = self.refused("Throttling", iam.get_role, RoleName="reader")
        self.assertEqual("Rate exceeded", response["Error"]["Message"])
        self.refused("NoSuchEntity", iam.get_role, RoleName="reader")

        seen = self.control("GET", "calls")["calls"]
        self.assertEqual(["ListClusters"] * 3 + ["GetRole"] * 2, [call["operation"] for call in seen])
        self.assertEqual([429, 429, 200, 400, 404], [call["status"] for call in seen])
        self.assertEqual("ThrottlingException", seen[0]["errorCode"])
        self.assertEqual((HOME_REGION, f"arn:aws:iam::{self.account}:root"), (seen[0]["region"], seen[0]["principal"]))
        self.assertIn("Boto3", seen[0]["userAgent"])
        self.control("DELETE", "calls")
        self.assertEqual([], self.control("GET", "calls")["calls"])

    def test_answer_lost_after_the_deed(self):
        self.cluster()
        self.role()
        self.control("POST", "faults", {"service": "eks", "operation": "CreatePodIdentityAssociation", "status": 500,
                                        "code": "ServerException", "after": True})
        self.refused("ServerException", self.associate)
        self.refused("ResourceInUseException", self.associate)

    def test_accounts_are_apart(self):
        self.control("POST", "settings", {"clusterCreatingSeconds": 3600})
        self.control("POST", "faults", {"service": "eks", "status": 500, "code": "ServerException", "times": 100})
        mine = self.account
        self.account = self.new_account()
        self.cluster()
        self.assertEqual("ACTIVE", self.client("eks").describe_cluster(name="prod")["cluster"]["status"])
        self.account = mine
        self.refused("ServerException", self.cluster)
        self.control("DELETE", "faults")
        self.cluster()
        self.assertEqual("CREATING", self.client("eks").describe_cluster(name="prod")["cluster"]["status"])

    def test_nonsense_is_refused(self):
        for path, document in (
            ("settings", {"clusterCreatingSecond": 1}),
            ("settings", {"clusterFails": "prod"}),
            ("faults", {"operation": "GetRole"}),
        ):
            with self.subTest(document=document), self.assertRaises(urllib.error.HTTPError) as caught:
                self.control("POST", path, document)
            self.assertEqual(400, caught.exception.code)
            caught.exception.close()


class LauncherTest(unittest.TestCase):
    """What needs no server."""

    def test_missing_names_are_named(self):
        self.assertEqual([], required.missing_names())
        wanted = {"ministack.services.eks": ("_clusters", "_no_such"), "ministack.nowhere": ("x",)}
        self.assertEqual(["ministack.services.eks._no_such", "ministack.nowhere"], required.missing_names(wanted))

    def test_the_pinned_version_is_the_required_one(self):
        pins = (HERE / "requirements.txt").read_text().splitlines()
        self.assertIn(f"ministack=={local_aws.MINISTACK_VERSION}", pins)

    def test_environment_is_clean(self):
        clean = local_aws.clean_environment(
            {"PATH": "/bin", "AWS_PROFILE": "me", "AWS_ENDPOINT_URL": "https://aws", "HTTP_PROXY": "p"}, "4567")
        self.assertEqual("http://127.0.0.1:4567", clean["AWS_ENDPOINT_URL"])
        self.assertEqual(("127.0.0.1", "/bin"), (clean["BIND_HOST"], clean["PATH"]))
        self.assertFalse({"AWS_PROFILE", "HTTP_PROXY"} & set(clean))

    def test_tokens_belong_to_their_listing(self):
        entries = [(n, n) for n in range(3)]
        page, token = wire.page_of(entries, 2, None, "one")
        self.assertEqual([0, 1], page)
        self.assertEqual(([2], None), wire.page_of(entries, 2, token, "one"))
        with self.assertRaises(wire.UnknownToken):
            wire.page_of(entries, 2, token, "other")


if __name__ == "__main__":
    unittest.main()
