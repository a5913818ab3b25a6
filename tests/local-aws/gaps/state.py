"""What the control endpoint sets and shows: settings, faults and the calls seen. Kept apart for each account.

All of it is touched on ministack's event loop only, so it needs no locks.
"""

import collections
import dataclasses
import itertools
import time

EVERY_ACCOUNT = "*"

DEFAULT_SETTINGS = {
    # Seconds that a cluster or an add-on stays CREATING. Read when the status is asked for, so lowering it to zero
    # finishes what is being created, and a test needs no clock.
    "clusterCreatingSeconds": 0,
    "addonCreatingSeconds": 0,
    # Names of clusters whose creation ends FAILED instead of ACTIVE.
    "clusterFails": [],
    # Cluster → {"endpoint": "https://127.0.0.1:1", "certificateAuthority": "<base64>"}, for a Kubernetes API of the test's own.
    "clusterEndpoint": {},
    # "cluster/addon" → {"status": "DEGRADED", "issues": [{"code": …, "message": …, "resourceIds": […]}]}
    "addonHealth": {},
    # Role name → {"date": "2026-11-24T03:00:00Z", "region": "eu-west-1"}, as AWS's access tracking would have it.
    "roleLastUsed": {},
}

_settings = {}
_faults = []
_calls = collections.deque(maxlen=50_000)
_fault_ids = itertools.count(1)


@dataclasses.dataclass
class Fault:
    """An error to answer instead of doing what was asked, or, with `after`, having done it."""

    id: int
    service: str
    operation: str
    status: int
    code: str
    message: str
    times: int
    after: bool
    account: str

    def matches(self, account, service, operation):
        return (
            self.times > 0
            and self.service == service
            and self.operation in (EVERY_ACCOUNT, operation)
            and self.account in (EVERY_ACCOUNT, account)
        )


def setting(name, account):
    for scope in (account, EVERY_ACCOUNT):
        if name in _settings.get(scope, {}):
            return _settings[scope][name]
    return DEFAULT_SETTINGS[name]


def settings_of(account):
    return {name: setting(name, account) for name in DEFAULT_SETTINGS}


def change_settings(account, changes):
    unknown = sorted(set(changes) - set(DEFAULT_SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings {unknown}; known are {sorted(DEFAULT_SETTINGS)}")
    for name, value in changes.items():
        if not isinstance(value, (int, float) if name.endswith("Seconds") else type(DEFAULT_SETTINGS[name])):
            raise ValueError(f"{name} can't be {value!r}")
    _settings.setdefault(account, {}).update(changes)


def add_fault(account, document):
    fault = Fault(
        id=next(_fault_ids),
        service=str(document["service"]),
        operation=str(document.get("operation", EVERY_ACCOUNT)),
        status=int(document["status"]),
        code=str(document["code"]),
        message=str(document.get("message", "")),
        times=int(document.get("times", 1)),
        after=bool(document.get("after", False)),
        account=account,
    )
    _faults.append(fault)
    return fault


def take_fault(account, service, operation):
    """The fault due for this call, counted down, or None."""
    for fault in _faults:
        if fault.matches(account, service, operation):
            fault.times -= 1
            if fault.times == 0:
                _faults.remove(fault)
            return fault
    return None


def faults(account):
    return [dataclasses.asdict(fault) for fault in _faults if account in (EVERY_ACCOUNT, fault.account)]


def clear_faults(account):
    _faults[:] = [fault for fault in _faults if account not in (EVERY_ACCOUNT, fault.account)]


def record_call(**call):
    _calls.append({"time": time.time(), **call})


def calls(account, wanted=None):
    """The calls seen, oldest first; `wanted` holds values that fields of a call must have."""
    wanted = wanted or {}
    return [
        call
        for call in _calls
        if account in (EVERY_ACCOUNT, call["account"])
        and all(str(call.get(field)) == value for field, value in wanted.items())
    ]


def clear_calls(account):
    kept = [call for call in _calls if account not in (EVERY_ACCOUNT, call["account"])]
    _calls.clear()
    _calls.extend(kept)


def clear():
    _settings.clear()
    _faults.clear()
    _calls.clear()
