"""Holds the templates to events/patterns and to the variables that the functions read."""

import json
import pathlib
import re
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

    def test_a_queue_takes_messages_of_just_the_rules_that_feed_it(self):
        document = template("template.yaml")
        rules = of_type(document, "AWS::Events::Rule")
        for name, policy in of_type(document, "AWS::SQS::QueuePolicy").items():
            queue = policy["Queues"][0]["Ref"]
            feeding = {
                rule for rule, properties in rules.items()
                if {"Fn::GetAtt": [queue, "Arn"]} in [target["Arn"] for target in properties["Targets"]]
            }
            (statement,) = policy["PolicyDocument"]["Statement"]
            sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
            self.assertEqual({source["Fn::GetAtt"][0] for source in sources}, feeding, name)


def statements(document):
    """Each statement that allows something, with the logical name of the role that it is of."""
    for name, role in of_type(document, "AWS::IAM::Role").items():
        for policy in role["Policies"]:
            yield from ((name, s) for s in policy["PolicyDocument"]["Statement"])
    for policy in of_type(document, "AWS::IAM::Policy").values():
        for role in policy["Roles"]:
            yield from ((role["Ref"], s) for s in policy["PolicyDocument"]["Statement"])


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
            self.assertEqual(common | own, documented, name)

    def test_every_parameter_is_used(self):
        for name in ("template.yaml", "forward-events.yaml"):
            text = (ROOT / "infra" / name).read_text()
            for parameter in template(name)["Parameters"]:
                self.assertRegex(text, rf"(!Ref {parameter}\b|\${{{parameter}}})", f"{name}: {parameter}")


if __name__ == "__main__":
    unittest.main()
