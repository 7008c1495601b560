"""What a controller must know of the plan that its stack is made of."""

from __future__ import annotations

from cloudfn.controller_facts import Caps, Facts, GroupFacts
from cloudfn.plan_spec import Plan


def of(plan: Plan) -> Facts:
    """Groups, their prices, and what may be spent on machines: of the monthly cap, what is left when everything that
    costs money without machines is paid."""
    caps = plan.settings.caps
    fixed = sum(line.usd_per_month or 0.0 for line in plan.costs.idle)
    return Facts(
        stack=plan.stack,
        app=plan.app,
        prefix=plan.prefix,
        groups={
            group.name: GroupFacts(
                name=group.name,
                cloud_name=f"{plan.prefix}-{group.name}",
                region=group.region,
                type=group.machine.name,
                market=group.market,
                max_machines=group.max_machines,
                usd_per_hour=plan.costs.hour_at_one.get(group.name),
            )
            for group in plan.groups
        },
        caps=Caps(
            hourly=caps.hourly,
            monthly=None if caps.monthly is None else max(0.0, caps.monthly - fixed),
            planned=plan.costs.worst_hour or None,
        ),
        idle_timeout=plan.settings.idle_timeout,
    )
