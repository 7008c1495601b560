"""AWS with credentials, against moto, put through the suite that any cloud's account can run."""

from __future__ import annotations

import pytest
from cloudfn_aws.account import AWSAccount
from cloudfn_aws.cloud import AWS

from cloudfn.account import Account
from cloudfn.cloud import Cloud
from cloudfn.contract import AccountContract


@pytest.mark.usefixtures("credentials")
class TestAWSAccount(AccountContract):
    def cloud(self) -> Cloud:
        return AWS()

    def account(self) -> Account:
        return AWSAccount()
