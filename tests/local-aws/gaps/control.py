"""The control endpoint, /_podgrant/…: what a test sets and what it asks. See README.md."""

import json
import time
import uuid

from ministack.core.responses import request_scope
from ministack.services import eventbridge

from . import state, trail
from .state import EVERY_ACCOUNT
from .wire import json_answer

PREFIX = "/_podgrant/"


def answer(method, path, query, body):
    route = _ROUTES.get((method, path[len(PREFIX):]))
    if route is None:
        known = ", ".join(sorted(f"{m} {PREFIX}{name}" for m, name in _ROUTES))
        return json_answer({"error": f"no {method} {path}; there are {known}"}, 404)
    try:
        document = {name: values[0] for name, values in query.items()}
        if body:
            document.update(json.loads(body))
        account = document.pop("account", EVERY_ACCOUNT)
        return json_answer(route(account, document))
    except (KeyError, TypeError, ValueError) as error:
        return json_answer({"error": f"{type(error).__name__}: {error}"}, 400)


def _add_fault(account, document):
    return {"id": state.add_fault(account, document).id}


def _show_faults(account, _document):
    return {"faults": state.faults(account)}


def _clear_faults(account, _document):
    state.clear_faults(account)
    return {}


def _show_calls(account, wanted):
    return {"calls": state.calls(account, wanted)}


def _clear_calls(account, _document):
    state.clear_calls(account)
    return {}


def _show_settings(account, _document):
    return state.settings_of(account)


def _change_settings(account, changes):
    state.change_settings(account, changes)
    return state.settings_of(account)


def _put_event(account, document):
    """An event from AWS itself, such as `EKS Addon Health Degraded`: callers' PutEvents may not name such a source."""
    trail.put(_one(account), document["region"], document["source"], document["detail-type"], document.get("detail", {}))
    return {}


def _fire_schedule(account, document):
    """Fires a scheduled rule now: the shortest schedule is a minute."""
    bus = document.get("bus", "default")
    with request_scope(_one(account), document["region"]):
        key = eventbridge._rule_key(document["rule"], bus)
        rule = eventbridge._rules[key]
        event = {
            "EventId": str(uuid.uuid4()),
            "Source": "aws.events",
            "DetailType": "Scheduled Event",
            "Detail": "{}",
            "EventBusName": bus,
            "Time": int(time.time()),
            "Resources": [rule["Arn"]],
            "Account": account,
            "Region": document["region"],
        }
        targets = eventbridge._targets.get(key, [])
        for target in targets:
            eventbridge._invoke_target(target, event, rule)
    return {"targets": len(targets)}


def _one(account):
    if account == EVERY_ACCOUNT:
        raise ValueError("this needs an account")
    return account


_ROUTES = {
    ("POST", "faults"): _add_fault,
    ("GET", "faults"): _show_faults,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "calls"): _show_calls,
    ("DELETE", "calls"): _clear_calls,
    ("GET", "settings"): _show_settings,
    ("POST", "settings"): _change_settings,
    ("POST", "events"): _put_event,
    ("POST", "schedule"): _fire_schedule,
}
