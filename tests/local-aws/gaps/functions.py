"""Functions that CloudFormation makes, in one account and another."""

from ministack.core.responses import get_account_id, get_region
from ministack.services import lambda_svc


class InvalidateWorker:
    """AWS: accounts share nothing.
    ministack: a stack that makes a function kills, in mid-work, the processes of its namesakes in all other accounts;
    and stacks of one name give their functions the same names.
    """

    def __init__(self, original):
        self._original = original

    def __call__(self, func_name, qualifier=None, account=None, region=None):
        return self._original(func_name, qualifier, account or get_account_id(), region or get_region())


def install():
    lambda_svc.invalidate_worker = InvalidateWorker(lambda_svc.invalidate_worker)
