"""Handlers of the AWS double: networks and firewalls, made for real in moto."""

from __future__ import annotations

from typing import Any, ClassVar

from engine.plugin import Failure, Properties


def is_gone(error: Exception) -> bool:
    """Whether a botocore error says that something does not exist (any more)."""
    code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
    gone = ("NotFound", "NoSuch", "404", "ResourceNotFoundException", "NoSuchEntity", "Malformed")
    return any(word in code for word in gone)


class Simple:
    """Common parts of handlers."""

    replace_on: frozenset[str] = frozenset()
    named_by = ""

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        raise Failure(f"{type(self).__name__} cannot be updated: {old} -> {new}")


def ec2_tags(tags: Properties | None) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted((tags or {}).items())]


def from_tags(tags: list[dict[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or []}


def specification(kind: str, tags: Properties | None) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": ec2_tags(tags)}]} if tags else {}


class Tagged(Simple):
    """An EC2 resource whose tags can be changed in place; `describe` finds it."""

    list_call: ClassVar[tuple[str, str, str]]
    """Name of the describe call, of its argument, and of the list in the answer."""

    def find(self, cloud: Any, id: str) -> dict[str, Any] | None:
        call, argument, key = self.list_call
        try:
            found: list[dict[str, Any]] = getattr(cloud.ec2, call)(**{argument: [id]})[key]
        except cloud.ec2.exceptions.ClientError as error:
            if is_gone(error):
                return None
            raise
        return found[0] if found else None

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        found = self.find(cloud, id)
        if found is None or found.get("State") in ("deleted", "deleting"):
            return None
        return {"tags": from_tags(found.get("Tags"))}

    def retag(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        before, after = old.get("tags") or {}, new.get("tags") or {}
        if gone := [key for key in before if key not in after]:
            cloud.ec2.delete_tags(Resources=[id], Tags=[{"Key": key} for key in gone])
        if after:
            cloud.ec2.create_tags(Resources=[id], Tags=ec2_tags(after))

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self.retag(cloud, id, old, new)
        return {}


class Vpc(Tagged):
    replace_on = frozenset({"cidrBlock", "instanceTenancy"})
    list_call = ("describe_vpcs", "VpcIds", "Vpcs")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.ec2.create_vpc(CidrBlock=inputs["cidrBlock"], **specification("vpc", inputs.get("tags")))["Vpc"]
        self._attributes(cloud, made["VpcId"], inputs)
        table = cloud.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [made["VpcId"]]}])["RouteTables"]
        arn = f"arn:aws:ec2:{cloud.region}:{cloud.account}:vpc/{made['VpcId']}"
        return made["VpcId"], {"arn": arn, "mainRouteTableId": table[0]["RouteTableId"]}

    def _attributes(self, cloud: Any, id: str, inputs: Properties) -> None:
        for name in ("enableDnsSupport", "enableDnsHostnames"):
            if name in inputs:
                argument = name[0].upper() + name[1:]
                cloud.ec2.modify_vpc_attribute(VpcId=id, **{argument: {"Value": bool(inputs[name])}})

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self._attributes(cloud, id, new)
        return super().update(cloud, id, old, new)

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_vpc(VpcId=id)


class InternetGateway(Tagged):
    replace_on = frozenset({"vpcId"})
    list_call = ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.ec2.create_internet_gateway(**specification("internet-gateway", inputs.get("tags")))
        id = made["InternetGateway"]["InternetGatewayId"]
        if "vpcId" in inputs:
            cloud.ec2.attach_internet_gateway(InternetGatewayId=id, VpcId=inputs["vpcId"])
        return id, {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        if state.get("vpcId"):
            cloud.ec2.detach_internet_gateway(InternetGatewayId=id, VpcId=state["vpcId"])
        cloud.ec2.delete_internet_gateway(InternetGatewayId=id)


class RouteTable(Tagged):
    replace_on = frozenset({"vpcId"})
    list_call = ("describe_route_tables", "RouteTableIds", "RouteTables")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        spec = specification("route-table", inputs.get("tags"))
        made = cloud.ec2.create_route_table(VpcId=inputs["vpcId"], **spec)["RouteTable"]
        return made["RouteTableId"], {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_route_table(RouteTableId=id)


class Route(Simple):
    replace_on = frozenset({"routeTableId", "destinationCidrBlock", "gatewayId"})

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        cloud.ec2.create_route(
            RouteTableId=inputs["routeTableId"],
            DestinationCidrBlock=inputs["destinationCidrBlock"],
            GatewayId=inputs["gatewayId"],
        )
        return f"r-{inputs['routeTableId']}-{inputs['destinationCidrBlock']}", {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        table = RouteTable().find(cloud, state["routeTableId"])
        routes = table["Routes"] if table else []
        mine = [route for route in routes if route.get("DestinationCidrBlock") == state["destinationCidrBlock"]]
        return {"gatewayId": mine[0].get("GatewayId")} if mine else None

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_route(RouteTableId=state["routeTableId"], DestinationCidrBlock=state["destinationCidrBlock"])


class Subnet(Tagged):
    replace_on = frozenset({"vpcId", "cidrBlock", "availabilityZone", "availabilityZoneId"})
    list_call = ("describe_subnets", "SubnetIds", "Subnets")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        by = "availabilityZoneId" if "availabilityZoneId" in inputs else "availabilityZone"
        made = cloud.ec2.create_subnet(
            VpcId=inputs["vpcId"],
            CidrBlock=inputs["cidrBlock"],
            **{by[0].upper() + by[1:]: inputs[by]},
            **specification("subnet", inputs.get("tags")),
        )["Subnet"]
        self._public(cloud, made["SubnetId"], inputs)
        return made["SubnetId"], {"arn": made["SubnetArn"]}

    def _public(self, cloud: Any, id: str, inputs: Properties) -> None:
        public = bool(inputs.get("mapPublicIpOnLaunch"))
        cloud.ec2.modify_subnet_attribute(SubnetId=id, MapPublicIpOnLaunch={"Value": public})

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        found = self.find(cloud, id)
        if found is None:
            return None
        return {"tags": from_tags(found.get("Tags")), "mapPublicIpOnLaunch": found["MapPublicIpOnLaunch"]}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self._public(cloud, id, new)
        return super().update(cloud, id, old, new)

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_subnet(SubnetId=id)


class RouteTableAssociation(Simple):
    replace_on = frozenset({"subnetId", "gatewayId"})

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.ec2.associate_route_table(RouteTableId=inputs["routeTableId"], SubnetId=inputs["subnetId"])
        return made["AssociationId"], {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        table = RouteTable().find(cloud, state["routeTableId"])
        known = [entry["RouteTableAssociationId"] for entry in (table or {}).get("Associations", ())]
        return {} if id in known else None

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.disassociate_route_table(AssociationId=id)


class VpcEndpoint(Tagged):
    replace_on = frozenset({"vpcId", "serviceName", "vpcEndpointType"})
    list_call = ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        more = {"PolicyDocument": inputs["policy"]} if inputs.get("policy") else {}
        made = cloud.ec2.create_vpc_endpoint(
            VpcId=inputs["vpcId"],
            ServiceName=inputs["serviceName"],
            VpcEndpointType=inputs.get("vpcEndpointType", "Gateway"),
            RouteTableIds=inputs.get("routeTableIds", []),
            **more,
            **specification("vpc-endpoint", inputs.get("tags")),
        )["VpcEndpoint"]
        return made["VpcEndpointId"], {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_vpc_endpoints(VpcEndpointIds=[id])


class SecurityGroup(Tagged):
    replace_on = frozenset({"vpcId", "description", "namePrefix"})
    named_by = "name"
    list_call = ("describe_security_groups", "GroupIds", "SecurityGroups")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        id = cloud.ec2.create_security_group(
            GroupName=inputs["name"],
            Description=inputs.get("description", "Managed by Pulumi"),
            VpcId=inputs["vpcId"],
            **specification("security-group", inputs.get("tags")),
        )["GroupId"]
        # As the real provider: the rule that AWS adds by itself is taken away again.
        cloud.ec2.revoke_security_group_egress(
            GroupId=id, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        )
        for direction in ("ingress", "egress"):
            if rules := inputs.get(direction):
                call = getattr(cloud.ec2, f"authorize_security_group_{direction}")
                call(GroupId=id, IpPermissions=[_permission(rule) for rule in rules])
        arn = f"arn:aws:ec2:{cloud.region}:{cloud.account}:security-group/{id}"
        return id, {"arn": arn}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_security_group(GroupId=id)


def _permission(rule: Properties) -> dict[str, Any]:
    return {
        "IpProtocol": str(rule["protocol"]),
        "FromPort": rule["fromPort"],
        "ToPort": rule["toPort"],
        "IpRanges": [{"CidrIp": block} for block in rule.get("cidrBlocks", ())],
    }


class SecurityGroupRule(Simple):
    """One rule as a resource; `direction` is "ingress" or "egress"."""

    replace_on = frozenset({"securityGroupId"})

    def __init__(self, direction: str) -> None:
        self._direction = direction

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        permission: dict[str, Any] = {"IpProtocol": inputs["ipProtocol"]}
        for name, key in (("fromPort", "FromPort"), ("toPort", "ToPort")):
            if name in inputs:
                permission[key] = inputs[name]
        about = {"Description": inputs["description"]} if "description" in inputs else {}
        if "cidrIpv4" in inputs:
            permission["IpRanges"] = [{"CidrIp": inputs["cidrIpv4"], **about}]
        if "cidrIpv6" in inputs:
            permission["Ipv6Ranges"] = [{"CidrIpv6": inputs["cidrIpv6"], **about}]
        call = getattr(cloud.ec2, f"authorize_security_group_{self._direction}")
        made = call(
            GroupId=inputs["securityGroupId"],
            IpPermissions=[permission],
            **specification("security-group-rule", inputs.get("tags")),
        )
        id = made["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return id, {"securityGroupRuleId": id}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        rules = cloud.ec2.describe_security_group_rules(
            Filters=[{"Name": "group-id", "Values": [state["securityGroupId"]]}]
        )["SecurityGroupRules"]
        mine = [rule for rule in rules if rule["SecurityGroupRuleId"] == id]
        return {} if mine else None

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        rule: dict[str, Any] = {"IpProtocol": new["ipProtocol"]}
        for name in ("fromPort", "toPort", "cidrIpv4", "cidrIpv6", "description"):
            if name in new:
                rule[name[0].upper() + name[1:]] = new[name]
        cloud.ec2.modify_security_group_rules(
            GroupId=new["securityGroupId"],
            SecurityGroupRules=[{"SecurityGroupRuleId": id, "SecurityGroupRule": rule}],
        )
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        call = getattr(cloud.ec2, f"revoke_security_group_{self._direction}")
        call(GroupId=state["securityGroupId"], SecurityGroupRuleIds=[id])


HANDLERS = {
    "aws:ec2/vpc:Vpc": Vpc(),
    "aws:ec2/internetGateway:InternetGateway": InternetGateway(),
    "aws:ec2/routeTable:RouteTable": RouteTable(),
    "aws:ec2/route:Route": Route(),
    "aws:ec2/subnet:Subnet": Subnet(),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": RouteTableAssociation(),
    "aws:ec2/vpcEndpoint:VpcEndpoint": VpcEndpoint(),
    "aws:ec2/securityGroup:SecurityGroup": SecurityGroup(),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": SecurityGroupRule("ingress"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": SecurityGroupRule("egress"),
}
