"""Auto Scaling as it behaves: what moto stores of a group, this acts on.

A size is only noted when it is set. A thread of ours then does what Auto Scaling would: starts what is missing, waits
where a hook says so, retries what EC2 refuses and writes it down, replaces what is dead unless told not to.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

import pytest
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
    LifecycleHook,
    autoscaling_backends,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult, EmptyResult

from machine_room.activities import Activity, Refusal
from machine_room.cloud_clock import CloudClock
from machine_room.events import Events

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_LEAVING = ("Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated")
_ALIVE = ("pending", "running")


class Machines(Protocol):
    """What a group asks of EC2."""

    def refusal(self, group: FakeAutoScalingGroup, zone: str) -> Refusal | None: ...

    def launch(self, group: FakeAutoScalingGroup) -> Any:
        """A new instance of moto's, pending; it is running when its state says so."""

    def terminate(self, instance: Any) -> None: ...


class ResourceInUse(AutoscalingClientError):
    code = "ResourceInUse"


@dataclass
class _Wait:
    """A machine that a hook holds."""

    hook: LifecycleHook
    deadline: float
    token: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class _Member:
    """What moto does not keep of a machine of a group."""

    state: InstanceState
    activity: Activity
    wait: _Wait | None = None


class Groups:
    """Plays Auto Scaling for all of moto's groups.

    Attributes:
        lock: held whenever an instance or a group changes.
        retry: seconds until a refused launch is tried again; AWS takes its time.
    """

    def __init__(self, events: Events, machines: Machines, clock: CloudClock) -> None:
        self.lock = threading.RLock()
        self.retry = 2.0
        self._wake = threading.Condition(self.lock)
        self._dirty = False
        self._events = events
        self._machines = machines
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._activities: list[Activity] = []
        self._retry_at: dict[str, float] = {}
        self._closed = False
        self._patches = pytest.MonkeyPatch()
        self._install()
        self._thread = threading.Thread(target=self._play, name="auto-scaling", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()
        self._patches.undo()

    def touch(self) -> None:
        """Something has changed that a group may have to react to."""
        with self._wake:
            self._dirty = True
            self._wake.notify_all()

    def retry_now(self) -> None:
        """Tries again what was refused."""
        with self._wake:
            self._retry_at.clear()
        self.touch()

    def lifecycle_state(self, instance: str) -> str:
        with self.lock:
            member = self._members.get(instance)
            return member.state.lifecycle_state if member else "Terminated"

    def groups(self) -> list[FakeAutoScalingGroup]:
        with self.lock:
            regions = list(autoscaling_backends[DEFAULT_ACCOUNT_ID].values())
            return [group for backend in regions for group in backend.autoscaling_groups.values()]

    def activities(self, group: str) -> list[Activity]:
        """Newest first."""
        with self.lock:
            return [activity for activity in reversed(self._activities) if group in ("", activity.group)]

    # -- what callers ask for ----------------------------------------------------------------------------------------

    def _install(self) -> None:
        mine = self

        def patch(owner: Any, name: str, function: Callable[..., Any]) -> None:
            self._patches.setattr(owner, name, function, raising=False)

        def size(group: FakeAutoScalingGroup, desired: int | None) -> None:
            group.desired_capacity = group.min_size if desired is None else desired
            mine.touch()

        def set_size(backend: AutoScalingBackend, group_name: str, desired_capacity: int | None) -> None:
            with mine.lock:
                mine._set_size(mine._group(backend, group_name), desired_capacity)

        def terminate(backend: AutoScalingBackend, instance_id: str, should_decrement: bool) -> Any:
            with mine.lock:
                return mine._terminate_asked(instance_id, should_decrement)

        def activities(response: AutoScalingResponse) -> ActionResult:
            found = mine.activities(response._get_param("AutoScalingGroupName") or "")
            wanted = response._get_param("ActivityIds") or []
            found = [activity for activity in found if not wanted or activity.id in wanted]
            limit = response._get_int_param("MaxRecords", 100)
            return ActionResult({"Activities": [activity.answer() for activity in found[:limit]]})

        def complete(response: AutoScalingResponse) -> EmptyResult:
            with mine.lock:
                member = mine._held(response)
                mine._completed(member, response._get_param("LifecycleActionResult"))
            return EmptyResult()

        def heartbeat(response: AutoScalingResponse) -> EmptyResult:
            with mine.lock:
                wait = mine._held(response).wait
                assert wait is not None
                wait.deadline = time.monotonic() + wait.hook.heartbeat_timeout
            return EmptyResult()

        def delete(response: AutoScalingResponse) -> EmptyResult:
            with mine.lock:
                name = response._get_param("AutoScalingGroupName")
                mine._delete(response.autoscaling_backend, name, bool(response._get_bool_param("ForceDelete", False)))
            return EmptyResult()

        known_resume = AutoScalingBackend.resume_processes

        def resume(backend: AutoScalingBackend, group_name: str, scaling_processes: list[str]) -> None:
            known_resume(backend, group_name, scaling_processes)
            mine.touch()

        def health(backend: AutoScalingBackend, instance_id: str, health_status: str) -> None:
            with mine.lock:
                mine._member(instance_id).state.health_status = health_status
            mine.touch()

        patch(FakeAutoScalingGroup, "set_desired_capacity", size)
        patch(AutoScalingBackend, "set_desired_capacity", set_size)
        patch(AutoScalingBackend, "terminate_instance", terminate)
        patch(AutoScalingBackend, "notify_terminate_instances", lambda backend, instance_ids: mine.touch())
        patch(AutoScalingBackend, "resume_processes", resume)
        patch(AutoScalingBackend, "set_instance_health", health)
        patch(AutoScalingResponse, "describe_scaling_activities", activities)
        patch(AutoScalingResponse, "complete_lifecycle_action", complete)
        patch(AutoScalingResponse, "record_lifecycle_action_heartbeat", heartbeat)
        patch(AutoScalingResponse, "delete_auto_scaling_group", delete)

    def _group(self, backend: AutoScalingBackend, name: str) -> FakeAutoScalingGroup:
        found = backend.autoscaling_groups.get(name)
        if found is None:
            raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
        return found

    def _set_size(self, group: FakeAutoScalingGroup, desired: int | None) -> None:
        wanted = int(desired or 0)
        if wanted > int(group.max_size or 0):
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is above max value {group.max_size} for the AutoScalingGroup."
            )
        if wanted < int(group.min_size or 0):
            raise ValidationError(
                f"New SetDesiredCapacity value {wanted} is below min value {group.min_size} for the AutoScalingGroup."
            )
        self._events.add("size", group.name, was=group.desired_capacity, now=wanted)
        group.desired_capacity = wanted
        self._retry_at.pop(group.name, None)
        self.touch()

    def _member(self, instance: str) -> _Member:
        found = self._members.get(instance)
        if found is None:
            raise ValidationError(f"Instance Id not found - No managed instance found for instance ID: {instance}")
        return found

    def _terminate_asked(self, instance: str, decrement: bool) -> Any:
        member = self._member(instance)
        group = member.state.auto_scaling_group
        before = group.desired_capacity
        if decrement and member.state.lifecycle_state not in _LEAVING:
            if before - 1 < group.min_size:
                raise ValidationError(
                    f"Currently, desiredSize equals minSize ({before}). Terminating instance without replacement will "
                    f"violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or "
                    f"lower group's min size."
                )
            group.desired_capacity = before - 1
        cause = f"instance {instance} was taken out of service in response to a user request"
        activity = self._leave(member, cause)
        self.touch()
        return activity.answer()

    def _held(self, response: AutoScalingResponse) -> _Member:
        instance, token = response._get_param("InstanceId"), response._get_param("LifecycleActionToken")
        name, group = response._get_param("LifecycleHookName"), response._get_param("AutoScalingGroupName")
        for member in self._members.values():
            wait = member.wait
            if wait is None or wait.hook.name != name or member.state.auto_scaling_group_name != group:
                continue
            if instance == member.state.instance_id or (token and token == wait.token):
                return member
        raise ValidationError(f"No active Lifecycle Action found with instance ID {instance}")

    def _delete(self, backend: AutoScalingBackend, name: str, force: bool) -> None:
        group = self._group(backend, name)
        if group.instance_states and not force:
            raise ResourceInUse(
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
                "still in the group."
            )
        group.desired_capacity = 0
        backend.autoscaling_groups.pop(name)
        for key in [key for key, hook in backend.lifecycle_hooks.items() if hook.auto_scaling_group_name == name]:
            backend.lifecycle_hooks.pop(key)
        for member in [one for one in self._members.values() if one.state.auto_scaling_group is group]:
            self._terminate(member)

    # -- what a group does by itself ---------------------------------------------------------------------------------

    def _play(self) -> None:
        with self._wake:
            while not self._closed:
                self._dirty = False
                for group in self.groups():
                    self._reconcile(group)
                if not self._dirty and not self._closed:
                    self._wake.wait(self._next_deadline())

    def _next_deadline(self) -> float | None:
        times = [member.wait.deadline for member in self._members.values() if member.wait]
        times += list(self._retry_at.values())
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _reconcile(self, group: FakeAutoScalingGroup) -> None:
        now = time.monotonic()
        suspended = {entry["ProcessName"] for entry in group.suspended_processes}
        for state in list(group.instance_states):
            self._advance(self._members[state.instance_id], now, suspended)
        present = [state for state in group.instance_states if state.lifecycle_state not in _LEAVING]
        missing = int(group.desired_capacity or 0) - len(present)
        if missing > 0 and "Launch" not in suspended and self._retry_at.get(group.name, 0.0) <= now:
            self._retry_at.pop(group.name, None)
            for _ in range(missing):
                if not self._launch(group):
                    break
        if missing < 0 and "Terminate" not in suspended:
            loose = [state for state in present if not state.protected_from_scale_in]
            for state in loose[:-missing]:
                self._leave(self._members[state.instance_id], "a difference between desired and actual capacity")

    def _advance(self, member: _Member, now: float, suspended: set[str]) -> None:
        state, instance = member.state, member.state.instance
        if member.wait and member.wait.deadline <= now:
            self._events.add("hook-timeout", instance.id, hook=member.wait.hook.name)
            self._completed(member, member.wait.hook.default_result)
        if state.lifecycle_state == "Pending" and instance.state == "running":
            self._events.add("running", instance.id)
            self._hold(member, LAUNCHING) or self._in_service(member)
        gone = instance.state not in _ALIVE or state.health_status == "Unhealthy"
        if gone and state.lifecycle_state not in _LEAVING:
            if state.health_status == "Healthy" and "HealthCheck" not in suspended:
                state.health_status = "Unhealthy"
                self._events.add("unhealthy", instance.id)
            if state.health_status == "Unhealthy" and "ReplaceUnhealthy" not in suspended:
                self._leave(member, "an EC2 health check indicating it has been terminated or stopped")
        if state.lifecycle_state == "Terminating:Proceed" and instance.state == "terminated":
            self._forget(member)

    def _launch(self, group: FakeAutoScalingGroup) -> bool:
        # What one zone refuses is tried in the next one.
        zone = group.availability_zones[len(self.activities(group.name)) % len(group.availability_zones)]
        details = {"Subnet ID": group.vpc_zone_identifier, "Availability Zone": zone}
        cause = "an instance was started in response to a difference between desired and actual capacity"
        activity = Activity(group.name, "Launching a new EC2 instance.", cause, details, self._clock)
        self._activities.append(activity)
        if refusal := self._machines.refusal(group, zone):
            activity.end("Failed", refusal.message)
            self._retry_at[group.name] = time.monotonic() + self.retry
            self._events.add("launch-failed", group.name, code=refusal.code)
            return False
        instance = self._machines.launch(group)
        activity.description = f"Launching a new EC2 instance: {instance.id}"
        instance.autoscaling_group = group
        protected = group.new_instances_protected_from_scale_in
        state = InstanceState(instance, "Pending", protected_from_scale_in=protected)
        group.instance_states.append(state)
        self._members[instance.id] = _Member(state, activity)
        self._events.add("launch", instance.id, group=group.name)
        return True

    def _hold(self, member: _Member, transition: str) -> bool:
        """Whether a hook holds the machine there."""
        group = member.state.auto_scaling_group
        hooks = group.autoscaling_backend.describe_lifecycle_hooks(group.name)
        hook = next((hook for hook in hooks if hook.lifecycle_transition == transition), None)
        if hook is None:
            return False
        member.wait = _Wait(hook, time.monotonic() + hook.heartbeat_timeout)
        member.state.lifecycle_state = "Pending:Wait" if transition == LAUNCHING else "Terminating:Wait"
        member.activity.status = "WaitingForInstanceLifecycleAction"
        self._events.add("hook", member.state.instance_id, hook=hook.name, state=member.state.lifecycle_state)
        return True

    def _completed(self, member: _Member, result: str) -> None:
        wait, member.wait = member.wait, None
        assert wait is not None
        self._events.add("hook-done", member.state.instance_id, hook=wait.hook.name, result=result)
        if wait.hook.lifecycle_transition == TERMINATING:
            self._terminate(member)
        elif result == "CONTINUE":
            self._in_service(member)
        else:
            member.activity.end("Cancelled", "Instance failed to complete user's Lifecycle Action: ABANDON")
            self._terminate(member)
        self.touch()

    def _in_service(self, member: _Member) -> None:
        member.state.lifecycle_state = "InService"
        member.activity.end("Successful")
        self._events.add("in-service", member.state.instance_id, group=member.state.auto_scaling_group_name)

    def _leave(self, member: _Member, cause: str) -> Activity:
        """Takes it out of service: the hook first, then the end."""
        if member.state.lifecycle_state in _LEAVING:
            return member.activity
        if member.activity.ended is None:
            member.activity.end("Cancelled")
        name, id = member.state.auto_scaling_group_name, member.state.instance_id
        member.activity = Activity(name, f"Terminating EC2 instance: {id}", cause, {}, self._clock)
        self._activities.append(member.activity)
        member.wait = None
        member.state.lifecycle_state = "Terminating"
        self._events.add("terminating", id, group=name, cause=cause)
        if not self._hold(member, TERMINATING):
            self._terminate(member)
        return member.activity

    def _terminate(self, member: _Member) -> None:
        member.wait = None
        member.state.lifecycle_state = "Terminating:Proceed"
        if member.state.instance.state == "terminated":
            self._forget(member)
        else:
            self._machines.terminate(member.state.instance)

    def _forget(self, member: _Member) -> None:
        group, id = member.state.auto_scaling_group, member.state.instance_id
        group.instance_states = [state for state in group.instance_states if state.instance_id != id]
        self._members.pop(id, None)
        if member.activity.ended is None:
            member.activity.end("Successful")
        self._events.add("gone", id, group=group.name)
