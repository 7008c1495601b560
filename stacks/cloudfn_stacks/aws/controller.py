"""The controller: a function with an address for signed requests, woken every minute."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloudfn import controller_facts
from cloudfn.controller_facts import Facts
from cloudfn_stacks import archive
from cloudfn_stacks.aws.logs import Log
from cloudfn_stacks.aws.roles import ServiceRole

HANDLER = "cloudfn_aws.controller_handler"
BESIDE = (
    "cloudfn_aws.controller_cloud",
    "cloudfn_aws.controller_failures",
    "cloudfn_aws.controller_identity",
    "cloudfn_aws.controller_store",
)
MODULE = "handler"
FACTS = "facts.json"
RUNTIME = "python3.12"
MEMORY_MIB = 256
TIMEOUT = 60
"""Seconds."""


@dataclass(frozen=True)
class ControllerArgs:
    """The controller's parts.

    Attributes:
        prefix: begins physical names.
        facts: what it must know of the plan.
        bucket: name of the bucket that holds its state.
        role: what the function may do.
        schedule_role: what the schedule may do.
    """

    prefix: str
    stack: str
    facts: Facts
    bucket: pulumi.Input[str]
    role: ServiceRole
    schedule_role: ServiceRole
    log: Log


class Controller(pulumi.ComponentResource):
    """It has no reserved concurrency: accounts that are new have 10 in all and may reserve none, and conditional
    writes of its state already keep two runs from acting at once.

    Attributes:
        function: the function.
        url: its address; AWS refuses whoever is not allowed to call before the function runs.
    """

    function: aws.lambda_.Function
    url: pulumi.Output[str]

    def __init__(self, name: str, args: ControllerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Controller", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        self.function = aws.lambda_.Function(
            name,
            name=f"{args.prefix}-controller",
            description=f"cloudfn: decides on the sizes of the groups of {args.stack}",
            runtime=RUNTIME,
            architectures=["x86_64"],
            handler=f"{MODULE}.handler",
            code=pulumi.FileArchive(str(archive.kept(package(args.facts)))),
            role=args.role.role.arn,
            memory_size=MEMORY_MIB,
            timeout=TIMEOUT,
            environment=aws.lambda_.FunctionEnvironmentArgs(
                variables={
                    "CLOUDFN_BUCKET": args.bucket,
                    "CLOUDFN_PREFIX": args.prefix,
                    "CLOUDFN_STACK": args.stack,
                }
            ),
            logging_config=aws.lambda_.FunctionLoggingConfigArgs(log_format="Text", log_group=args.log.group.name),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.role.policy]),
        )
        self.url = aws.lambda_.FunctionUrl(
            name, function_name=self.function.name, authorization_type="AWS_IAM", opts=mine
        ).function_url
        aws.scheduler.Schedule(
            "schedule",
            name=f"{args.prefix}-controller",
            description=f"cloudfn: wakes the controller of {args.stack}",
            schedule_expression="rate(1 minute)",
            flexible_time_window=aws.scheduler.ScheduleFlexibleTimeWindowArgs(mode="OFF"),
            target=aws.scheduler.ScheduleTargetArgs(
                arn=self.function.arn,
                role_arn=args.schedule_role.role.arn,
                input=json.dumps({"kind": "tick"}),
                # The next minute is a retry.
                retry_policy=aws.scheduler.ScheduleTargetRetryPolicyArgs(
                    maximum_retry_attempts=0, maximum_event_age_in_seconds=60
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[args.schedule_role.policy]),
        )
        self.register_outputs({"url": self.url})


def package(facts: Facts) -> bytes:
    """The function's code as a zip, the same for the same code and plan."""
    files = archive.controller_files(HANDLER, f"{MODULE}.py", BESIDE)
    text = json.dumps(controller_facts.to_json(facts), indent=1, sort_keys=True)
    return archive.zipped({**files, FACTS: text.encode()})
