"""Request bodies of the API and workers that this project replaces, translated to manifests.

`upgrade_fields` accepts any of them, bare or in RunPod's {"input": …}, and leaves a current manifest unchanged. A
legacy `path` starts at the bucket's root.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from manifests.errors import ManifestError
from manifests.trees import Tree, shorten

_MEDIA = {"url_video": "video", "url_srt": "srt", "url_audio": "audio", "audio_url": "audio"}
_WRAPPER = {"input", "webhook", "policy", "id", "s3Config"}
_FORMAT_OF = {"plain_text": "txt", "formatted_text": "txt", "srt": "srt", "vtt": "vtt"}

_Body = dict[str, Tree]


def upgrade_fields(body: Mapping[str, Tree]) -> dict[str, Tree]:
    """Renames the fields of `body` to current names. Raises ManifestError for a value that cannot be translated."""
    inner = unwrapped(body)
    if inner is not None:
        return _from_root(_renamed(inner))
    fields = _renamed(dict(body))
    return _from_root(fields) if _is_old(body) else fields


def unwrapped(body: Mapping[str, Tree]) -> dict[str, Tree] | None:
    """Returns the content of RunPod's {"input": …}, with `webhook` as callback_url; None for any other body."""
    inner = body.get("input")
    if not isinstance(inner, dict) or not body.keys() <= _WRAPPER:
        return None
    fields = dict(inner)
    if body.get("webhook") is not None:
        fields.setdefault("callback_url", body["webhook"])
    return fields


def _is_old(body: Mapping[str, Tree]) -> bool:
    """Returns whether `body` has a name that only the old API uses."""
    images = body.get("images")
    entries = cast("list[Tree]", images) if isinstance(images, list) else []
    return (
        not _MEDIA.keys().isdisjoint(body)
        or "url_image" in body
        or any(isinstance(e, dict) and ("image_url" in e or "duracao" in e) for e in entries)
    )


def _from_root(fields: _Body) -> _Body:
    path = fields.get("path")
    if isinstance(path, str) and not path.startswith("/"):
        return {**fields, "path": "/" + path}
    return fields


def _renamed(fields: _Body) -> _Body:
    for old, new in _MEDIA.items():
        _rename(fields, old, new)
    _single_image(fields)
    images = fields.get("images")
    if isinstance(images, list):
        fields["images"] = [_image(entry) for entry in images]
    _base64(fields)
    _rename(fields, "enable_vad", "vad")
    _temperatures(fields)
    _formats(fields)
    return fields


def _rename(fields: _Body, old: str, new: str) -> None:
    if old not in fields:
        return
    value = fields.pop(old)
    if fields.get(new) is not None and value is not None:
        raise ManifestError(f"{old} and {new} name the same thing and are both there.", hint=f"Keep {new}.", where=old)
    if value is not None or new not in fields:
        fields[new] = value


def _single_image(fields: _Body) -> None:
    """Translates the first version's body, which has one image, to a list of images."""
    if "url_image" not in fields:
        return
    image: _Body = {"image": fields.pop("url_image")}
    if "duration" in fields:
        image["duration"] = fields.pop("duration")
    _rename(fields, "frame_rate", "fps")
    if "images" in fields:
        raise ManifestError("url_image and images are both there.", hint="Keep images.", where="url_image")
    fields["images"] = [image]


def _image(entry: Tree) -> Tree:
    if not isinstance(entry, dict):
        return entry
    image = dict(entry)
    _rename(image, "image_url", "image")
    _rename(image, "duracao", "duration")
    return image


def _base64(fields: _Body) -> None:
    value = fields.get("audio_base64")
    if isinstance(value, str) and not value.startswith("data:"):
        fields["audio_base64"] = "data:application/octet-stream;base64," + "".join(value.split())
    _rename(fields, "audio_base64", "audio")


def _temperatures(fields: _Body) -> None:
    """Translates a start and a step, as in Whisper's command line, to the list that is tried in order."""
    if "temperature_increment_on_fallback" not in fields:
        return
    step = _number(fields.pop("temperature_increment_on_fallback"))
    start = _number(fields.get("temperature"))
    if step is None or step <= 0:
        return
    first = 0.0 if start is None else start
    # Up to one more than a manifest may have, so that the model refuses too small a step.
    count = int(min(16.0, (1.0 - first) / step + 1e-6)) + 1 if first < 1 else 1
    fields["temperature"] = [round(first + i * step, 6) for i in range(count)]


def _number(value: Tree) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else _refuse(value)


def _refuse(value: Tree) -> float:
    raise ManifestError(
        f"temperature and temperature_increment_on_fallback must be numbers (one is {shorten(value)}).",
        hint="Write numbers from 0 to 1, or give temperature as a list.",
        where="temperature_increment_on_fallback",
    )


def _formats(fields: _Body) -> None:
    """Translates the forms of the worker's answer to `formats`; json is added because word times always came along."""
    asked = fields.pop("transcription", None)
    translated = fields.pop("translation", None)
    wanted = [f for f in (asked, translated if fields.get("translate") is True else None) if f is not None]
    formats: list[Tree] = []
    for name in wanted:
        if not isinstance(name, str) or name not in _FORMAT_OF:
            raise ManifestError(
                f"transcription and translation must be one of {', '.join(_FORMAT_OF)} (one is {shorten(name)}).",
                hint="Or give formats, a list such as [srt, ass, json].",
                where="transcription",
            )
        if _FORMAT_OF[name] not in formats:
            formats.append(_FORMAT_OF[name])
    if formats and fields.get("formats") is None:
        fields["formats"] = [*formats, "json"]
