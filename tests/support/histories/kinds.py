"""The kinds of drops, and drops of them drawn from a seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from support.histories.draft import Draft
from support.histories.drops import (
    BARE_PREFIX,
    CHORD,
    CLIP,
    DONE,
    MEDIA,
    NOTHING,
    PICTURE,
    Act,
    Drop,
    media_bytes,
    said,
)

CALLED = 0.3
"""The share of drops that are called back."""


def _plain(d: Draft) -> list[Drop]:
    audio, model = d.rng.choice(MEDIA), d.model(1)
    acts = [Act(d.at, d.key, d.manifest(1, audio, model))]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)))]


def _video(d: Draft) -> list[Drop]:
    """Clips, which the worker itself puts in their place; sometimes a newer version with longer ones."""
    acts: list[Act] = []
    at, number, frames = d.at, 0, 0
    for number in range(1, d.rng.choice((1, 2)) + 1):
        frames = 24 * number
        asked = {
            "images": [{"image": f"/{PICTURE}", "duration": number}] * 2,
            "path": f"{d.name}/",
            "zoom_to": round(d.rng.uniform(1.0, 4.0), 9),
            "metadata": {"number": number},
        }
        acts.append(Act(at, d.key, d.body(asked)))
        at += d.short()
    outputs = {f"{d.name}/video_{i}.mp4": f"video_{i}.mp4 {frames}" for i in (1, 2)}
    return [d.drop(acts, {DONE}, outputs, number=number)]


def _mux(d: Draft) -> list[Drop]:
    """A video that gets another sound; each version has a name of its own, and this machine does the work."""
    acts: list[Act] = []
    at, number = d.at, 0
    for number in range(1, d.rng.choice((1, 1, 2)) + 1):
        asked = {
            "video": f"/{CLIP}",
            "audio": f"/{CHORD}",
            "path": f"{d.name}/",
            "output_filename": f"{number}.mp4",
            "metadata": {"number": number},
        }
        acts.append(Act(at, d.key, d.body(asked)))
        at += d.short()
    return [d.drop(acts, {DONE}, {f"{d.name}/{number}.mp4": ""}, number=number)]


def _bad(d: Draft) -> list[Drop]:
    code, data = d.mistake()
    return [d.drop([Act(d.at, d.key, data)], {code}, {}, number=None, called=bool(d.url) and code != "manifest_syntax")]


def _mended(d: Draft) -> list[Drop]:
    """A mistake, then what was meant."""
    audio, model = d.rng.choice(MEDIA), d.model(2)
    acts = [
        Act(d.at, d.key, d.mistake()[1]),
        Act(d.at + d.short(), d.key, d.manifest(2, audio, model)),
    ]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)), number=2)]


def _silent(d: Draft) -> list[Drop]:
    """The worker itself says that it cannot be done."""
    acts = [Act(d.at, d.key, d.manifest(1, d.rng.choice(MEDIA), f"mute--{d.name}.1"))]
    return [d.drop(acts, {"no_audio"}, {}, number=1)]


def _late(d: Draft) -> list[Drop]:
    audio, model = f"{d.name}/own.mp3", d.model(1)
    acts = [
        Act(d.at, d.key, d.manifest(1, audio, model)),
        Act(d.at + d.rng.uniform(0.2, 8.0), audio, media_bytes(audio)),
    ]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)))]


def _never(d: Draft) -> list[Drop]:
    acts = [Act(d.at, d.key, d.manifest(1, f"{d.name}/not-there.mp3", d.model(1)))]
    return [d.drop(acts, {"input_missing"}, {})]


def _newer(d: Draft) -> list[Drop]:
    """One to three versions more, in whatever state the run of the one before is."""
    audio, at, acts = d.rng.choice(MEDIA), d.at, [Act(d.at, d.key, d.manifest(1, d.rng.choice(MEDIA), d.model(1)))]
    number, model = 1, ""
    for number in range(2, 3 + d.rng.choice((0, 0, 1, 2))):
        at += d.short()
        model = d.model(number)
        acts.append(Act(at, d.key, d.manifest(number, audio, model)))
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)), number=number)]


def _there_and_back(d: Draft) -> list[Drop]:
    """Version A, version B, and the bytes of A again."""
    audio, model = d.rng.choice(MEDIA), d.model(1)
    first = d.manifest(1, audio, model)
    at_b, at_a = d.at + d.short(), 0.0
    at_a = at_b + d.short()
    acts = [Act(d.at, d.key, first), Act(at_b, d.key, d.manifest(2, audio, d.model(2))), Act(at_a, d.key, first)]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)))]


def _same(d: Draft) -> list[Drop]:
    """The same bytes once more: another version, but within a second nobody need tell it from the first."""
    audio, model = d.rng.choice(MEDIA), d.model(1)
    data = d.manifest(1, audio, model)
    acts = [Act(d.at, d.key, data), Act(d.at + d.short(), d.key, data)]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)))]


def _removed(d: Draft) -> list[Drop]:
    """Deleted while it waits, or before anybody saw it."""
    acts = [
        Act(d.at, d.key, d.manifest(1, f"{d.name}/not-there.mp3", d.model(1))),
        Act(d.at + d.short(), d.key, None),
    ]
    return [d.drop(acts, {"cancelled", NOTHING}, {})]


def _removed_at_work(d: Draft) -> list[Drop]:
    audio, model = d.rng.choice(MEDIA), d.model(1, slow=True)
    acts = [Act(d.at, d.key, d.manifest(1, audio, model)), Act(d.at + d.rng.uniform(0.0, 4.0), d.key, None)]
    return [d.drop(acts, {"cancelled", DONE, NOTHING}, d.outputs(model, media_bytes(audio)))]


def _put_back(d: Draft) -> list[Drop]:
    """Put, deleted, put: the last one counts."""
    audio, model = d.rng.choice(MEDIA), d.model(1)
    first = d.manifest(1, audio, model)
    number = d.rng.choice((1, 2))
    model = model if number == 1 else d.model(2)
    gone = d.at + d.short()
    acts = [
        Act(d.at, d.key, first),
        Act(gone, d.key, None),
        Act(gone + d.short(), d.key, d.manifest(number, audio, model)),
    ]
    return [d.drop(acts, {DONE}, d.outputs(model, media_bytes(audio)), number=number)]


def _cancelled(d: Draft) -> list[Drop]:
    """By a .cancel, which finds its run or comes too early or too late."""
    audio, model = d.rng.choice(MEDIA), d.model(1, slow=True)
    acts = [
        Act(d.at, d.key, d.manifest(1, audio, model)),
        Act(d.at + d.rng.uniform(0.0, 4.0), f"{d.name}.cancel", b"please"),
    ]
    return [d.drop(acts, {"cancelled", DONE}, d.outputs(model, media_bytes(audio)))]


def _bare(d: Draft) -> list[Drop]:
    """Media that a trigger takes; sometimes uploaded again with another content."""
    key = f"{BARE_PREFIX}{d.name}.mp3"
    at, acts, data = d.at, list[Act](), b""
    for number in range(1, d.rng.choice((1, 1, 2)) + 1):
        data = f"{key} {number}".encode()
        acts.append(Act(at, key, data))
        at += d.short()
    outputs = {f"{BARE_PREFIX}{d.name}/transcript.txt": said("hear--bare", data)}
    return [Drop(d.name, d.kind, key, tuple(acts), frozenset({DONE}), outputs, number=None)]


def _rivals(d: Draft) -> list[Drop]:
    """Two drops that want the same outputs: the later one is refused."""
    audio = d.rng.choice(MEDIA)
    pair: list[Drop] = []
    names = f"{d.name}a", f"{d.name}b"
    at = d.at
    for name, other in (names, names[::-1]):
        one = Draft(d.rng, name, d.kind, at, d.url and d.url.replace(d.name, name))
        model = one.model(1)
        acts = [Act(at, one.key, one.manifest(1, audio, model, path=f"{d.name}/"))]
        outputs = {f"{d.name}/transcript.txt": said(model, media_bytes(audio))}
        pair.append(one.drop(acts, {DONE, "output_taken"}, outputs, rival=other))
        at += d.short()
    return pair


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[[Draft], list[Drop]]
    weight: float


KINDS: Mapping[str, _Kind] = {
    "plain": _Kind(_plain, 16),
    "video": _Kind(_video, 8),
    "mux": _Kind(_mux, 16),
    "bad": _Kind(_bad, 12),
    "mended": _Kind(_mended, 4),
    "silent": _Kind(_silent, 4),
    "late": _Kind(_late, 8),
    "never": _Kind(_never, 3),
    "newer": _Kind(_newer, 10),
    "back": _Kind(_there_and_back, 5),
    "same": _Kind(_same, 6),
    "removed": _Kind(_removed, 5),
    "ended": _Kind(_removed_at_work, 5),
    "again": _Kind(_put_back, 5),
    "cancelled": _Kind(_cancelled, 5),
    "bare": _Kind(_bare, 8),
    "rivals": _Kind(_rivals, 4),
}
"""By the word that begins a drop's name, with how often each is drawn."""

ON_THIS_MACHINE = ("mux", "bad", "removed")
"""Those that workers of this machine can do."""

ON_RUNPOD = tuple(kind for kind in KINDS if kind != "mux")


def make_drops(rng: random.Random, count: int, span_s: float, *, callbacks: str, kinds: Sequence[str]) -> list[Drop]:
    """About `count` drops of these `kinds` that are begun within `span_s` seconds; those that wait longest come first.

    `callbacks`: an address below which some of them are called back, each under its name.
    """
    chosen = rng.choices(kinds, [KINDS[kind].weight for kind in kinds], k=count)
    made: list[Drop] = []
    for i, kind in enumerate(chosen):
        if len(made) >= count:
            break
        latest = span_s * (0.3 if kind == "never" else 0.95)
        name = f"{kind}-{i}"
        url = f"{callbacks}/{name}" if rng.random() < CALLED else ""
        made += KINDS[kind].make(Draft(rng, name, kind, rng.uniform(0.0, latest), url))
    return made
