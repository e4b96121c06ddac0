"""Manifests read from bytes or from a trigger's template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError

from manifests.defaults import Defaults, merge_defaults
from manifests.errors import ManifestError, MissingField, UnknownField, UnknownOperation
from manifests.legacy import upgrade_fields
from manifests.models import MODELS, Manifest
from manifests.syntax import parse_fields
from manifests.text import did_you_mean, nearest
from manifests.trees import Tree, escaped, shorten
from manifests.validation import check_amounts, explain

_BY_MEDIA: dict[frozenset[str], str] = {
    frozenset({"audio"}): "transcribe",
    frozenset({"video", "srt"}): "caption",
    frozenset({"images"}): "img2vid",
    frozenset({"video", "audio"}): "addaudio",
}
_INCOMPLETE: dict[frozenset[str], str] = {
    frozenset(): "audio, video or images",
    frozenset({"video"}): "srt or audio",
    frozenset({"srt"}): "video",
}
"""What is missing, by the given media where these imply no operation."""

_MEDIA = ("audio", "video", "srt", "images")
_NAMES = frozenset({*Manifest.model_fields, "output_filename", "initial_prompt"})
"""Fields in which "{file}" is the file's name and no reference to it."""
_WAYS = "audio makes transcribe; video and srt make caption; images make img2vid; video and audio make addaudio."
_FILM = "Nothing makes one video of them: img2vid makes clips of images, addaudio then gives a video its sound."
_PLACEHOLDER = re.compile(r"\{(file|stem)\}")


@dataclass(frozen=True, slots=True)
class SourcedManifest:
    """A manifest and the documents that its fields came from."""

    manifest: Manifest
    origins: Mapping[str, str]
    """The document that gave a field, by field; the manifest itself is not listed."""


def read_manifest(
    data: bytes,
    key: str,
    *,
    models: Mapping[str, type[Manifest]] = MODELS,
    defaults: Sequence[Defaults] = (),
) -> Manifest:
    """Reads the manifest at `key`. `defaults` are ordered from the bucket's root down.

    Raises ManifestError or a subclass: code and place are those of the first problem, the message lists them all.
    """
    return read_sourced(data, key, models=models, defaults=defaults).manifest


def read_sourced(
    data: bytes,
    key: str,
    *,
    models: Mapping[str, type[Manifest]] = MODELS,
    defaults: Sequence[Defaults] = (),
) -> SourcedManifest:
    """Reads a manifest as `read_manifest` does, with the origins of its fields."""
    fields = parse_fields(data, key)
    fields.pop("$schema", None)
    return _build(upgrade_fields(fields), models, defaults, "")


def from_template(
    template: Mapping[str, Tree],
    *,
    key: str,
    source: str,
    models: Mapping[str, type[Manifest]] = MODELS,
    defaults: Sequence[Defaults] = (),
) -> Manifest:
    """Makes the manifest that bare media at `key` stands for.

    "{file}" and "{stem}" in the template's texts are the file's name, with and without its extension. Where no field
    for media has "{file}", the file fills the first one that the operation needs and the template leaves open. `source`
    names the template in errors ("config.yaml: triggers.audio").
    """
    return template_sourced(template, key=key, source=source, models=models, defaults=defaults).manifest


def template_sourced(
    template: Mapping[str, Tree],
    *,
    key: str,
    source: str,
    models: Mapping[str, type[Manifest]] = MODELS,
    defaults: Sequence[Defaults] = (),
) -> SourcedManifest:
    """Makes a manifest as `from_template` does, with the origins of its fields: `source` for the template's own."""
    name = key.rpartition("/")[2]
    fields, named = _filled_fields(template, name)
    try:
        if not named & set(_MEDIA) and (field := _open_field(fields, models, source, named=bool(named - _NAMES))):
            fields[field] = "./" + name
        return _build(fields, models, defaults, source)
    except ManifestError as e:
        raise _blamed(e, source) from e


def filled_template(template: Mapping[str, Tree], key: str) -> dict[str, Tree]:
    """Fills the placeholders of the template's fields; checks nothing."""
    return _filled_fields(template, key.rpartition("/")[2])[0]


def _filled_fields(template: Mapping[str, Tree], name: str) -> tuple[dict[str, Tree], set[str]]:
    """Fills the placeholders of the template's fields; also returns in which of them "{file}" was."""
    filled = {field: _filled(value, name, plain=field in _NAMES) for field, value in template.items()}
    return {field: value for field, (value, _) in filled.items()}, {field for field, (_, has) in filled.items() if has}


def _blamed(error: ManifestError, source: str) -> ManifestError:
    """Returns `error` with the template's name, wherever it did not name a document yet."""
    info = error.info
    if source in info.message or (info.where and ": " in info.where) or info.where == source:
        return error
    where = f"{source}: {info.where}" if info.where else source
    return type(error)(f"In {source}: {info.message}", hint=info.hint, where=where)


def _build(
    fields: Mapping[str, Tree], models: Mapping[str, type[Manifest]], defaults: Sequence[Defaults], origin: str
) -> SourcedManifest:
    operation = _operation(fields, models, origin)
    model = models[operation]
    # Clients that fill in a form send null for the media they do not have.
    own = {n: v for n, v in fields.items() if v is not None or n in model.model_fields or n not in _MEDIA}
    check_amounts(own, operation, model)
    merged = merge_defaults(own, operation, model, defaults, origin=origin)
    try:
        return SourcedManifest(model.model_validate({**merged.fields, "operation": operation}), merged.origins)
    except ValidationError as e:
        raise explain(e, model, operation, merged.origins) from e


def implied_operation(fields: Mapping[str, Tree]) -> str | None:
    """Returns the operation that the media in `fields` imply; None where they imply none."""
    return _BY_MEDIA.get(_media(fields))


def _media(fields: Mapping[str, Tree]) -> frozenset[str]:
    return frozenset(n for n in _MEDIA if fields.get(n) is not None)


def _operation(fields: Mapping[str, Tree], models: Mapping[str, type[Manifest]], origin: str) -> str:
    """Returns the operation that `fields` name, or the one that their media imply."""
    asked = fields.get("operation")
    where = f"{origin}: operation" if origin else "operation"
    if asked is not None:
        if isinstance(asked, str) and asked in models:
            return asked
        raise UnknownOperation(
            f"There is no operation {shorten(asked)}{did_you_mean(str(asked), models)}.",
            hint=f"The operations are {', '.join(models)}.",
            where=where,
        )
    told = implied_operation(fields)
    if told and told in models:
        return told
    media = _media(fields)
    if media in _INCOMPLETE:
        raise _incomplete(fields, media, origin)
    hint = f"{_FILM} {_WAYS}" if "images" in media else f"Add operation. {_WAYS}"
    raise UnknownOperation(f"{_listed(media)} together do not tell the operation.", hint=hint, where=where)


def _incomplete(fields: Mapping[str, Tree], media: frozenset[str], origin: str) -> ManifestError:
    for name in islice(fields, 50):
        meant = nearest(name, _MEDIA)
        if meant and name not in _MEDIA:
            return UnknownField(
                f"{shorten(name)} is no field of a manifest (did you mean '{meant}'?).",
                hint=_WAYS,
                where=escaped(name[:60]),
            )
    said = f"The manifest names only {_listed(media)}" if media else "The manifest names no media"
    return MissingField(f"{said}; {_INCOMPLETE[media]} is missing.", hint=_WAYS, where=origin)


def _listed(names: frozenset[str]) -> str:
    return " and ".join(n for n in _MEDIA if n in names)


def _filled(value: Tree, name: str, *, plain: bool) -> tuple[Tree, bool]:
    """Fills the placeholders of `value`; also returns whether "{file}" was among them. `plain`: it is no reference."""
    if value == "{file}" and not plain:
        # "./" keeps a name such as "data:1.mp3" from being read as a data URL.
        return "./" + name, True
    if isinstance(value, str):
        words = {"file": name, "stem": name.rpartition(".")[0] or name}
        return _PLACEHOLDER.sub(lambda m: words[m[1]], value), "{file}" in value
    if isinstance(value, list):
        items = [_filled(v, name, plain=plain) for v in value]
        return [v for v, _ in items], any(named for _, named in items)
    if isinstance(value, dict):
        entries = {k: _filled(v, name, plain=plain) for k, v in value.items()}
        return {k: v for k, (v, _) in entries.items()}, any(named for _, named in entries.values())
    return value, False


def _open_field(
    fields: Mapping[str, Tree], models: Mapping[str, type[Manifest]], source: str, *, named: bool
) -> str | None:
    """Returns the field of the template's operation that the dropped file fills; None where another one names it."""
    if fields.get("operation") is None:
        raise MissingField(
            f"{source} names no operation.",
            hint="Add operation, such as transcribe, or put {file} where the dropped file belongs.",
            where=f"{source}: operation",
        )
    model = models[_operation(fields, models, source)]
    for name in ("audio", "video", "srt") if "video" not in model.model_fields else ("video", "audio", "srt"):
        field = model.model_fields.get(name)
        if field and field.is_required() and fields.get(name) is None:
            return name
    if named:
        return None
    raise MissingField(
        f"{source} does not say where the dropped file belongs.",
        hint='Put {file} there, such as images: [{image: "{file}", duration: 5}].',
        where=source,
    )
