"""What every cloud and place to run must keep to, as tests that anybody can run on their own: see docs/providers.md.

    from cloudfn.contract import CloudContract

    class TestMine(CloudContract):
        def cloud(self):
            return MyCloud()

Needs pytest; the stacks' part needs Pulumi's SDK too.
"""

from __future__ import annotations

from cloudfn.contract.account import AccountContract
from cloudfn.contract.cloud import CloudContract
from cloudfn.contract.machine import MachineContract
from cloudfn.contract.stack import StackContract

__all__ = ["AccountContract", "CloudContract", "MachineContract", "StackContract"]
