"""The configurations that come with the project, and what the README says of them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from gpu_dispatch.runpod.account import Account
from handlers.registry import load_registry
from listener.config.config import Config
from listener.config.loader import load_config, parse_config
from listener.config.source_kinds import SourceSettings
from listener.config.triggers import triggers_of
from listener.deploy.desired import desired_of, oddities_of
from listener.deploy.plan import MakeEndpoint, MakeTemplate, plan_changes
from listener.runs.manifests import check_templates

ROOT = Path(__file__).parents[4]
README = (ROOT / "README.md").read_text("utf-8")
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
FILES = sorted([ROOT / "config.yaml", *ROOT.glob("examples/*.yaml"), *ROOT.glob("docker/config*.yaml")])
RUNPOD = ROOT / "examples" / "runpod.config.yaml"


def blocks() -> Iterator[dict[str, Any]]:
    """The README's pieces of config.yaml."""
    for _, language, text in FENCED.findall(README):
        data: Any = yaml.safe_load(textwrap.dedent(text)) if language == "yaml" else None
        piece: dict[str, Any] = {"endpoints": data} if isinstance(data, list) else data or {"": None}
        if piece.keys() <= Config.model_fields.keys():
            yield piece


def sections(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a part of the configuration is made of, but for sources: the README has a section for each."""
    if kind is SourceSettings:
        return
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        for each in kind.model_fields.values():
            yield from sections(each.annotation)
    for inner in get_args(kind):
        yield from sections(inner)


def code() -> str:
    """What the README sets in type: pieces of files, and words between backticks."""
    fenced = [text for *_, text in FENCED.findall(README)]
    return " ".join([*fenced, *re.findall(r"`[^`\n]+`", FENCED.sub("", README))])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_configuration_of_the_project_is_accepted(file: Path) -> None:
    config = load_config(file)
    triggers = triggers_of(config)
    assert {trigger.name for trigger in triggers} >= {each.name for each in config.triggers}
    check_templates(triggers, load_registry().models, ())


def test_every_piece_of_configuration_in_the_readme_is_accepted() -> None:
    pieces = list(blocks())
    assert len(pieces) > 5
    for piece in pieces:
        parse_config(piece, origin="README.md")


def test_the_readme_names_every_setting() -> None:
    told = code()
    names = {name for section in sections(Config) for name in section.model_fields}
    assert {"endpoints", "capabilities", "hints", "resubmit_unknown", "registry_auth"} <= names
    assert [name for name in sorted(names) if not re.search(rf"(?<!\w){name}(?!\w)", told)] == []


def test_the_example_for_runpod_can_be_deployed() -> None:
    config = load_config(RUNPOD)
    all_desired = desired_of(config)
    assert oddities_of(config, all_desired) == ()
    steps = [type(step) for each in plan_changes(all_desired, Account((), ())) for step in each.steps]
    assert steps == [MakeTemplate, MakeEndpoint] * 2
    assert [endpoint.kind for endpoint in sorted(config.endpoints, key=lambda e: e.order)][-1] == "local"
