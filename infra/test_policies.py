"""What each function may do and may not, asked of an evaluator of IAM policies that others wrote: the local AWS's own.

The policies are those of infra/policies, filled as a deployment fills them; test_templates.py holds the template to them.
"""

import json
import pathlib
import string
import unittest

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

POLICIES = pathlib.Path(__file__).parent / "policies"
ACCOUNT = "111122223333"
OWN_ROLE = f"arn:aws:iam::{ACCOUNT}:role/podgrant/podgrant-install-agent"
RECONCILER = f"arn:aws:iam::{ACCOUNT}:role/podgrant/podgrant-reconcile-associations"
VALUES = {
    "partition": "aws", "account": ACCOUNT, "region": "eu-west-1", "tag_prefix": "podgrant/", "grantable_roles": "pods/*",
    "bus_arn": f"arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/podgrant",
    "key_arn": f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1",
    "install_agent_role_arn": OWN_ROLE, "install_agent_role_name": "podgrant-install-agent",
    "reconcile_associations_role_arn": RECONCILER, "reconcile_associations_role_name": "podgrant-reconcile-associations",
}

# What a function has as shipped, and what deployment options give it more.
HAS = {
    "install-agent": ["install-agent", "install-agent-access-entries"],
    "install-agent without entries": ["install-agent"],
    "reconcile-associations": ["reconcile-associations", "reconcile-associations-access-entries"],
    "reconcile-associations without entries": ["reconcile-associations"],
    "clean-up-orphans": ["clean-up-orphans"],
    "clean-up-orphans with DeleteRoles": ["clean-up-orphans", "clean-up-orphans-delete-roles"],
    "clean-up-orphans with its own key": ["clean-up-orphans", "use-the-key"],
}
FUNCTIONS = ["install-agent", "reconcile-associations", "clean-up-orphans with DeleteRoles"]

ROLE = f"arn:aws:iam::{ACCOUNT}:role/pods/api"
OTHER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/admins/root"
CLUSTER = f"arn:aws:eks:eu-west-1:{ACCOUNT}:cluster/prod"
ASSOCIATION = f"arn:aws:eks:eu-west-1:{ACCOUNT}:podidentityassociation/prod/a-1"
AGENT = f"arn:aws:eks:eu-west-1:{ACCOUNT}:addon/prod/eks-pod-identity-agent/1"
OTHER_ADDON = f"arn:aws:eks:eu-west-1:{ACCOUNT}:addon/prod/coredns/1"
ENTRY = f"arn:aws:eks:eu-west-1:{ACCOUNT}:access-entry/prod/role/{ACCOUNT}/podgrant-install-agent/1"
OTHER_ENTRY = f"arn:aws:eks:eu-west-1:{ACCOUNT}:access-entry/prod/role/{ACCOUNT}/admin/1"
VIEW = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
ADMIN = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

MANAGED = {"podgrant/managed": "v1"}
AND_MORE = MANAGED | {"team": "payments"}
ASKS = {"podgrant/on-orphan": "delete"}
MARK = {"podgrant/orphaned-since": "2026-11-24T00:00:00Z AROAEXAMPLE"}
BEGUN = {"podgrant/orphaned-since": "2026-11-24T00:00:00Z AROAEXAMPLE begun"}
OWN_ENTRY = {
    "eks:principalArn": OWN_ROLE, "eks:kubernetesGroups": ["podgrant"], "eks:accessEntryType": "STANDARD",
}
VIEWING = {"eks:principalArn": OWN_ROLE, "eks:policyArn": VIEW, "eks:accessScope": "namespace", "eks:namespaces": ["kube-system"]}

RECONCILERS_ENTRY = f"arn:aws:eks:eu-west-1:{ACCOUNT}:access-entry/prod/role/{ACCOUNT}/podgrant-reconcile-associations/1"
RECONCILERS_OWN = OWN_ENTRY | {"eks:principalArn": RECONCILER}
EXPANDING = VIEWING | {"eks:principalArn": RECONCILER, "eks:namespaces": ["batch", "reports"]}

YES, NO = True, False

# (may it, who, what, to which, tags of the resource, tags of the request, other condition keys)
TABLE = [
    # install-agent: agents, and nothing else
    (YES, "install-agent", "eks:DescribeCluster", CLUSTER),
    (YES, "install-agent", "eks:CreateAddon", CLUSTER, {}, MANAGED),
    (NO, "install-agent", "eks:CreateAddon", CLUSTER),
    (NO, "install-agent", "eks:CreateAddon", CLUSTER, {}, {"podgrant/managed": "v2"}),
    (NO, "install-agent", "eks:CreateAddon", CLUSTER, {}, AND_MORE),
    (YES, "install-agent", "eks:UpdateAddon", AGENT),
    (NO, "install-agent", "eks:UpdateAddon", OTHER_ADDON),
    (YES, "install-agent", "eks:DeleteAddon", AGENT, MANAGED),
    (NO, "install-agent", "eks:DeleteAddon", AGENT),
    (NO, "install-agent", "eks:DeleteAddon", OTHER_ADDON, MANAGED),
    (YES, "install-agent", "eks:TagResource", AGENT, {}, MANAGED),
    (NO, "install-agent", "eks:TagResource", AGENT),
    (NO, "install-agent", "eks:TagResource", AGENT, {}, AND_MORE),
    (NO, "install-agent", "eks:TagResource", OTHER_ADDON, {}, MANAGED),
    (NO, "install-agent", "eks:TagResource", ASSOCIATION, {}, MANAGED),
    (NO, "install-agent", "eks:CreatePodIdentityAssociation", CLUSTER, {}, MANAGED),
    (NO, "install-agent", "eks:UpdatePodIdentityAssociation", ASSOCIATION, MANAGED),
    (NO, "install-agent", "eks:DeletePodIdentityAssociation", ASSOCIATION, MANAGED),
    (NO, "install-agent", "iam:PassRole", ROLE, {}, {}, {"iam:PassedToService": "pods.eks.amazonaws.com"}),
    (NO, "install-agent", "iam:DeleteRole", ROLE, ASKS | BEGUN),
    (NO, "install-agent", "iam:GetRole", ROLE),
    # … and one access entry, to see them
    (YES, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, {}, OWN_ENTRY),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, AND_MORE, OWN_ENTRY),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY | {"eks:principalArn": OTHER_ROLE}),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY | {"eks:kubernetesGroups": ["system:masters"]}),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED,
     OWN_ENTRY | {"eks:kubernetesGroups": ["podgrant", "system:masters"]}),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY | {"eks:username": "admin"}),
    (NO, "install-agent", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY | {"eks:accessEntryType": "EC2_LINUX"}),
    (YES, "install-agent", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING),
    (NO, "install-agent", "eks:AssociateAccessPolicy", OTHER_ENTRY, {}, {}, VIEWING),
    (NO, "install-agent", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING | {"eks:principalArn": OTHER_ROLE}),
    (NO, "install-agent", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING | {"eks:policyArn": ADMIN}),
    (NO, "install-agent", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING | {"eks:accessScope": "cluster"}),
    (NO, "install-agent", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING | {"eks:namespaces": ["kube-system", "payments"]}),
    (YES, "install-agent", "eks:TagResource", ENTRY, {}, MANAGED),
    (NO, "install-agent", "eks:TagResource", ENTRY),
    (NO, "install-agent", "eks:TagResource", ENTRY, {}, AND_MORE),
    (NO, "install-agent", "eks:TagResource", OTHER_ENTRY, {}, MANAGED),
    (NO, "install-agent", "eks:DeleteAccessEntry", ENTRY),
    (NO, "install-agent without entries", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY),
    (NO, "install-agent without entries", "eks:AssociateAccessPolicy", ENTRY, {}, {}, VIEWING),
    # reconcile-associations: its own associations, of roles that it may pass, to pods
    (YES, "reconcile-associations", "eks:CreatePodIdentityAssociation", CLUSTER, {}, MANAGED),
    (NO, "reconcile-associations", "eks:CreatePodIdentityAssociation", CLUSTER),
    (NO, "reconcile-associations", "eks:CreatePodIdentityAssociation", CLUSTER, {}, AND_MORE),
    (YES, "reconcile-associations", "eks:UpdatePodIdentityAssociation", ASSOCIATION, MANAGED),
    (NO, "reconcile-associations", "eks:UpdatePodIdentityAssociation", ASSOCIATION),
    (NO, "reconcile-associations", "eks:UpdatePodIdentityAssociation", ASSOCIATION, {"podgrant/managed": "v2"}),
    (YES, "reconcile-associations", "eks:DeletePodIdentityAssociation", ASSOCIATION, MANAGED),
    (NO, "reconcile-associations", "eks:DeletePodIdentityAssociation", ASSOCIATION, {"managed": "v1"}),
    (YES, "reconcile-associations", "eks:TagResource", ASSOCIATION, {}, MANAGED),
    (NO, "reconcile-associations", "eks:TagResource", ASSOCIATION, MANAGED, {"team": "payments"}),
    (NO, "reconcile-associations", "eks:TagResource", ASSOCIATION, {}, AND_MORE),
    (NO, "reconcile-associations", "eks:TagResource", ASSOCIATION, {}, {"podgrant/managed": "v2"}),
    (NO, "reconcile-associations", "eks:TagResource", CLUSTER, {}, MANAGED),
    (NO, "reconcile-associations", "eks:DeleteAddon", AGENT, MANAGED),
    # … and one access entry, to see which service accounts a pattern means
    (YES, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, RECONCILERS_OWN),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, {}, RECONCILERS_OWN),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, AND_MORE, RECONCILERS_OWN),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, OWN_ENTRY),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED,
     RECONCILERS_OWN | {"eks:kubernetesGroups": ["podgrant", "system:masters"]}),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, RECONCILERS_OWN | {"eks:username": "admin"}),
    (NO, "reconcile-associations", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED,
     RECONCILERS_OWN | {"eks:accessEntryType": "EC2_LINUX"}),
    (YES, "reconcile-associations", "eks:AssociateAccessPolicy", RECONCILERS_ENTRY, {}, {}, EXPANDING),
    (YES, "reconcile-associations", "eks:AssociateAccessPolicy", RECONCILERS_ENTRY, {}, {},
     EXPANDING | {"eks:accessScope": "cluster", "eks:namespaces": []}),
    (NO, "reconcile-associations", "eks:AssociateAccessPolicy", OTHER_ENTRY, {}, {}, EXPANDING),
    (NO, "reconcile-associations", "eks:AssociateAccessPolicy", RECONCILERS_ENTRY, {}, {}, EXPANDING | {"eks:principalArn": OWN_ROLE}),
    (NO, "reconcile-associations", "eks:AssociateAccessPolicy", RECONCILERS_ENTRY, {}, {}, EXPANDING | {"eks:policyArn": ADMIN}),
    (YES, "reconcile-associations", "eks:DescribeAccessEntry", RECONCILERS_ENTRY),
    (YES, "reconcile-associations", "eks:TagResource", RECONCILERS_ENTRY, {}, MANAGED),
    (NO, "reconcile-associations", "eks:TagResource", RECONCILERS_ENTRY),
    (NO, "reconcile-associations", "eks:TagResource", RECONCILERS_ENTRY, {}, AND_MORE),
    (NO, "reconcile-associations", "eks:TagResource", OTHER_ENTRY, {}, MANAGED),
    (NO, "reconcile-associations", "eks:DeleteAccessEntry", RECONCILERS_ENTRY),
    (NO, "reconcile-associations without entries", "eks:CreateAccessEntry", CLUSTER, {}, MANAGED, RECONCILERS_OWN),
    (NO, "reconcile-associations without entries", "eks:AssociateAccessPolicy", RECONCILERS_ENTRY, {}, {}, EXPANDING),
    (YES, "reconcile-associations", "iam:PassRole", ROLE, {}, {}, {"iam:PassedToService": "pods.eks.amazonaws.com"}),
    (NO, "reconcile-associations", "iam:PassRole", ROLE, {}, {}, {"iam:PassedToService": "lambda.amazonaws.com"}),
    (NO, "reconcile-associations", "iam:PassRole", ROLE),
    (NO, "reconcile-associations", "iam:PassRole", OTHER_ROLE, {}, {}, {"iam:PassedToService": "pods.eks.amazonaws.com"}),
    (YES, "reconcile-associations", "iam:UpdateAssumeRolePolicy", ROLE, {"podgrant/trust": "manage"}),
    (NO, "reconcile-associations", "iam:UpdateAssumeRolePolicy", ROLE),
    (NO, "reconcile-associations", "iam:UpdateAssumeRolePolicy", ROLE, {"podgrant/trust": "keep"}),
    (NO, "reconcile-associations", "iam:UpdateAssumeRolePolicy", OTHER_ROLE, {"podgrant/trust": "manage"}),
    (NO, "reconcile-associations", "iam:TagRole", ROLE, ASKS, MARK),
    (NO, "reconcile-associations", "iam:DeleteRole", ROLE, ASKS | BEGUN),
    # clean-up-orphans: as shipped it takes its own associations, and marks away
    (YES, "clean-up-orphans", "eks:DeletePodIdentityAssociation", ASSOCIATION, MANAGED),
    (NO, "clean-up-orphans", "eks:DeletePodIdentityAssociation", ASSOCIATION),
    (NO, "clean-up-orphans", "eks:CreatePodIdentityAssociation", CLUSTER, {}, MANAGED),
    (NO, "clean-up-orphans", "iam:PassRole", ROLE, {}, {}, {"iam:PassedToService": "pods.eks.amazonaws.com"}),
    (YES, "clean-up-orphans", "iam:UntagRole", ROLE, MARK, {}, {"aws:TagKeys": ["podgrant/orphaned-since"]}),
    (NO, "clean-up-orphans", "iam:UntagRole", ROLE, MARK, {}, {"aws:TagKeys": ["podgrant/orphaned-since", "podgrant/grant"]}),
    (NO, "clean-up-orphans", "iam:UntagRole", ROLE, MARK, {}, {"aws:TagKeys": None}),
    (NO, "clean-up-orphans", "iam:UntagRole", OTHER_ROLE, MARK, {}, {"aws:TagKeys": ["podgrant/orphaned-since"]}),
    (NO, "clean-up-orphans", "iam:TagRole", ROLE, ASKS, MARK),
    (NO, "clean-up-orphans", "iam:DeleteRole", ROLE, ASKS | BEGUN),
    (NO, "clean-up-orphans", "iam:DetachRolePolicy", ROLE, ASKS | BEGUN),
    # … and where roles may be deleted, those that ask for it and are marked
    (YES, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, ASKS, MARK),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, {}, MARK),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, {"podgrant/on-orphan": "keep"}, MARK),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, ASKS, MARK | {"podgrant/grant": "a/b@c"}),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, {}, ASKS),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", ROLE, ASKS, {}, {"aws:TagKeys": None}),
    (NO, "clean-up-orphans with DeleteRoles", "iam:TagRole", OTHER_ROLE, ASKS, MARK),
    (YES, "clean-up-orphans with DeleteRoles", "iam:DeleteRole", ROLE, ASKS | BEGUN),
    (YES, "clean-up-orphans with DeleteRoles", "iam:DetachRolePolicy", ROLE, ASKS | BEGUN),
    (YES, "clean-up-orphans with DeleteRoles", "iam:DeleteRolePolicy", ROLE, ASKS | BEGUN),
    (NO, "clean-up-orphans with DeleteRoles", "iam:DeleteRole", ROLE, ASKS | MARK),
    (NO, "clean-up-orphans with DeleteRoles", "iam:DeleteRole", ROLE, ASKS),
    (NO, "clean-up-orphans with DeleteRoles", "iam:DeleteRole", ROLE, BEGUN),
    (NO, "clean-up-orphans with DeleteRoles", "iam:DeleteRole", OTHER_ROLE, ASKS | BEGUN),
    (NO, "clean-up-orphans with DeleteRoles", "iam:DetachRolePolicy", ROLE, MARK),
    (NO, "clean-up-orphans with DeleteRoles", "iam:UpdateAssumeRolePolicy", ROLE, ASKS | BEGUN | {"podgrant/trust": "manage"}),
    # queue, bus and key
    (YES, "clean-up-orphans", "sqs:ReceiveMessage", f"arn:aws:sqs:eu-west-1:{ACCOUNT}:clean-up-orphans"),
    (NO, "clean-up-orphans", "sqs:SendMessage", f"arn:aws:sqs:eu-west-1:{ACCOUNT}:install-agent"),
    (YES, "clean-up-orphans", "events:PutEvents", VALUES["bus_arn"]),
    (NO, "clean-up-orphans", "events:PutEvents", f"arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/default"),
    (NO, "clean-up-orphans", "kms:Decrypt", VALUES["key_arn"], {}, {}, {"kms:ViaService": "sqs.eu-west-1.amazonaws.com"}),
    (YES, "clean-up-orphans with its own key", "kms:Decrypt", VALUES["key_arn"], {}, {}, {"kms:ViaService": "sqs.eu-west-1.amazonaws.com"}),
    (NO, "clean-up-orphans with its own key", "kms:Decrypt", VALUES["key_arn"]),
    (NO, "clean-up-orphans with its own key", "kms:Decrypt", VALUES["key_arn"], {}, {}, {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}),
] + [
    # nobody, ever
    (NO, function, action, resource, ASKS | BEGUN | MANAGED, MANAGED, {"iam:PassedToService": "pods.eks.amazonaws.com"})
    for function in FUNCTIONS
    for action, resource in [
        ("iam:CreateRole", ROLE), ("iam:AttachRolePolicy", ROLE), ("iam:PutRolePolicy", ROLE),
        ("iam:PutRolePermissionsBoundary", ROLE), ("iam:DeleteRolePermissionsBoundary", ROLE), ("iam:CreatePolicyVersion", ROLE),
        ("sts:AssumeRole", ROLE), ("eks:DeleteCluster", CLUSTER), ("eks:UntagResource", ASSOCIATION),
        ("lambda:UpdateFunctionConfiguration", f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:podgrant"),
    ]
]


def documents(who):
    function = who.split(" ")[0]
    values = VALUES | {
        "queue_arn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{function}",
        "log_group_arn": f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/podgrant/podgrant/{function}:*",
    }
    return [json.loads(string.Template((POLICIES / f"{name}.json").read_text()).substitute(values)) for name in HAS[who]]


def statements(who, without=None):
    """The policies of a function; `without` names one condition that is left out: (Sid, operator, key)."""
    for document in documents(who):
        for statement in document["Statement"]:
            if without and statement["Sid"] == without[0]:
                statement["Condition"][without[1]].pop(without[2])
        yield parse_policy_document(document)


def allowed(who, action, resource, resource_tags=(), request_tags=(), others=(), without=None):
    request_tags = dict(request_tags)
    keys = {"aws:TagKeys": list(request_tags) or None}
    for tag, value in dict(resource_tags).items():
        keys[f"aws:ResourceTag/{tag}"] = value
        if action.startswith("iam:"):
            keys[f"iam:ResourceTag/{tag}"] = value
    keys.update(others)
    context = EvalContext(
        principal_arn=f"arn:aws:sts::{ACCOUNT}:assumed-role/podgrant/function", principal_type="AssumedRole",
        principal_account=ACCOUNT, action=action, resource_arn=resource, region="eu-west-1", request_tags=request_tags,
        # Its keys are looked up in lower case.
        service_context={key.lower(): value for key, value in keys.items()},
    )
    return evaluate(context, list(statements(who, without))).decision == "Allow"


class Requests(unittest.TestCase):
    def test_every_request_of_the_table(self):
        for expected, *request in TABLE:
            with self.subTest(request=request):
                self.assertEqual(allowed(*request), expected)


class Table(unittest.TestCase):
    def test_no_statement_is_there_that_the_table_does_not_need(self):
        """Each statement of every policy allows a row, or something is allowed that nobody looked at."""
        needed = {"WriteLogs"}
        for expected, who, action, *_ in TABLE:
            for policy in statements(who):
                needed.update(s.sid for s in policy if expected and action in s.actions)
        # Reads on everything are told apart from writes by their names alone.
        reads = {"SeeClustersAndAgents", "SeeRolesClustersAssociations"}
        for who in HAS:
            for policy in statements(who):
                for statement in policy:
                    if statement.sid in reads:
                        for action in statement.actions:
                            self.assertRegex(action, r":(Get|List|Describe)", who)
                    else:
                        self.assertIn(statement.sid, needed, who)

    def test_without_any_one_condition_a_row_fails(self):
        for who in HAS:
            for statement in (s for document in documents(who) for s in document["Statement"]):
                for operator, keys in statement.get("Condition", {}).items():
                    for key in keys:
                        without = (statement["Sid"], operator, key)
                        with self.subTest(who=who, without=without):
                            self.assertTrue(any(
                                allowed(*request, without=without) != expected
                                for expected, *request in TABLE
                                if statement["Sid"] in {s.sid for policy in statements(request[0]) for s in policy}
                            ))

    def test_the_evaluator_knows_every_operator_that_the_policies_use(self):
        """What it does not know it calls no match: a row that says no would then prove nothing."""
        from ministack.core.iam_evaluator import _CONDITION_OPS

        for who in HAS:
            for policy in statements(who):
                for statement in policy:
                    for operator in statement.conditions:
                        name = operator.lower().removeprefix("forallvalues:")
                        self.assertTrue(name == "null" or name in _CONDITION_OPS, operator)


if __name__ == "__main__":
    unittest.main()
