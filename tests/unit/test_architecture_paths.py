"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/images.md")
_MORE = ("SECURITY.md", "tests/*/README.md", "docs/decisions/*.md", "examples/*/README.md")
ALL = (*DOCUMENTS, *sorted(str(path.relative_to(ROOT)) for each in _MORE for path in ROOT.glob(each)))

_ROOMS = r"manifests|handlers|gpu_dispatch|listener|tests|benchmarks|scripts|docs|docker|examples|\.runpod"
_PATH = re.compile(rf"(?<![\w./-])((?:{_ROOMS})/[\w./*-]*)")
_PROGRAM = re.compile(r"(?<![\w./-])\w+\.py\b")
_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MADE_BY_USERS = frozenset({"docker/.env", "docker/secrets", "docker/secrets/"})


def paths_in(document: str) -> set[str]:
    """Of the project, in its code and in its table of rooms; the sentence's full stop is not part of one."""
    text = (ROOT / document).read_text("utf-8")
    searched = text if document == "ARCHITECTURE.md" else code_in(document)
    return {found.rstrip(".-") for found in _PATH.findall(searched)} - _MADE_BY_USERS


def code_in(document: str) -> str:
    return " ".join(_CODE.findall((ROOT / document).read_text("utf-8")))


def headings_of(document: Path) -> set[str]:
    """As links name them."""
    titles = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def programs() -> set[str]:
    return {path.name for path in ROOT.glob("[a-z]*/**/*.py")}


@pytest.mark.parametrize("document", ALL)
def test_every_path_a_document_names_exists(document: str, programs: set[str]) -> None:
    named = paths_in(document)
    assert named or document not in DOCUMENTS
    assert set(_PROGRAM.findall(code_in(document))) <= programs
    missing = [path for path in sorted(named) if not any(ROOT.glob(path)) and not (ROOT / f"{path}.py").exists()]
    assert missing == []


@pytest.mark.parametrize("document", ALL)
def test_every_link_within_the_project_leads_somewhere(document: str) -> None:
    here = ROOT / document
    for link in _LINK.findall(here.read_text("utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, heading = link.partition("#")
        target = (here.parent / path) if path else here
        assert target.exists(), link
        assert not heading or heading in headings_of(target), link
