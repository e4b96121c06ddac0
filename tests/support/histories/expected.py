"""Whether what a history has left is what its drops asked for. Pure: each sentence given is one thing that is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from manifests.names import drop_path
from support.histories.callbacks import Post
from support.histories.drops import DONE, NOTHING, Drop, work_of
from support.histories.remains import Remains

ENDED = frozenset({"done", "failed", "cancelled", "superseded"})


def unended(drops: Sequence[Drop], left: Remains) -> list[str]:
    """What the bucket alone tells: drops that have not come to the end they should have."""
    return [problem for drop in drops for problem in (*_ending(drop, left), *_rivalry(drop, left))]


def uncalled(drops: Sequence[Drop], left: Remains, posts: Sequence[Post]) -> list[str]:
    """Drops whose end nobody was called back with."""
    heard = {(post.path, post.run_id, post.body.get("code")) for post in posts if post.taken}
    found: list[str] = []
    for drop in drops:
        document = _final(drop, left)
        # Cancelled before it read its manifest, a run knows of nobody to call.
        if not drop.called or document is None or document["code"] == "cancelled":
            continue
        if (drop.name, document["run_id"], document["code"]) not in heard:
            found.append(f"{drop.name}: nobody was called back with {document['code']} of run {document['run_id']}")
    return found


def wrong(drops: Sequence[Drop], left: Remains, puts: Sequence[bytes], posts: Sequence[Post]) -> list[str]:
    """Everything, once nothing goes on any more. `puts` are the bodies that users have sent, `posts` what was told."""
    found = unended(drops, left) + uncalled(drops, left, posts)
    for drop in drops:
        found += _ledger(drop, left)
    return found + list(_words(posts)) + list(_executions(left, puts)) + list(_marks(left))


def _ending(drop: Drop, left: Remains) -> Iterator[str]:
    path = drop_path(drop.key)
    sidecars = {kind: left.document(path, kind) for kind in ("status", "done", "error")}
    finals = [kind for kind in ("done", "error") if sidecars[kind]]
    if len(finals) == 2:
        yield f"{drop.name}: done and error both lie there"
    if finals and sidecars["status"]:
        yield f"{drop.name}: a status ({sidecars['status']['state']}) lies beside {finals[0]}"
    document = sidecars[finals[0]] if finals else None
    code = (DONE if document["code"] == 200 else str(document["code"])) if document else NOTHING
    if code not in drop.ends:
        said = f": {document.get('message')}" if document and code != DONE else ""
        yield f"{drop.name}: ended {code}, not {' or '.join(sorted(drop.ends))}{said}"
    elif document and code == DONE:
        yield from _outputs(drop, document.get("metadata") or {}, left)
    if f"{path}.cancel" in left.etags:
        yield f"{drop.name}: its .cancel still lies there"


def _outputs(drop: Drop, metadata: dict[str, int], left: Remains) -> Iterator[str]:
    if drop.number is not None and metadata.get("number") != drop.number:
        yield f"{drop.name}: done names version {metadata.get('number')}, the last one dropped is {drop.number}"
    for key, text in drop.outputs.items():
        found = left.text(key)
        if not found or text not in ("", found):
            yield f"{drop.name}: {key} holds {found and found[:80]!r}, not {text!r}"


def _rivalry(drop: Drop, left: Remains) -> Iterator[str]:
    if not drop.rival or drop.name > drop.rival:
        return
    paths = [drop_path(drop.key), drop_path(drop.key.replace(drop.name, drop.rival))]
    done = [path for path in paths if left.document(path, "done")]
    if all(left.document(path, "done") or left.document(path, "error") for path in paths) and len(done) != 1:
        yield f"{drop.name} and {drop.rival} want the same outputs, and {len(done)} of them are done"


def _ledger(drop: Drop, left: Remains) -> Iterator[str]:
    runs = left.runs.get(drop.key, ())
    for run in runs:
        if run.state not in ENDED:
            yield f"{drop.name}: its run {run.run_id} is still {run.state} in the ledger"
    document = _final(drop, left)
    if document is None:
        return
    mine = [run for run in runs if run.run_id == document["run_id"]]
    if not mine:
        yield f"{drop.name}: no run of the ledger has the id that its sidecar names"
    elif mine[0] is not runs[-1]:
        yield f"{drop.name}: its sidecar is run {mine[0].order}'s, and {runs[-1].order} came after it"
    elif not drop.removed and left.etags.get(drop.key, "") not in mine[0].version:
        yield f"{drop.name}: its sidecar is of {mine[0].version}, in the store lies {left.etags.get(drop.key)}"


def _final(drop: Drop, left: Remains) -> dict[str, Any] | None:
    path = drop_path(drop.key)
    return left.document(path, "done") or left.document(path, "error")


def _words(posts: Sequence[Post]) -> Iterator[str]:
    """No run is called back in another one's words."""
    for post in posts:
        if post.run_id != post.body.get("run_id"):
            yield f"{post.path}: run {post.run_id} was called back with the words of {post.body.get('run_id')}"


def _executions(left: Remains, puts: Sequence[bytes]) -> Iterator[str]:
    """No version's work is done twice, unless a worker that did it never said so: it died, or was cut off."""
    sent = Counter(_work(body) for body in puts)
    cut_off = Counter(each.work for each in left.executions if not each.whole)
    for work, times in left.finished.items():
        if sent[work] and times > sent[work] + cut_off[work]:
            every = "; ".join(each.text for each in left.executions if each.work == work)
            yield f"{work} was dropped {sent[work]} times and done {times} times: {every}"


def _work(body: bytes) -> str:
    try:
        asked = json.loads(body)
    except ValueError:
        return ""
    return work_of(asked)


def _marks(left: Remains) -> Iterator[str]:
    """What is left of attempts must be what the sweep takes: nothing that an open job still needs."""
    for mark in left.marks:
        if mark.split("/")[2] in left.open_tasks:
            yield f"{mark} is kept for a job that is still open"
    if left.open_tasks:
        yield f"jobs are still open in the ledger: {', '.join(sorted(left.open_tasks))}"
