"""What the providers of both clouds would answer, as far as the programs look."""

from __future__ import annotations

from typing import Any, Mapping

from cloudfn.contract.recorder import Answers

ACCOUNT = "123456789012"
UNIQUE = "112233445566778899001"


class AWSAnswers(Answers):
    def outputs(self, type: str, name: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        made: dict[str, Any] = {"arn": f"arn:aws:test:::{inputs.get('name', type)}"}
        if type == "aws:ec2/launchTemplate:LaunchTemplate":
            made["latestVersion"] = 7
        if type == "aws:lambda/functionUrl:FunctionUrl":
            made["functionUrl"] = "https://x.lambda-url.us-east-1.on.aws/"
        return made

    def call(self, token: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        assert token == "aws:index/getCallerIdentity:getCallerIdentity", token
        return {"accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:user/x", "userId": "AIDA", "id": ACCOUNT}


class GoogleAnswers(Answers):
    def outputs(self, type: str, name: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        called = inputs.get("name") or inputs.get("namePrefix", name)
        made: dict[str, Any] = {"name": called}
        made["selfLink"] = f"https://www.googleapis.com/compute/v1/{type.split(':')[1]}/{called}"
        if type.endswith(":Account"):
            email = f"{inputs['accountId']}@{inputs['project']}.iam.gserviceaccount.com"
            where = f"projects/{inputs['project']}/serviceAccounts/{email}"
            made |= {"email": email, "uniqueId": UNIQUE, "name": where}
        elif type.endswith(":IAMCustomRole"):
            made["name"] = f"projects/{inputs['project']}/roles/{inputs['roleId']}"
        elif type.endswith(":Repository"):
            made["name"] = inputs["repositoryId"]
        elif type.endswith(":Function"):
            made["serviceConfig"] = {**inputs["serviceConfig"], "uri": f"https://{called}-abc.a.run.app"}
        return made
