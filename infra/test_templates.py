"""Holds the templates to events/patterns, to the policies and the dashboard that they share with the Terraform module,
and to the variables that the functions read."""

import json
import pathlib
import re
import string
import unittest

import yaml

ROOT = pathlib.Path(__file__).parent.parent
PATTERNS = ROOT / "events" / "patterns"


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short intrinsic functions: `!Ref X` becomes {"Ref": "X"}."""


def _intrinsic(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _intrinsic)


def template(name):
    return yaml.load((ROOT / "infra" / name).read_text(), _Loader)


def of_type(document, kind):
    return {name: r["Properties"] for name, r in document["Resources"].items() if r["Type"] == kind}


def with_defaults(document, value):
    """The value with each reference to a parameter replaced by the parameter's default."""
    if isinstance(value, dict):
        if value.keys() == {"Ref"} and value["Ref"] in document["Parameters"]:
            return document["Parameters"][value["Ref"]]["Default"]
        return {key: with_defaults(document, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_defaults(document, inner) for inner in value]
    return value


# What the templates are resolved with, and the files with placeholders too.
STACK = {
    "AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333", "AWS::StackName": "podgrant",
    "AWS::URLSuffix": "amazonaws.com",
}
FUNCTIONS = {
    "InstallAgent": "install-agent", "ReconcileAssociations": "reconcile-associations", "CleanUpOrphans": "clean-up-orphans",
}


def attribute(resource, name):
    """What `!GetAtt` gives. Only which resource it is of, and not its exact form, matters here."""
    return f"{resource}/{name}"


def resolved(document, value, attribute=attribute):
    """The value with parameters at their defaults, and resources by their logical names."""

    def reference(name):
        if name in STACK:
            return STACK[name]
        return document["Parameters"].get(name, {}).get("Default", name)

    def variable(match):
        name = match.group(1)
        return str(attribute(*name.split(".")) if "." in name else reference(name))

    if isinstance(value, dict):
        if value.keys() == {"Ref"}:
            return reference(value["Ref"])
        if value.keys() == {"Fn::GetAtt"}:
            return attribute(*value["Fn::GetAtt"])
        if value.keys() == {"Fn::Sub"}:
            return re.sub(r"\$\{([\w:.]+)\}", variable, value["Fn::Sub"])
        return {key: resolved(document, inner, attribute) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved(document, inner, attribute) for inner in value]
    return value


def filled(path, values):
    """A JSON file with its placeholders filled, as Terraform's templatefile does it: an unknown one is an error."""
    return json.loads(string.Template((ROOT / "infra" / path).read_text()).substitute(values))


def policy_values(function, **others):
    """The placeholders of a function's policy. `function` is its logical name in the template."""
    return {
        "partition": "aws", "account": "111122223333", "region": "eu-west-1", "tag_prefix": "podgrant/",
        "grantable_roles": "*", "log_group_arn": attribute(f"{function}Logs", "Arn"),
        "queue_arn": attribute(f"{function}Queue", "Arn"), "bus_arn": attribute("Bus", "Arn"),
        "key_arn": attribute("Key", "Arn"), "install_agent_role_arn": attribute("InstallAgentRole", "Arn"),
        "install_agent_role_name": "InstallAgentRole",
        "reconcile_associations_role_arn": attribute("ReconcileAssociationsRole", "Arn"),
        "reconcile_associations_role_name": "ReconcileAssociationsRole", **others,
    }


class Rules(unittest.TestCase):
    def test_every_rule_is_its_pattern_file_and_every_file_has_its_rule(self):
        used = []
        for name in ("template.yaml", "forward-events.yaml"):
            document = template(name)
            for rule, properties in of_type(document, "AWS::Events::Rule").items():
                if "EventPattern" not in properties:
                    continue
                with self.subTest(rule=rule):
                    path = ROOT / properties["Description"]
                    self.assertEqual(
                        with_defaults(document, properties["EventPattern"]), json.loads(path.read_text())
                    )
                    used.append(path)
        self.assertEqual(sorted(used), sorted(PATTERNS.glob("*/*.json")))

    def test_every_rule_feeds_the_function_of_its_folder(self):
        for rule, properties in of_type(template("template.yaml"), "AWS::Events::Rule").items():
            if "EventPattern" in properties:
                folder = pathlib.Path(properties["Description"]).parent.name
                queue = "".join(word.capitalize() for word in folder.split("-")) + "Queue"
                targets = [target["Arn"] for target in properties["Targets"]]
                self.assertEqual(targets, [{"Fn::GetAtt": [queue, "Arn"]}], rule)

    def test_every_target_has_the_dead_letter_queue_of_its_function(self):
        for name in ("template.yaml", "forward-events.yaml"):
            for rule, properties in of_type(template(name), "AWS::Events::Rule").items():
                for target in properties["Targets"]:
                    arn = target["Arn"]
                    of = arn["Fn::GetAtt"][0].removesuffix("Queue") if "Fn::GetAtt" in arn else ""
                    self.assertEqual(target["DeadLetterConfig"], {"Arn": {"Fn::GetAtt": [f"{of}DeadLetters", "Arn"]}}, rule)

    def test_a_queue_takes_messages_of_just_the_rules_that_feed_it(self):
        for name in ("template.yaml", "forward-events.yaml"):
            document = template(name)
            rules = of_type(document, "AWS::Events::Rule")
            policies = of_type(document, "AWS::SQS::QueuePolicy")
            guarded = sorted(queue["Ref"] for policy in policies.values() for queue in policy["Queues"])
            self.assertEqual(guarded, sorted(of_type(document, "AWS::SQS::Queue")), name)
            for policy_name, policy in policies.items():
                (queue,) = (queue["Ref"] for queue in policy["Queues"])
                arn = {"Fn::GetAtt": [queue, "Arn"]}
                feeding = {
                    rule for rule, properties in rules.items() for target in properties["Targets"]
                    if arn in (target["Arn"], target["DeadLetterConfig"]["Arn"])
                }
                (statement,) = policy["PolicyDocument"]["Statement"]
                sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
                self.assertEqual({source["Fn::GetAtt"][0] for source in sources}, feeding, policy_name)
                file = "dead-letters" if queue.endswith("DeadLetters") else "queue"
                self.assertEqual(
                    resolved(document, policy["PolicyDocument"]),
                    filled(f"policies/{file}.json", {
                        "queue_arn": attribute(queue, "Arn"), "rule_arns": json.dumps(resolved(document, sources)),
                    }),
                    policy_name,
                )


def statements(document):
    """Each statement that allows something, with the logical name of the role that it is of."""
    for name, role in of_type(document, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            yield from ((name, s) for s in policy["PolicyDocument"]["Statement"])
    for policy in of_type(document, "AWS::IAM::Policy").values():
        for role in policy["Roles"]:
            yield from ((role["Ref"], s) for s in policy["PolicyDocument"]["Statement"])


class PolicyFiles(unittest.TestCase):
    """CloudFormation can include no file: the template says each policy again, and may not say another thing."""

    # Those that no role of the home stack has; a test of their own holds each to its place.
    OTHERS = ["bus", "dead-letters", "forward-events", "key", "queue", "trust"]
    # The files that are not called as the policy is in the template.
    NAMES = {
        "access-entries": "install-agent-access-entries", "accounts-access-entries": "reconcile-associations-access-entries",
        "delete-roles": "clean-up-orphans-delete-roles",
    }

    def test_every_policy_is_its_file_and_every_file_its_policy(self):
        document = template("template.yaml")
        policies = [
            (name.removesuffix("Role"), policy)
            for name, role in of_type(document, "AWS::IAM::Role").items() for policy in role["Policies"]
        ] + [
            (policy["Roles"][0]["Ref"].removesuffix("Role"), policy)
            for policy in of_type(document, "AWS::IAM::Policy").values()
        ]
        used = []
        for function, policy in policies:
            file = self.NAMES.get(policy["PolicyName"], policy["PolicyName"])
            with self.subTest(policy=file):
                self.assertEqual(
                    resolved(document, policy["PolicyDocument"]),
                    filled(f"policies/{file}.json", policy_values(function)),
                )
                used.append(file)
        self.assertEqual(sorted([*used, *self.OTHERS]), sorted(path.stem for path in (ROOT / "infra/policies").iterdir()))

    def test_the_keys_policy_is_its_file(self):
        document = template("template.yaml")
        self.assertEqual(
            resolved(document, document["Resources"]["Key"]["Properties"]["KeyPolicy"]),
            filled("policies/key.json", {
                "partition": "aws", "account": "111122223333", "region": "eu-west-1", "dns_suffix": "amazonaws.com",
                "name": "podgrant", "bus_name": "podgrant",
            }),
        )

    def test_the_bus_takes_events_of_whom_its_file_says(self):
        document = template("template.yaml")
        values = {"partition": "aws", "account": "111122223333"}
        bus_arn = "arn:aws:events:eu-west-1:111122223333:event-bus/podgrant"
        self.assertEqual(
            resolved(document, document["Resources"]["Bus"]["Properties"]["Policy"]),
            filled("policies/bus.json", values | {"bus_arn": bus_arn}),
        )

    def test_a_role_trusts_the_one_service_that_works_under_it(self):
        for name, service in (("template.yaml", "lambda"), ("forward-events.yaml", "events")):
            for role, properties in of_type(template(name), "AWS::IAM::Role").items():
                self.assertEqual(
                    properties["AssumeRolePolicyDocument"],
                    filled("policies/trust.json", {"service": f"{service}.amazonaws.com"}),
                    role,
                )

    def test_forwarding_may_put_events_on_the_home_bus_and_nothing_else(self):
        document = template("forward-events.yaml")
        ((policy,),) = (role["Policies"] for role in of_type(document, "AWS::IAM::Role").values())
        self.assertEqual(
            resolved(document, policy["PolicyDocument"]),
            filled("policies/forward-events.json", {"home_bus_arn": "HomeBusArn"}),
        )

    def test_without_an_own_key_there_is_none_and_nobody_may_use_one(self):
        document = template("template.yaml")
        self.assertEqual(document["Parameters"]["Encryption"]["Default"], "owned")
        for name in ("Key", "UseTheKey"):
            self.assertEqual(document["Resources"][name]["Condition"], "HasOwnKey")
        own = {"Fn::If": ["HasOwnKey", {"Fn::GetAtt": ["Key", "Arn"]}, {"Ref": "AWS::NoValue"}]}
        for queue, properties in of_type(document, "AWS::SQS::Queue").items():
            self.assertEqual(properties["KmsMasterKeyId"], own, queue)
            # SQS takes one of the two.
            self.assertEqual(properties["SqsManagedSseEnabled"], {"Fn::If": ["HasOwnKey", {"Ref": "AWS::NoValue"}, True]}, queue)
        for logs, properties in of_type(document, "AWS::Logs::LogGroup").items():
            self.assertEqual(properties["KmsKeyId"], own, logs)
        (bus,) = of_type(document, "AWS::Events::EventBus").values()
        self.assertEqual(bus["KmsKeyIdentifier"], own)

    def test_no_partition_is_named(self):
        for path in (ROOT / "infra").rglob("*"):
            if path.suffix in {".yaml", ".json", ".tf"} and "target" not in path.parts:
                self.assertNotRegex(path.read_text(), r"arn:aws[\w-]*:", path.name)


class Watching(unittest.TestCase):
    # As the code has them.
    SOURCE = (ROOT / "crates/podgrant-runtime/src/metrics.rs").read_text()
    METRICS = set(re.findall(r'\(\s*"(\w+)",\s*"(?:Count|Milliseconds)",', SOURCE))

    def test_the_reading_of_the_code_finds_what_there_is(self):
        self.assertLessEqual({"Changes", "Withheld", "SweepsCompleted", "Duration"}, self.METRICS)
        self.assertIn('NAMESPACE: &str = "podgrant"', self.SOURCE)
        self.assertIn('"Dimensions": [["function"]]', self.SOURCE)

    def test_the_template_has_the_dashboard_of_the_file(self):
        document = template("watch.yaml")
        (dashboard,) = of_type(document, "AWS::CloudWatch::Dashboard").values()
        names = {
            f"{kebab.replace('-', '_')}_{suffix}": f"{name}{of}" for name, kebab in FUNCTIONS.items()
            for suffix, of in (("function", "Function"), ("queue", "Queue"), ("dead_letters", "DeadLetters"))
        }
        self.assertEqual(
            json.loads(resolved(document, dashboard["DashboardBody"])),
            filled("dashboard.json", {"region": "eu-west-1", **names}),
        )

    def test_the_dashboard_shows_every_metric_of_podgrants(self):
        text = (ROOT / "infra/dashboard.json").read_text()
        self.assertEqual(set(re.findall(r'"podgrant", "(\w+)"', text)), self.METRICS)

    def test_alarms_are_on_metrics_that_there_are(self):
        alarms = of_type(template("alarms.yaml"), "AWS::CloudWatch::Alarm")
        own = {alarm["MetricName"] for alarm in alarms.values() if alarm["Namespace"] == "podgrant"}
        self.assertLessEqual(own, self.METRICS)
        # These are no trouble: what was done, what comes back by itself, and what is reported on its own.
        self.assertEqual(self.METRICS - own, {"Changes", "NotYet", "OrphanedRoles", "Duration"})
        for name, alarm in alarms.items():
            (dimension,) = alarm["Dimensions"]
            expected = {"podgrant": "function", "AWS/Lambda": "FunctionName", "AWS/SQS": "QueueName"}
            self.assertEqual(dimension["Name"], expected[alarm["Namespace"]], name)

    def test_an_alarm_spans_no_more_than_cloudwatch_allows(self):
        sweep = template("template.yaml")["Parameters"]["SweepMinutes"]
        for name, alarm in of_type(template("alarms.yaml"), "AWS::CloudWatch::Alarm").items():
            periods = alarm["EvaluationPeriods"]
            periods = sweep["MaxValue"] if periods == {"Ref": "SweepMinutes"} else periods
            self.assertLessEqual(periods * alarm["Period"], 24 * 60 * 60, name)

    def test_every_function_is_watched_with_its_own_names(self):
        document, watch = template("template.yaml"), template("watch.yaml")
        (outer,) = of_type(document, "AWS::CloudFormation::Stack").values()
        self.assertEqual(outer["Parameters"].keys(), watch["Parameters"].keys())
        given = resolved(document, outer["Parameters"])
        inner = of_type(watch, "AWS::CloudFormation::Stack")
        self.assertEqual(inner.keys(), FUNCTIONS.keys())
        for name, stack in inner.items():
            self.assertEqual(stack["Parameters"].keys(), template("alarms.yaml")["Parameters"].keys())
            got = {key: given[value["Ref"]] if isinstance(value, dict) else value for key, value in stack["Parameters"].items()}
            self.assertEqual(
                (got["Function"], got["FunctionName"], got["QueueName"], got["DeadLettersName"]),
                (FUNCTIONS[name], f"{name}Function", f"{name}Queue/QueueName", f"{name}DeadLetters/QueueName"),
            )


class Size(unittest.TestCase):
    def test_the_template_can_be_deployed_without_a_bucket(self):
        try:
            from awscli.customizations.cloudformation.yamlhelper import yaml_dump, yaml_parse
        except ImportError:
            self.skipTest("the AWS command line is not at hand")
        packaged = yaml_dump(yaml_parse((ROOT / "infra/template.yaml").read_text()))
        # Packaging puts four addresses in the place of folders, of some 120 characters each.
        self.assertLess(len(packaged) + 500, 51_200)


class Policies(unittest.TestCase):
    TAKES_ROLES = {"iam:DetachRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole"}

    def actions(self, statement):
        actions = statement["Action"]
        return {actions} if isinstance(actions, str) else set(actions)

    def test_only_clean_up_takes_from_roles_and_only_where_they_ask_and_are_marked(self):
        taking = [
            (role, s) for role, s in statements(template("template.yaml")) if self.actions(s) & self.TAKES_ROLES
        ]
        ((role, statement),) = taking
        self.assertEqual((role, self.actions(statement)), ("CleanUpOrphansRole", self.TAKES_ROLES))
        self.assertEqual(statement["Condition"], {
            "StringEquals": {"iam:ResourceTag/podgrant/on-orphan": "delete"},
            "StringLike": {"iam:ResourceTag/podgrant/orphaned-since": "* begun"},
        })

    def test_as_shipped_no_role_can_be_marked_or_deleted(self):
        document = template("template.yaml")
        self.assertEqual(document["Parameters"]["DeleteRoles"]["Default"], "off")
        self.assertEqual(document["Resources"]["CleanUpOrphansDeletesRoles"]["Condition"], "DeletesRoles")
        for name, role in of_type(document, "AWS::IAM::Role").items():
            for policy in role["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    self.assertFalse(self.actions(statement) & (self.TAKES_ROLES | {"iam:TagRole"}), name)

    def test_of_a_roles_tags_nobody_writes_but_the_mark(self):
        for role, statement in statements(template("template.yaml")):
            if self.actions(statement) & {"iam:TagRole", "iam:UntagRole"}:
                condition = statement["Condition"]
                self.assertEqual(role, "CleanUpOrphansRole")
                keys = condition["ForAllValues:StringEquals"]["aws:TagKeys"]
                self.assertEqual(keys, ["podgrant/orphaned-since"])
                # Without it a request without tag keys would pass.
                self.assertEqual(condition["Null"], {"aws:TagKeys": "false"})

    def test_nothing_is_allowed_by_a_pattern_of_actions(self):
        for role, statement in statements(template("template.yaml")):
            for action in self.actions(statement):
                self.assertNotIn("*", action, role)


class Variables(unittest.TestCase):
    def test_the_template_sets_every_variable_that_the_functions_read_and_no_other(self):
        documented = set(re.findall(r"^\| `(PODGRANT_\w+)`", (ROOT / "README.md").read_text(), re.M))
        document = template("template.yaml")
        common = set(document["Globals"]["Function"]["Environment"]["Variables"])
        for name, function in of_type(document, "AWS::Serverless::Function").items():
            own = set(function["Environment"]["Variables"])
            # clean-up-orphans looks into no cluster.
            unused = {"PODGRANT_KUBERNETES_ROLE"} if name == "CleanUpOrphansFunction" else set()
            self.assertEqual(common | own, documented - unused, name)

    def test_every_parameter_is_used(self):
        for name in ("template.yaml", "forward-events.yaml", "watch.yaml", "alarms.yaml"):
            text = (ROOT / "infra" / name).read_text()
            for parameter in template(name)["Parameters"]:
                self.assertRegex(text, rf"(!Ref {parameter}\b|\{{Ref: {parameter}\}}|\${{{parameter}}})", f"{name}: {parameter}")


if __name__ == "__main__":
    unittest.main()
