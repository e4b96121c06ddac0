from typing import Literal

import pytest

from handlers.base import Finished, Plan
from handlers.registry import load_registry
from manifests.errors import ConfigError, UnknownOperation
from manifests.models import MODELS, Manifest
from support.entry_points import Point


class Shout(Manifest, frozen=True):
    operation: Literal["shout"] = "shout"


class ShoutHandler:
    operation = "shout"
    model = Shout

    def references(self, manifest):
        return ()

    def plan(self, planning):
        return Plan("shout", ())

    def finish(self, planning, plan, results):
        return Finished("done")


class Claimant(ShoutHandler):
    operation = "transcribe"
    model = MODELS["transcribe"]


def test_own_operations_are_there_without_any_package():
    registry = load_registry(lambda: ())
    assert set(registry.handlers) == {"transcribe", "caption", "img2vid", "addaudio"}
    assert all(registry.get(name).model is MODELS[name] for name in registry.handlers)
    assert registry.problems == ()


def test_what_is_really_installed_loads():
    assert {"transcribe", "caption"} <= set(load_registry().handlers)


def test_every_operation_that_a_manifest_may_name_has_a_handler():
    registry = load_registry(lambda: ())
    assert registry.models == MODELS
    assert all(registry.get(name) for name in registry.models)
    with pytest.raises(UnknownOperation, match="no operation 'x'") as caught:
        registry.get("x")
    assert "addaudio" in caught.value.info.hint


@pytest.mark.parametrize("found", [ShoutHandler, ShoutHandler()])
def test_a_package_adds_an_operation(found):
    registry = load_registry(lambda: (Point("shout", found),))
    assert registry.models["shout"] is Shout
    assert registry.get("shout").operation == "shout"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (ImportError("no module"), "ImportError: no module"),
        (ValueError("odd"), "ValueError: odd"),
        (object(), "its operation None"),
        (type("Bad", (ShoutHandler,), {"model": dict}), "its model"),
        (type("Bad", (ShoutHandler,), {"operation": "other"}), "not 'other' by default"),
        (type("Bad", (ShoutHandler,), {"plan": None}), "it lacks plan"),
        (type("Bad", (ShoutHandler,), {"__init__": lambda self, needed: None}), "TypeError"),
    ],
)
def test_a_broken_package_is_told_by_name_and_the_others_go_on(found, told):
    registry = load_registry(lambda: (Point("bad", found, "package:bad"), Point("shout", ShoutHandler)))
    (problem,) = registry.problems
    assert "'bad' (package:bad)" in problem.message and told in problem.message
    assert {"shout", "transcribe"} <= set(registry.handlers)


def test_two_handlers_for_one_operation_are_refused():
    with pytest.raises(ConfigError, match="'transcribe': gpudrop and package:greedy"):
        load_registry(lambda: (Point("greedy", Claimant, "package:greedy"),))
