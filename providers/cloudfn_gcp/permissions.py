"""Who may do what on Google Cloud. `docs/permissions.md` says why it is cut like this.

Each role is a service account of the stack. Each statement is one custom role that holds its permissions (or one of
Google's own roles, where the statement names it), bound to that account on one resource, under the condition if any.
Strings hold `{account}` (the project), `{bucket}`, `{prefix}` and `{region}` (of bucket and controller).
"""

from __future__ import annotations

import hashlib
from typing import Any, Mapping

from cloudfn.plan_spec import Plan, Role, Statement

DEPLOY = "deploy"
PROJECT = "projects/{account}"
BUCKET = "projects/_/buckets/{bucket}"
CONTROLLER = "projects/{account}/locations/{region}/services/{prefix}-controller"
REPOSITORY = "projects/{account}/locations/{region}/repositories/{prefix}-controller"
MACHINE_ACCOUNT = "projects/{account}/serviceAccounts/{prefix}-machine@{account}.iam.gserviceaccount.com"


def made(plan: Plan) -> tuple[Role, ...]:
    """The roles that the stack makes: call, controller and machine, and the two that Google's own services act as. The
    one that is not among them is deploy: somebody must have it before there is a stack."""
    return (_call(plan), _controller(plan), _machine(), _schedule(), _build())


def policy(role: Role) -> Mapping[str, Any]:
    """The bindings that the stack makes for a role, in the words of an IAM policy. `includedPermissions` are those of
    the custom role that is made for a binding. For deploy, the custom role itself."""
    if role.name == DEPLOY:
        wanted = sorted({action for statement in role.statements for action in statement.actions})
        return {"title": "cloudfn deploy", "stage": "GA", "includedPermissions": wanted}
    bindings = []
    for statement in role.statements:
        for resource in statement.resources:
            binding: dict[str, Any] = {"resource": resource}
            if is_predefined(statement):
                binding["role"] = statement.actions[0]
            else:
                binding["role"] = f"projects/{{account}}/roles/{{prefix}}_{role.name}_{statement.sid}"
                binding["includedPermissions"] = list(statement.actions)
            binding["members"] = [f"serviceAccount:{{prefix}}-{role.name}@{{account}}.iam.gserviceaccount.com"]
            if statement.conditions:
                binding["condition"] = dict(statement.conditions)
            bindings.append(binding)
    return {"bindings": bindings}


def is_predefined(statement: Statement) -> bool:
    """Whether it names one of Google's roles, and so needs no custom one."""
    return statement.actions[0].startswith("roles/")


def secret_id(name: str) -> str:
    """A stored secret's name behind the prefix. Secret Manager allows letters, digits, "-" and "_"; cloudfn "." too."""
    if "." in name:
        name = f"{name.replace('.', '_')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return f"{{prefix}}-{name}"


def _call(plan: Plan) -> Role:
    statements = [
        _invoke(),
        Statement(
            "data",
            "sends code and calls through the bucket, below code/ and calls/; what is there it cannot change or remove",
            ("storage.objects.create", "storage.objects.get"),
            (BUCKET,),
            _objects("code/", "calls/"),
        ),
        Statement(
            "results",
            "reads what machines left in the bucket, below machines/",
            ("storage.objects.get",),
            (BUCKET,),
            _objects("machines/"),
        ),
        Statement(
            "login",
            "logs in to the stack's own machines by OS Login, without root",
            ("compute.instances.get", "compute.instances.osLogin"),
            (PROJECT,),
            _instances(),
        ),
        Statement(
            "actAs",
            "OS Login asks for this wherever a machine has a service account",
            ("iam.serviceAccounts.actAs",),
            (MACHINE_ACCOUNT,),
        ),
    ]
    if plan.secrets:
        statements.append(
            Statement(
                "secrets",
                "reads the app's secrets, to send them to the workers that need them",
                ("secretmanager.versions.access",),
                _secrets(plan),
            )
        )
    if plan.road.kind == "helper":
        statements.append(
            Statement(
                "tunnel",
                "opens Identity-Aware Proxy tunnels to port 22. A tunnel's condition knows the port and not the "
                "machine's name; which machines take it is the firewall's part, and who logs in OS Login's",
                ("iap.tunnelInstances.accessViaIAP",),
                (PROJECT,),
                {"title": "ssh-only", "expression": "destination.port == 22"},
            )
        )
    return Role(
        "call",
        "people and services who call functions: let them act as this account",
        "",
        tuple(statements),
    )


def _controller(plan: Plan) -> Role:
    statements = [
        Statement(
            "groups",
            "changes the sizes of groups. Google's IAM has no condition on a group's name, so this holds for all "
            "managed groups of the project; a project of its own narrows it to the stack",
            ("compute.instanceGroupManagers.get", "compute.instanceGroupManagers.update"),
            (PROJECT,),
        ),
        Statement(
            "find",
            "finds machines by label. Lists belong to the project, so they show the names of all its machines",
            ("compute.instances.list",),
            (PROJECT,),
        ),
        Statement(
            "machines",
            "looks at the stack's own machines, and ends those that no group owns",
            ("compute.instances.get", "compute.instances.delete"),
            (PROJECT,),
            _instances(),
        ),
        Statement(
            "state",
            "keeps its own state below state/",
            ("storage.objects.create", "storage.objects.delete", "storage.objects.get"),
            (BUCKET,),
            _objects("state/"),
        ),
        Statement(
            "reports",
            "reads what machines left below machines/",
            ("storage.objects.get",),
            (BUCKET,),
            _objects("machines/"),
        ),
    ]
    who = "the controller function: the only one that changes a group's size"
    return Role("controller", who, "cloudfunctions.googleapis.com", tuple(statements))


def _machine() -> Role:
    statements = (
        _invoke(),
        Statement(
            "own",
            "leaves new objects below machines/; cannot list, read, change or remove any, its own included",
            ("storage.objects.create",),
            (BUCKET,),
            _objects("machines/"),
        ),
    )
    return Role("machine", "the machines of all groups of the stack", "compute.googleapis.com", statements)


def _schedule() -> Role:
    return Role("schedule", "the clock that wakes the controller", "cloudscheduler.googleapis.com", (_invoke(),))


def _build() -> Role:
    """As Google asks of an account that builds: cloud.google.com/functions/docs/securing/build-custom-sa."""
    statements = (
        Statement("image", "writes the controller's image", ("roles/artifactregistry.writer",), (REPOSITORY,)),
        Statement("log", "writes the log of its build", ("roles/logging.logWriter",), (PROJECT,)),
        Statement(
            "source",
            "reads the code from where Google's function service puts it before a build",
            ("roles/storage.objectViewer",),
            (PROJECT,),
            {
                "title": "function-sources",
                "expression": 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")',
            },
        ),
    )
    return Role("build", "the build of the controller, while it is deployed", "cloudbuild.googleapis.com", statements)


def _invoke() -> Statement:
    return Statement("invoke", "calls the controller", ("run.routes.invoke",), (CONTROLLER,))


def _secrets(plan: Plan) -> tuple[str, ...]:
    return tuple(f"{PROJECT}/secrets/{secret_id(secret.name)}" for secret in plan.secrets)


def _objects(*prefixes: str) -> dict[str, str]:
    """An object's permissions are checked on the object, so a condition on its name holds (a list's are not)."""
    clauses = [f'resource.name.startsWith("{BUCKET}/objects/{prefix}")' for prefix in prefixes]
    return {"title": "prefix", "expression": " || ".join(clauses)}


def _instances() -> dict[str, str]:
    named = 'resource.name.extract("/instances/{name}").startsWith("{prefix}-")'
    return {
        "title": "own-machines",
        "expression": f'resource.type == "compute.googleapis.com/Instance" && {named}',
    }
