"""The names of ministack that the gaps lean on, most of them private, and a check that they are all there."""

import importlib

REQUIRED_NAMES = {
    "ministack.app": (
        "AUTH", "SERVICE_HANDLERS", "_dispatch_service_request", "_reset_all_state", "_routing_params",
        "detect_service", "main",
    ),
    "ministack.core.lambda_runtime": ("execution_credentials",),
    "ministack.core.responses": ("get_account_id", "get_region", "request_scope"),
    "ministack.core.router": ("extract_access_key_id",),
    "ministack.services.eks": (
        "_access_entries", "_access_policies", "_addons", "_ae_key", "_ap_key", "_build_access_entry", "_clusters",
        "_nodegroups", "_pia_key", "_pod_identity_associations", "_resolve_tag_resource_arn", "_tags",
    ),
    "ministack.services.eventbridge": (
        "_archive_event", "_dispatch_event", "_dispatch_to_event_bus", "_event_buses", "_invoke_target", "_put_events",
        "_rule_key", "_rules", "_targets",
    ),
    "ministack.services.iam": ("_access_keys", "_roles", "_users"),
    "ministack.services.lambda_svc": ("_sqs_esm_concurrency", "execution_credentials", "invalidate_worker"),
    "ministack.services.sts": ("_sessions", "register_session"),
    "ministack.services.tagging": ("_COLLECTORS",),
}


def missing_names(required=None):
    """Every required name that this ministack lacks, as "module.name"."""
    missing = []
    for module_name, names in (required or REQUIRED_NAMES).items():
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            missing.append(module_name)
            continue
        missing.extend(f"{module_name}.{name}" for name in names if not hasattr(module, name))
    return missing
