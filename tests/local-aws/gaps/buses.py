"""Event buses across regions."""

from ministack.core.responses import get_account_id, get_region, request_scope
from ministack.services import eventbridge


class AcrossRegions:
    """AWS: a rule's target may be an event bus of another region; the event arrives unchanged, its own region included.
    ministack: accepts such a target and drops the events.
    """

    def __init__(self, original):
        self._original = original

    def __call__(self, spec, event, rule, event_path, target_input_payload=None):
        same_account = spec.account_id == get_account_id()
        is_bus = spec.resource.startswith("event-bus/")
        if not same_account or not is_bus or spec.region == get_region():
            return self._original(spec, event, rule, event_path, target_input_payload)

        # ministack stops loops by the rules passed, within a region. Across regions names repeat, so add the region.
        passed = f"{get_region()} {eventbridge._rule_key(rule.get('Name'), rule.get('EventBusName', 'default'))}"
        if passed in event_path:
            return None
        forwarded = {
            **event,
            "EventBusName": spec.resource.split("/", 1)[1],
            "_DispatchPath": [*event_path, passed],
        }
        if target_input_payload is not None:
            forwarded["Detail"] = target_input_payload
        with request_scope(spec.account_id, spec.region):
            if forwarded["EventBusName"] in eventbridge._event_buses or forwarded["EventBusName"] == "default":
                eventbridge._dispatch_event(forwarded)
                eventbridge._archive_event({k: v for k, v in forwarded.items() if k != "_DispatchPath"})
        return None


def install():
    eventbridge._dispatch_to_event_bus = AcrossRegions(eventbridge._dispatch_to_event_bus)
