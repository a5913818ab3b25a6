"""Compares what each function asks AWS for, in all scenarios together, with what its policy allows: nothing missing, nothing spare.

usage: compare_calls.py FILE, which holds a line `<access key> <service> <operation>` for each, as the fake AWS of tests/ writes them
(PODGRANT_CALLS_FILE); each function signs with a key that ends in its name.
"""

import sys

from test_templates import statements, template

ROLES = {
    "install-agent": "InstallAgentRole",
    "reconcile-associations": "ReconcileAssociationsRole",
    "clean-up-orphans": "CleanUpOrphansRole",
}

# Where IAM's name for what an operation needs is not the service's and the operation's own, or is more than one.
ACTIONS = {
    "tagging GetResources": {"tag:GetResources"},
    "sqs SendMessageBatch": {"sqs:SendMessage"},
    # A role is handed over, and a tag set (Service Authorization Reference, Amazon EKS; EKS user guide, "Pod Identity").
    "eks CreatePodIdentityAssociation": {"eks:CreatePodIdentityAssociation", "iam:PassRole", "eks:TagResource"},
    "eks UpdatePodIdentityAssociation": {"eks:UpdatePodIdentityAssociation", "iam:PassRole"},
    "eks CreateAddon": {"eks:CreateAddon", "eks:TagResource"},
    "eks CreateAccessEntry": {"eks:CreateAccessEntry", "eks:TagResource"},
}

# What Lambda does in the function's name.
LAMBDAS = {
    "logs:CreateLogStream", "logs:PutLogEvents",
    "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes",
}

# Needed by the encryption of queues and bus, where a key of the account's own does it.
ENCRYPTION = {"kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"}

# What EKS itself asks of whoever creates or updates an association: that the role is there (EKS API reference,
# CreatePodIdentityAssociation). The fake does not look.
ON_BEHALF = {"reconcile-associations": {"iam:GetRole"}}


def asked(lines):
    """The actions that each function asked for."""
    actions = {function: set() for function in ROLES}
    for line in lines:
        key, service, operation = line.split()
        function = key.partition(".")[2]
        if function in actions:
            actions[function] |= ACTIONS.get(f"{service} {operation}", {f"{service}:{operation}"})
    return actions


def allowed():
    """The actions that each function's policies allow."""
    by_role = {}
    for role, statement in statements(template("template.yaml")):
        actions = statement["Action"]
        by_role.setdefault(role, set()).update([actions] if isinstance(actions, str) else actions)
    return {function: by_role[role] for function, role in ROLES.items()}


def differences(lines):
    """One line for each action that is missing or spare."""
    needs, has = asked(lines), allowed()
    for function in ROLES:
        needed = needs[function] | LAMBDAS
        for action in sorted(needed - has[function]):
            yield f"{function}: its policy lacks {action}"
        for action in sorted(has[function] - needed - ENCRYPTION - ON_BEHALF.get(function, set())):
            yield f"{function}: its policy allows {action}, and no scenario needs it"


def main(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    problems = list(differences(lines))
    for problem in problems:
        print(problem)
    counts = {function: len(actions) for function, actions in asked(lines).items()}
    print("actions asked for: " + ", ".join(f"{function} {count}" for function, count in counts.items()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
