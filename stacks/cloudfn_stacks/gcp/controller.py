"""The controller: a function that anybody whom IAM allows may call, and a clock that wakes it every minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn_stacks import archive

HANDLER = "cloudfn_gcp.controller_handler"
_RUNTIME = "python312"
_REQUIREMENTS = b"functions-framework>=3,<4\n"


@dataclass(frozen=True)
class ControllerArgs:
    """What the controller is made of.

    Attributes:
        name: of the function, and of the Cloud Run service behind it.
        bucket: where its code goes, and its state.
        repository: where its built image goes.
        account: e-mail address of the service account that it acts as.
        build_account: full name of the one that builds it.
        schedule_account: e-mail address of the one that the clock calls it as.
        environment: variables of the function; no secrets.
    """

    project: str
    name: str
    region: str
    bucket: pulumi.Input[str]
    repository: pulumi.Input[str]
    account: pulumi.Input[str]
    build_account: pulumi.Input[str]
    schedule_account: pulumi.Input[str]
    environment: Mapping[str, str]
    labels: Mapping[str, str]


class Controller(pulumi.ComponentResource):
    """The function. `url` is where it is called, with an ID token for that very address."""

    function: gcp.cloudfunctionsv2.Function
    url: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        args: ControllerArgs,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("cloudfn:gcp:Controller", name, {}, opts)
        inner = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        code = archive.zipped({**archive.controller_files(HANDLER, "main.py"), "requirements.txt": _REQUIREMENTS})
        uploaded = gcp.storage.BucketObject(
            name,
            bucket=args.bucket,
            # Another name for other code: so the function is built again when the code changes, and only then.
            name=f"controller/{archive.digest(code)}.zip",
            source=pulumi.FileAsset(str(archive.kept(code))),
            content_type="application/zip",
            opts=inner,
        )
        self.function = _function(name, args, uploaded, inner)
        self.url = self.function.service_config.apply(lambda config: config.uri if config and config.uri else "")
        self.register_outputs({"url": self.url})

    def wake(self, name: str, args: ControllerArgs, after: Sequence[pulumi.Resource]) -> None:
        """Starts the clock; `after` must hold what lets it call."""
        gcp.cloudscheduler.Job(
            name,
            project=args.project,
            name=f"{args.name}-tick",
            region=args.region,
            description="Wakes cloudfn's controller.",
            schedule="* * * * *",
            time_zone="Etc/UTC",
            attempt_deadline="60s",
            # The next minute is the next attempt.
            retry_config=gcp.cloudscheduler.JobRetryConfigArgs(retry_count=0),
            http_target=gcp.cloudscheduler.JobHttpTargetArgs(
                uri=self.url,
                http_method="POST",
                headers={"Content-Type": "application/json"},
                body=TICK,
                oidc_token=gcp.cloudscheduler.JobHttpTargetOidcTokenArgs(
                    service_account_email=args.schedule_account, audience=self.url
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
        )


TICK = "eyJraW5kIjogInRpY2sifQ=="
"""{"kind": "tick"} in base64, as the provider wants a body."""


def _function(
    name: str, args: ControllerArgs, code: gcp.storage.BucketObject, opts: pulumi.ResourceOptions
) -> gcp.cloudfunctionsv2.Function:
    return gcp.cloudfunctionsv2.Function(
        name,
        project=args.project,
        name=args.name,
        location=args.region,
        description="Decides the sizes of cloudfn's groups.",
        build_config=gcp.cloudfunctionsv2.FunctionBuildConfigArgs(
            runtime=_RUNTIME,
            entry_point="handle",
            docker_repository=args.repository,
            service_account=args.build_account,
            source=gcp.cloudfunctionsv2.FunctionBuildConfigSourceArgs(
                storage_source=gcp.cloudfunctionsv2.FunctionBuildConfigSourceStorageSourceArgs(
                    bucket=args.bucket, object=code.name
                )
            ),
        ),
        service_config=gcp.cloudfunctionsv2.FunctionServiceConfigArgs(
            service_account_email=args.account,
            available_memory="256Mi",
            timeout_seconds=60,
            min_instance_count=0,
            max_instance_count=3,
            max_instance_request_concurrency=1,
            # Callers and machines come from the internet; IAM decides about each, and nobody else is let in.
            ingress_settings="ALLOW_ALL",
            all_traffic_on_latest_revision=True,
            environment_variables=args.environment,
        ),
        labels=args.labels,
        opts=opts,
    )
