"""Links to AWS's console."""

from __future__ import annotations

from urllib.parse import quote

_REGIONAL = "https://{region}.console.aws.amazon.com/"
_PAGES = {
    "aws:autoscaling/group:Group": "ec2/home?region={region}#AutoScalingGroupDetails:id={id}",
    "aws:cloudwatch/logGroup:LogGroup": "cloudwatch/home?region={region}#logsV2:log-groups/log-group/{id}",
    "aws:ec2/internetGateway:InternetGateway": "vpcconsole/home?region={region}#InternetGateway:internetGatewayId={id}",
    "aws:ec2/launchTemplate:LaunchTemplate": "ec2/home?region={region}#LaunchTemplateDetails:launchTemplateId={id}",
    "aws:ec2/routeTable:RouteTable": "vpcconsole/home?region={region}#RouteTableDetails:RouteTableId={id}",
    "aws:ec2/securityGroup:SecurityGroup": "ec2/home?region={region}#SecurityGroup:groupId={id}",
    "aws:ec2/subnet:Subnet": "vpcconsole/home?region={region}#SubnetDetails:subnetId={id}",
    "aws:ec2/vpc:Vpc": "vpcconsole/home?region={region}#VpcDetails:VpcId={id}",
    "aws:ec2/vpcEndpoint:VpcEndpoint": "vpcconsole/home?region={region}#EndpointDetails:vpcEndpointId={id}",
    "aws:iam/policy:Policy": "iam/home#/policies/details/{id}",
    "aws:iam/role:Role": "iam/home#/roles/details/{id}",
    "aws:lambda/function:Function": "lambda/home?region={region}#/functions/{id}",
    "aws:s3/bucket:Bucket": "s3/buckets/{id}?region={region}",
    "aws:scheduler/schedule:Schedule": "scheduler/home?region={region}#schedules/{id}",
    "aws:secretsmanager/secret:Secret": "secretsmanager/secret?name={id}&region={region}",
}


def url(type: str, id: str, region: str) -> str:
    """See `Account.console_url`."""
    page = _PAGES.get(type)
    if page is None or not id:
        return ""
    return (_REGIONAL + page).format(region=region or "us-east-1", id=quote(id, safe="/:" if "iam" not in type else ""))
