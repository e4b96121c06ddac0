"""What config.yaml says, as one typed, frozen object. Secrets are not in it: they come from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from gpu_dispatch.task import MAX_INPUT_BYTES
from listener.config.endpoints import PRICES, BudgetsConfig, EndpointConfig, LocalEndpointConfig, RunPodConfig, Usd
from listener.config.fields import (
    AnyFolder,
    BucketName,
    BucketNames,
    Bytes,
    Folder,
    Name,
    Names,
    Seconds,
    Section,
    StoreUrl,
)
from listener.config.sources import SourceConfig


class FolderStoreConfig(Section, frozen=True):
    """A folder is the bucket; users copy files into it."""

    kind: Literal["folder"]
    root: Path = Path("drop")
    bucket: Name = "drop"
    allowed_buckets: frozenset[str] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    trust_workers: bool = False


class StsConfig(Section, frozen=True):
    """Temporary keys, with which the links of each job are signed so that they open its objects alone."""

    mode: Literal["auto", "required", "off"] = "auto"
    """auto: where the store gives any; a `role_arn` makes them required."""
    endpoint: StoreUrl | None = None
    """Where they are asked for; default: the store itself (MinIO, Ceph). AWS: https://sts.REGION.amazonaws.com."""
    role_arn: Annotated[str, Field(pattern=r"^arn:[a-z-]+:[a-z]+:[^\s]*$")] | None = None
    """The role that the listener takes for them (AWS, Ceph); it needs the rights that the listener has."""
    max_duration: Annotated[Seconds, Field(ge=1800, le=7 * 86400)] | None = None
    """The longest that they live; default 7 d, and 12 h with a role. AWS: the role's maximum session duration."""

    @property
    def longest_s(self) -> float:
        return self.max_duration or (12 * 3600.0 if self.role_arn else 7 * 86400.0)


class S3StoreConfig(Section, frozen=True):
    """MinIO and every other S3-compatible store. Keys come from GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY."""

    kind: Literal["s3"]
    endpoint: StoreUrl
    buckets: Annotated[BucketNames, Field(min_length=1)]
    """Their names, or "*" for every bucket the keys may list."""
    region: str = "us-east-1"
    public_endpoint: StoreUrl | None = None
    path_style: bool = True
    ca_file: Path | None = None
    allowed_buckets: frozenset[BucketName] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    sts: StsConfig = StsConfig()
    trust_workers: bool = False
    """Whether workers elsewhere may be sent links with which they could read all that the listener can."""

    @property
    def named_buckets(self) -> tuple[str, ...]:
        """None where every bucket counts."""
        return () if "*" in self.buckets else self.buckets


StoreConfig = Annotated[FolderStoreConfig | S3StoreConfig, Field(discriminator="kind")]


class ReconcileConfig(Section, frozen=True):
    interval: Seconds = 60.0
    look_back: Seconds = 86400.0
    """Objects older than this when the listener starts are left alone, unless a run of theirs is recorded."""


class LocalBackendConfig(Section, frozen=True):
    """This machine as the GPU: `slots` child processes a capability."""

    whisper_slots: int = Field(default=1, ge=0, le=64)
    nvenc_slots: int = Field(default=1, ge=0, le=64)
    idle: Seconds = 300.0
    """A child without work ends after this long and gives its memory back."""
    model_dir: Path | None = None
    """Whisper models; GPUDROP_MODEL_DIR overrides it."""
    models: dict[Name, Path] = Field(default_factory=dict[Name, Path])
    """Models by name that lie elsewhere."""
    download_models: bool = True
    ffmpeg: Path | None = None
    memory: Bytes | None = None
    """What the processes of one job may take. Default: half of what this machine has, three quarters for speech."""
    disk: Bytes | None = None
    """What one job may hold on the disk. Default: nine tenths of what is free when it begins."""
    sandbox: Literal["none", "bubblewrap"] = "none"
    """bubblewrap: workers see no process but their own, and neither state nor secrets."""


class TriggerConfig(Section, frozen=True):
    """Bare media that start a run. `manifest` is the manifest they stand for; the file itself fills its media field."""

    name: Name
    bucket: Names = ()
    prefix: str = ""
    suffix: str = ""
    pattern: Names = ()
    exclude: Names = ()
    manifest: dict[str, Any]
    chain: bool = False
    max_attempts: int = Field(default=3, ge=1, le=20)
    max_event_age: Seconds = 21600.0
    wait_for_inputs: Seconds = 600.0
    budget_per_day: Usd | None = None


class ManifestsConfig(Section, frozen=True):
    """Manifests start runs wherever they land, unless `prefix` says where.

    `scope` bucket: they may name all that lies in their bucket, and write anywhere in it. folder: only what lies in
    their own folder, in that of `folders` which they lie below ("*" is any one name), and in `also`.
    """

    enabled: bool = True
    prefix: str = ""
    scope: Literal["bucket", "folder"] = "bucket"
    folders: tuple[Folder, ...] = ()
    also: tuple[AnyFolder, ...] = ()
    chain: bool = False
    max_attempts: int = Field(default=3, ge=1, le=20)
    max_event_age: Seconds = 21600.0
    wait_for_inputs: Seconds = 600.0
    budget_per_day: Usd | None = None

    @model_validator(mode="after")
    def _folders_have_a_meaning(self) -> ManifestsConfig:
        if (self.folders or self.also) and self.scope != "folder":
            raise ValueError("`folders` and `also` are for `scope: folder`: set it too")
        return self


class DefaultsFolderConfig(Section, frozen=True):
    """The `_gpudrop.yaml` of `folder` and of all below it count; with `addresses` they may name a callback_url."""

    folder: Folder
    bucket: Names = ()
    """Which buckets'; none named: every one's."""
    addresses: bool = False


class Img2VidConfig(Section, frozen=True):
    """More than `images_per_job` images are spread over up to `max_jobs` jobs."""

    images_per_job: int = Field(default=50, ge=1, le=1000)
    max_jobs: int = Field(default=3, ge=1, le=50)


class CallbacksConfig(Section, frozen=True):
    private_hosts: frozenset[str] = frozenset()
    """Hosts a callback may go to although their address is private."""
    timeout: Seconds = 15.0
    keep_trying: Seconds = 86400.0
    """How long a receiver that does not hear is called again, over restarts."""
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    """Ends it earlier, after so many attempts."""


class LogConfig(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(Section, frozen=True):
    store: StoreConfig = FolderStoreConfig(kind="folder")
    state: str | None = None
    """Folder of the SQLite state, or a postgresql:// URL. Default: .gpudrop beside this file."""
    sources: tuple[SourceConfig, ...] = ()
    """Where events come from. Default: what the store offers, and reconcile."""
    manifests: ManifestsConfig = ManifestsConfig()
    triggers: tuple[TriggerConfig, ...] = ()
    defaults: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Defaults for every manifest, below those of _gpudrop.yaml."""
    defaults_from: tuple[DefaultsFolderConfig, ...] | None = None
    """Folders whose _gpudrop.yaml count; the longest that fits decides. Default: all, but none may name an address."""
    reconcile: ReconcileConfig = ReconcileConfig()
    local: LocalBackendConfig = LocalBackendConfig()
    endpoints: tuple[EndpointConfig, ...] = (LocalEndpointConfig(kind="local"),)
    """Where tasks run. Default: this machine."""
    runpod: RunPodConfig = RunPodConfig()
    task_timeout: Seconds = 3600.0
    """The longest a worker may take for one job."""
    task_max_input: Bytes = MAX_INPUT_BYTES
    """The most that the inputs of one job may hold together."""
    task_max_output: Bytes | None = None
    """The most that one output of a worker may hold. Default: 256 MiB, and 64 times its inputs or a clip's frames."""
    prices: dict[str, Usd] = Field(default_factory=dict[str, Usd])
    """US dollars a second, by GPU; those given here are added to RunPod's pools."""
    budgets: BudgetsConfig = BudgetsConfig()
    img2vid: Img2VidConfig = Img2VidConfig()
    callbacks: CallbacksConfig = CallbacksConfig()
    max_lineage: int = Field(default=4, ge=1, le=16)
    concurrent_runs: int = Field(default=1000, ge=1, le=5000)
    link_expiry: Seconds = 7 * 86400.0
    """How long the links in done sidecars work."""
    keep_runs: Seconds = 30 * 86400.0
    """Ended runs are forgotten after this long; it must be longer than an event can come late."""
    log: LogConfig = LogConfig()
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """Where it was read; None: nowhere."""
        return self._file

    def read_from(self, file: Path) -> Config:
        """The same, with the file it was read from."""
        found = self.model_copy()
        found._file = file.absolute()  # pyright: ignore[reportAttributeAccessIssue] - frozen are the fields alone
        return found

    @property
    def known_prices(self) -> Mapping[str, float]:
        """US dollars a second, by GPU."""
        return {**PRICES, **self.prices}

    @model_validator(mode="after")
    def _links_outlive_tasks(self) -> Config:
        if isinstance(self.store, S3StoreConfig) and self.store.sts.longest_s < self.task_timeout + 1800.0:
            raise ValueError("store.sts.max_duration must be at least half an hour longer than task_timeout")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        for what, names in (
            ("triggers", [t.name for t in self.triggers]),
            ("sources", [s.named for s in self.sources]),
            ("endpoints", [e.name for e in self.endpoints]),
        ):
            if twice := {n for n in names if names.count(n) > 1}:
                raise ValueError(f"two {what} are named {sorted(twice)[0]!r}")
        return self
