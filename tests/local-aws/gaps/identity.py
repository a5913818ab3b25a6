"""Who made a call: credentials for functions, and CloudTrail's userIdentity."""

import hashlib

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import iam, lambda_svc, sts


class FunctionCredentials:
    """AWS: a function runs with session credentials of its own role, the session named after the function.
    ministack: it gets the account's id as access key, so its calls can't be told from a person's (but with AUTH=true).
    """

    def __init__(self, original):
        self._original = original

    def __call__(self, config):
        role_arn = config.get("Role", "")
        if app.AUTH or ":role/" not in role_arn:
            return self._original(config)
        account = role_arn.split(":")[4]
        role_name = role_arn.rsplit("/", 1)[-1]
        session_name = config.get("FunctionName", "function")[:64]
        # Derived, not random: every process of a function carries the same key, and no sessions pile up.
        seed = f"{config.get('FunctionArn', '')} {role_arn}"
        access_key = "ASIA" + _digest("key", seed)[:16].upper()
        secret, token = _digest("secret", seed), _digest("token", seed)
        role = iam._roles.get_scoped(account, None, role_name) or {}
        sts.register_session(access_key, {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role_name}/{session_name}",
            "UserId": f"{role.get('RoleId', role_name)}:{session_name}",
            "SecretAccessKey": secret,
            "SessionToken": token,
        })
        return {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}


def _digest(purpose, seed):
    return hashlib.sha256(f"{purpose} {seed}".encode()).hexdigest()


def user_identity(access_key, account):
    """CloudTrail's userIdentity for an access key: an assumed role, an IAM user, or the account itself."""
    session = sts._sessions.get(access_key)
    if session and ":assumed-role/" in session.get("Arn", ""):
        return _assumed_role(session["Arn"], access_key)
    record = iam._access_keys.get_scoped(account, None, access_key)
    if record:
        name = record.get("UserName", "")
        user = iam._users.get_scoped(account, None, name) or {}
        return {
            "type": "IAMUser",
            "principalId": user.get("UserId", ""),
            "arn": user.get("Arn", f"arn:aws:iam::{account}:user/{name}"),
            "accountId": account,
            "accessKeyId": access_key,
            "userName": name,
        }
    return {
        "type": "Root",
        "principalId": account,
        "arn": f"arn:aws:iam::{account}:root",
        "accountId": account,
        "accessKeyId": access_key,
    }


def _assumed_role(session_arn, access_key):
    account = session_arn.split(":")[4]
    _, role_name, session_name = session_arn.split(":", 5)[5].split("/", 2)
    role = iam._roles.get_scoped(account, None, role_name) or {}
    role_id = role.get("RoleId", role_name)
    return {
        "type": "AssumedRole",
        "principalId": f"{role_id}:{session_name}",
        "arn": session_arn,
        "accountId": account,
        "accessKeyId": access_key,
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": role_id,
                "arn": role.get("Arn", f"arn:aws:iam::{account}:role/{role_name}"),
                "accountId": account,
                "userName": role_name,
            },
            "attributes": {"mfaAuthenticated": "false"},
        },
    }


def install():
    # Both modules hold the name: lambda_svc imported it from lambda_runtime.
    credentials = FunctionCredentials(lambda_runtime.execution_credentials)
    lambda_runtime.execution_credentials = credentials
    lambda_svc.execution_credentials = credentials
