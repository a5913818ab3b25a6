"""The one way in: every call passes here, to be refused by a fault, noted, and told to CloudTrail."""

import logging

from ministack import app
from ministack.core.responses import get_account_id, get_region
from ministack.core.router import extract_access_key_id

from . import (
    access_entries,
    buses,
    control,
    eks_api,
    event_sources,
    functions,
    iam_api,
    identity,
    operations,
    state,
    tag_index,
    trail,
    wire,
)

_log = logging.getLogger("podgrant")


class Gateway:
    """Wraps ministack's dispatch of requests to services, outside of its authorization: refusals are seen here too."""

    def __init__(self, original):
        self._original = original

    async def __call__(self, method, path, headers, body, query, request_id):
        if path.startswith(control.PREFIX):
            return control.answer(method, path, query, body)

        service = app.detect_service(method, path, headers, app._routing_params(method, path, headers, body, query))
        operation = operations.operation_name(service, method, path, headers, body, query)
        account, region = get_account_id(), get_region()
        # Read before the call: a call may delete the very key it was made with.
        access_key = extract_access_key_id(headers, query)
        principal = identity.user_identity(access_key, account)["arn"]

        fault = state.take_fault(account, service, operation)
        if fault and not fault.after:
            answer = told = _faulty(fault, service)
        else:
            answer = told = await self._original(method, path, headers, body, query, request_id)
            if fault:
                told = _faulty(fault, service)

        if service in trail.SERVICES:
            try:
                trail.publish(service, operation, method, path, headers, body, query, request_id, access_key, answer)
            except Exception:  # CloudTrail's trouble is never the caller's
                _log.exception("no CloudTrail event for %s %s", service, operation)
        call = {
            "account": account, "region": region, "service": service, "operation": operation, "status": told[0],
            "principal": principal, "userAgent": headers.get("user-agent", ""),
        }
        if told[0] >= 400:
            call["errorCode"], _ = operations.error_of(service, told)
        state.record_call(**call)
        return told


def _faulty(fault, service):
    if service in ("iam", "sts"):
        return wire.xml_error(fault.status, fault.code, fault.message)
    return wire.json_error(fault.status, fault.code, fault.message)


class Reset:
    """POST /_ministack/reset forgets what the control endpoint was told, too."""

    def __init__(self, original):
        self._original = original

    def __call__(self):
        self._original()
        state.clear()


def install():
    """Puts every gap's supply into place."""
    identity.install()
    buses.install()
    event_sources.install()
    functions.install()
    access_entries.install()
    eks_api.install(app.SERVICE_HANDLERS)
    iam_api.install(app.SERVICE_HANDLERS)
    tag_index.install(app.SERVICE_HANDLERS)
    app._dispatch_service_request = Gateway(app._dispatch_service_request)
    app._reset_all_state = Reset(app._reset_all_state)
