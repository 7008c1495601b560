"""SSH keys: one's own, revoked one by one."""

from __future__ import annotations

import base64

from cloudfn.controller_requests import Caller
from controller.world import USER, World, facts

OTHER = Caller("AIDAOTHER")


def public(seed: int) -> str:
    return "ssh-ed25519 " + base64.b64encode(bytes([seed]) * 51).decode()


def test_keys_are_registered_listed_and_revoked_one_by_one() -> None:
    world = World(facts())
    first = world.ask("key", public=f"{public(1)} ada@laptop", name="ada@laptop")
    second = world.ask("key", OTHER, public=public(2), name="bob")
    assert first["key"] == second["key"]
    listed = world.ask("keys")["keys"]
    assert {(each["name"], each["principal"]) for each in listed} == {("ada@laptop", "AIDAUSER"), ("bob", "AIDAOTHER")}
    assert all("ada@laptop" not in each["public"] for each in listed)
    assert world.ask("revoke", fingerprint=first["fingerprint"])["revoked"] == [first["fingerprint"]]
    assert [each["name"] for each in world.ask("keys")["keys"]] == ["bob"]
    assert world.ask("revoke", fingerprint=first["fingerprint"])["error"]["type"] == "NotFound"


def test_a_principals_keys_go_together() -> None:
    world = World(facts())
    for seed in (1, 2):
        world.ask("key", public=public(seed))
    world.ask("key", OTHER, public=public(3))
    assert len(world.ask("revoke", OTHER, principal=USER.principal)["revoked"]) == 2
    assert len(world.ask("keys")["keys"]) == 1


def test_a_key_of_somebody_elses_is_not_taken_over() -> None:
    world = World(facts())
    world.ask("key", public=public(1))
    assert world.ask("key", OTHER, public=public(1))["error"]["type"] == "Forbidden"
    assert world.ask("key", public=public(1))["ok"]


def test_machines_hear_of_keys_and_of_their_end() -> None:
    world = World(facts())
    fingerprint = world.ask("key", public=public(1))["fingerprint"]
    world.claim()
    world.step(5)
    world.tick()
    (id,) = world.vms
    assert world.hello(id)["ssh_keys"] == [f"{public(1)} {fingerprint}"]
    world.ask("revoke", fingerprint=fingerprint)
    assert world.beat(id)["ssh_keys"] == []


def test_the_oldest_of_many_keys_of_one_principal_goes() -> None:
    world = World(facts())
    for seed in range(25):
        world.now += 1
        assert world.ask("key", public=public(seed))["ok"]
    kept = {each["public"] for each in world.ask("keys")["keys"]}
    assert len(kept) == 20
    assert public(0) not in kept
    assert public(24) in kept
