"""Event source mappings that a CloudFormation template made."""

from ministack.services import lambda_svc


class NumbersFromTemplates:
    """AWS: MaximumConcurrency may be the !Ref of a Number parameter.
    ministack: such a number stays text, and then no queue of any account is polled any more.
    """

    def __init__(self, original):
        self._original = original

    def __call__(self, mapping, *args, **kwargs):
        scaling = mapping.get("ScalingConfig") or {}
        if isinstance(scaling.get("MaximumConcurrency"), str):
            scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
        return self._original(mapping, *args, **kwargs)


def install():
    lambda_svc._sqs_esm_concurrency = NumbersFromTemplates(lambda_svc._sqs_esm_concurrency)
