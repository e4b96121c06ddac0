"""What RunPod's management API v2 takes, as strictly as its OpenAPI document says, and how it refuses."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

POOLS = {"AMPERE_16", "AMPERE_24", "ADA_24", "ADA_32_PRO", "AMPERE_48", "ADA_48_PRO", "AMPERE_80", "ADA_80_PRO"}
POOLS |= {"HOPPER_141", "BLACKWELL_96", "BLACKWELL_180"}


class _Body(BaseModel, extra="forbid", strict=True):
    pass


class _Container(_Body):
    image: str | None = None
    args: str | None = None
    disk: Annotated[int, Field(ge=1)] | None = None
    env: dict[str, str] | None = None
    ports: list[str] | None = None
    registry: str | None = None


class TemplateBody(_Container):
    name: Annotated[str, Field(min_length=1)] | None = None
    serverless: bool = False
    public: bool = False
    startSsh: bool = True  # noqa: N815
    startJupyter: bool = True  # noqa: N815


class _Gpu(_Body):
    pools: Annotated[list[str], Field(min_length=1)] | None = None
    excludedTypes: list[str] | None = None  # noqa: N815
    count: Annotated[int, Field(ge=1)] = 1


class Workers(_Body):
    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=0)] = 3
    idleTimeout: Annotated[int, Field(ge=1, le=3600)] = 10  # noqa: N815


class _Scaling(_Body):
    type: Literal["QUEUE_DELAY"]
    queueDelay: Annotated[float, Field(ge=0.5)]  # noqa: N815


class EndpointBody(_Container):
    name: Annotated[str, Field(min_length=1)] | None = None
    type: Literal["QUEUE", "LOAD_BALANCER"] | None = None
    templateId: str | None = None  # noqa: N815
    gpu: _Gpu | None = None
    workers: Workers | None = None
    scaling: _Scaling | None = None
    dataCenterIds: list[str] | None = None  # noqa: N815
    networkVolumes: list[str] | None = None  # noqa: N815
    timeout: int | None = None
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] | None = None


class Problem(Exception):
    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.document = {"title": "Problem", "status": status, "detail": detail, "errors": errors or []}
        self.status = status


_B = TypeVar("_B", bound=_Body)


def checked(model: type[_B], data: Any) -> _B:
    try:
        return model.model_validate(data)
    except ValidationError as e:
        errors = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in e.errors(include_url=False)]
        raise Problem(422, "Request validation failed.", errors) from e
