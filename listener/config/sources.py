"""The sources that config.yaml can name, each by its kind alone or with settings. Packages add kinds: see source_kinds.

A source's user, password and tokens come from the environment, under its name (its kind, unless given): see
environment.SourceSecrets. Two sources of one kind differ by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, LiteralString, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from listener.config.fields import Names, Seconds, Section, usable_address
from listener.config.source_kinds import SourceSettings, TargetedSource, source_kinds


def _with_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > 65535:
        raise ValueError("the port is above 65535")
    return address


def _without_secrets(url: str) -> str:
    if urlsplit(url).password:
        raise ValueError("a URL must not hold a password: set GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD")
    return url


Url = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9+]*://[^/\s]"), AfterValidator(_without_secrets), AfterValidator(usable_address)
]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:/\s]+):\d{1,5}$"), AfterValidator(_with_port)]


class FolderSourceConfig(SourceSettings, frozen=True):
    """The drop folder's own changes."""

    kind: Literal["folder"]


class ReconcileSourceConfig(SourceSettings, frozen=True):
    """Listing; its settings are in the section `reconcile`."""

    kind: Literal["reconcile"]


class MinioSourceConfig(SourceSettings, frozen=True):
    """The store's own event stream."""

    kind: Literal["minio"]
    ping: Annotated[Seconds, Field(ge=1, le=5)] = 2.0
    """Whole seconds between requested keep-alives; the connection is dropped ten seconds after a missing one."""


class WebhookSourceConfig(TargetedSource, frozen=True):
    """An HTTP receiver. Its secrets and `tls.client_ca_file` decide who may post."""

    class Tls(Section, frozen=True):
        """The receiver's certificate."""

        cert_file: Path
        key_file: Path
        client_ca_file: Path | None = None
        """Only clients with a certificate of this authority may connect."""

    kind: Literal["webhook"]
    listen: Address = "127.0.0.1:8710"
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._~-]*$")] = "/"
    tls: Tls | None = None
    sns_topics: Names = ()
    """ARNs whose subscriptions are confirmed and whose messages are taken."""
    sns_hosts: Names = ()
    """host:port of servers that speak like Amazon SNS, beside Amazon's own."""
    open: bool = False
    """Takes events without any secret, from all that reach the port."""


class SqsSourceConfig(TargetedSource, frozen=True):
    """A queue of Amazon SQS or a compatible server. Keys: the AWS_* variables, or the source's own."""

    kind: Literal["sqs"]
    queue_url: Url
    region: str | None = None
    """Default: the one in the queue's URL, else the store's."""
    endpoint: Url | None = None
    visibility: Annotated[Seconds, Field(ge=5, le=43200)] = 60.0


CORE: Mapping[str, type[SourceSettings]] = {
    "folder": FolderSourceConfig,
    "reconcile": ReconcileSourceConfig,
    "minio": MinioSourceConfig,
    "webhook": WebhookSourceConfig,
    "sqs": SqsSourceConfig,
}
"""The kinds of the core, by name."""


def settings_model(kind: str) -> type[SourceSettings] | None:
    """Returns the settings of a kind, of the core or of a package; None: there is no such kind. Raises ConfigError."""
    if kind in CORE:
        return CORE[kind]
    return found.settings if (found := source_kinds().find(kind)) else None


def _read(value: Any) -> SourceSettings:
    """Validates `value` by the kind that it names; the places of errors begin with the kind."""
    if isinstance(value, SourceSettings):
        return value
    section: Any = {"kind": value} if isinstance(value, str) else value
    kind = cast(Mapping[str, Any], section).get("kind") if isinstance(section, Mapping) else None
    model = settings_model(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join((*CORE, *source_kinds().names))
        raise PydanticCustomError("unknown_source", "there is no such source; there are {known}", {"known": known})
    try:
        return model.model_validate(section)
    except ValidationError as e:
        raise _below(str(kind), e) from None


def _below(kind: str, error: ValidationError) -> ValidationError:
    """Puts `kind` in front of every place, as pydantic does for a tagged union."""
    problems = [
        InitErrorDetails(
            type=PydanticCustomError(cast(LiteralString, each["type"]), cast(LiteralString, each["msg"])),
            loc=(kind, *each["loc"]),
            input=each["input"],
        )
        for each in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, problems)


SourceConfig = Annotated[SourceSettings, PlainValidator(_read)]
