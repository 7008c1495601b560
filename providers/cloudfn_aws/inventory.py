"""What the stack of a plan will hold on AWS, in Pulumi's words. `cloudfn_stacks.aws` registers exactly this."""

from __future__ import annotations

from typing import Iterator

from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Group, Plan, Resource, Storage
from cloudfn_aws.regions import ZONES, home, with_groups


def resources(plan: Plan) -> tuple[Resource, ...]:
    """Every resource, in the order in which a reader wants them."""
    return tuple(_resources(plan))


def storage(plan: Plan) -> tuple[Storage, ...]:
    """What keeps data."""
    disk = "the account's default EBS key"
    return (
        *(Storage("disk", group.name, disk) for group in plan.groups),
        Storage("bucket", "bucket", "S3's own keys (AES-256)"),
        Storage("log", "controller-log", "CloudWatch's own keys"),
        *(Storage("secret", f"secret-{secret.name}", "the key aws/secretsmanager") for secret in plan.secrets),
    )


def _resources(plan: Plan) -> Iterator[Resource]:
    for group in plan.groups:
        yield from _group(group)
    for region in with_groups(plan):
        if not plan.settings.network.id:
            yield from _network(plan, region)
        yield from _firewall(plan, region)
    yield from _bucket(plan)
    for secret in plan.secrets:
        words = f"values of the secret {secret.name!r}, which are set apart from the stack"
        yield Resource("aws:secretsmanager/secret:Secret", f"secret-{secret.name}", words)
    yield from _controller()
    yield Resource("aws:iam/role:Role", "machine", "what a machine may do")
    yield Resource("aws:iam/rolePolicy:RolePolicy", "machine", "its permissions")
    yield Resource("aws:iam/instanceProfile:InstanceProfile", "machine", "gives machines that role")
    yield Resource("aws:iam/policy:Policy", "call", "what callers need: attach it to those who may call")


def _group(group: Group) -> Iterator[Resource]:
    market = "spot" if group.market == SPOT else "on-demand"
    machine = f"{group.machine.name}, {market}, {group.region}"
    yield Resource("aws:ec2/launchTemplate:LaunchTemplate", group.name, f"how a machine is made: {machine}")
    yield Resource("aws:autoscaling/group:Group", group.name, f"0 to {group.max_machines} machines: {machine}")
    hook = "aws:autoscaling/lifecycleHook:LifecycleHook"
    yield Resource(hook, f"{group.name}-launch", "a machine counts only once it is ready")
    yield Resource(hook, f"{group.name}-terminate", "a machine may finish its work before it goes")


def _network(plan: Plan, region: str) -> Iterator[Resource]:
    yield Resource("aws:ec2/vpc:Vpc", f"network-{region}", "network of the machines")
    yield Resource("aws:ec2/internetGateway:InternetGateway", f"network-{region}", "its way out, free of charge")
    yield Resource("aws:ec2/routeTable:RouteTable", f"network-{region}", "routes of its subnets")
    yield Resource("aws:ec2/route:Route", f"network-{region}", "the way out")
    for zone in ZONES[region]:
        yield Resource("aws:ec2/subnet:Subnet", f"subnet-{region}-{zone}", f"machines in the zone {zone}")
        yield Resource("aws:ec2/routeTableAssociation:RouteTableAssociation", f"subnet-{region}-{zone}", "its routes")
    if region == home(plan):
        yield Resource("aws:ec2/vpcEndpoint:VpcEndpoint", "bucket-endpoint", "way to the bucket, free of charge")


def _firewall(plan: Plan, region: str) -> Iterator[Resource]:
    inbound = "inbound as listed under ports" if plan.ports else "nothing inbound"
    yield Resource("aws:ec2/securityGroup:SecurityGroup", f"machines-{region}", f"firewall of machines: {inbound}")
    rule = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    yield Resource(rule, f"machines-{region}", "machines may reach anything")
    for port in plan.ports:
        for index, source in enumerate(port.sources):
            rule = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
            name = f"{port.protocol}-{port.port}-{index}-{region}"
            yield Resource(rule, name, f"{port.why}, from {source}")


def _bucket(plan: Plan) -> Iterator[Resource]:
    yield Resource("aws:s3/bucket:Bucket", "bucket", "code, arguments, results and state; deleted with what is in it")
    for name, type_, words in (
        ("bucket-public-access", "bucketPublicAccessBlock:BucketPublicAccessBlock", "closed to the public"),
        ("bucket-ownership", "bucketOwnershipControls:BucketOwnershipControls", "no access lists"),
        (
            "bucket-encryption",
            "bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            "encrypted at rest",
        ),
        (
            "bucket-lifecycle",
            "bucketLifecycleConfiguration:BucketLifecycleConfiguration",
            f"calls go after 7 days, what machines left after {plan.settings.log_retention}",
        ),
        ("bucket-policy", "bucketPolicy:BucketPolicy", "refuses requests without TLS"),
    ):
        yield Resource(f"aws:s3/{type_}", name, words)
    yield Resource("aws:s3/bucketObjectv2:BucketObjectv2", "descriptor", "tells callers where everything is")
    yield Resource("aws:s3/bucketObjectv2:BucketObjectv2", "agent", "what runs on machines: cloudfn's own code")


def _controller() -> Iterator[Resource]:
    yield Resource("aws:lambda/function:Function", "controller", "decides on the sizes of groups")
    yield Resource("aws:lambda/functionUrl:FunctionUrl", "controller", "its address, for signed requests only")
    yield Resource("aws:cloudwatch/logGroup:LogGroup", "controller-log", "its log")
    yield Resource("aws:iam/role:Role", "controller", "what it may do")
    yield Resource("aws:iam/rolePolicy:RolePolicy", "controller", "its permissions")
    yield Resource("aws:scheduler/schedule:Schedule", "schedule", "wakes it every minute")
    yield Resource("aws:iam/role:Role", "schedule", "what the schedule may do")
    yield Resource("aws:iam/rolePolicy:RolePolicy", "schedule", "its permission")
