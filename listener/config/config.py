"""config.yaml as one typed, frozen object. Secrets come from the environment."""

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
    MediaKinds,
    Name,
    Names,
    Seconds,
    Section,
    StoreUrl,
)
from listener.config.sources import SourceConfig


class FolderStoreConfig(Section, frozen=True):
    """A folder as the bucket, into which users copy files."""

    kind: Literal["folder"]
    root: Path = Path("drop")
    bucket: Name = "drop"
    allowed_buckets: frozenset[str] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    trust_workers: bool = False


class StsConfig(Section, frozen=True):
    """Temporary keys, which sign the links of one job so that they open its objects alone."""

    mode: Literal["auto", "required", "off"] = "auto"
    """auto: used where the store gives any; a `role_arn` makes them required."""
    endpoint: StoreUrl | None = None
    """Where they are requested. Default: the store (MinIO, Ceph). AWS: https://sts.REGION.amazonaws.com."""
    role_arn: Annotated[str, Field(pattern=r"^arn:[a-z-]+:[a-z]+:[^\s]*$")] | None = None
    """The role that the listener assumes for them (AWS, Ceph); it needs the listener's rights."""
    max_duration: Annotated[Seconds, Field(ge=1800, le=7 * 86400)] | None = None
    """Their longest life in seconds; default 7 d, 12 h with a role. AWS: the role's maximum session duration."""

    @property
    def longest_s(self) -> float:
        return self.max_duration or (12 * 3600.0 if self.role_arn else 7 * 86400.0)


class S3StoreConfig(Section, frozen=True):
    """MinIO or another S3-compatible store. Its keys: GPUDROP_S3_ACCESS_KEY and GPUDROP_S3_SECRET_KEY."""

    kind: Literal["s3"]
    endpoint: StoreUrl
    buckets: Annotated[BucketNames, Field(min_length=1)]
    """Their names, or "*" for every bucket that the keys may list."""
    region: str = "us-east-1"
    public_endpoint: StoreUrl | None = None
    path_style: bool = True
    ca_file: Path | None = None
    allowed_buckets: frozenset[BucketName] = frozenset()
    private_hosts: frozenset[str] = frozenset()
    sts: StsConfig = StsConfig()
    trust_workers: bool = False
    """Whether remote workers may get links with which they could read all that the listener can."""

    @property
    def named_buckets(self) -> tuple[str, ...]:
        """Empty where every bucket counts."""
        return () if "*" in self.buckets else self.buckets


StoreConfig = Annotated[FolderStoreConfig | S3StoreConfig, Field(discriminator="kind")]


class ReconcileConfig(Section, frozen=True):
    """How buckets are listed for what events missed. Seconds."""

    interval: Seconds = 60.0
    look_back: Seconds = 86400.0
    """Objects older than this at the listener's start are ignored, unless a run of theirs is recorded."""


class LocalBackendConfig(Section, frozen=True):
    """This machine as the GPU, with as many child processes for each capability as it has slots."""

    whisper_slots: int = Field(default=1, ge=0, le=64)
    nvenc_slots: int = Field(default=1, ge=0, le=64)
    idle: Seconds = 300.0
    """Seconds after which an idle child process ends and frees its memory."""
    model_dir: Path | None = None
    """Folder of Whisper models; GPUDROP_MODEL_DIR overrides it."""
    models: dict[Name, Path] = Field(default_factory=dict[Name, Path])
    """Models in other folders, by name."""
    download_models: bool = True
    ffmpeg: Path | None = None
    memory: Bytes | None = None
    """Bytes of memory for the processes of one job. Default: half of this machine's, three quarters for speech."""
    disk: Bytes | None = None
    """Bytes of disk for one job. Default: nine tenths of what is free at its start."""
    sandbox: Literal["none", "bubblewrap"] = "none"
    """bubblewrap: workers see only their own processes, and neither state nor secrets."""


class TriggerConfig(Section, frozen=True):
    """Media files without a manifest that start a run."""

    name: Name
    bucket: Names = ()
    prefix: str = ""
    suffix: str = ""
    pattern: Names = ()
    exclude: Names = ()
    media: MediaKinds = ()
    """audio, video, or both: only files with an extension of that kind."""
    manifest: dict[str, Any]
    """The manifest they stand for; the file itself fills its media field."""
    chain: bool = False
    max_attempts: int = Field(default=3, ge=1, le=20)
    max_event_age: Seconds = 21600.0
    wait_for_inputs: Seconds = 600.0
    budget_per_day: Usd | None = None


class ManifestsConfig(Section, frozen=True):
    """Where manifests start runs, and what they may name."""

    enabled: bool = True
    prefix: str = ""
    """Manifests outside it start nothing."""
    scope: Literal["bucket", "folder"] = "bucket"
    """bucket: manifests may read and write their whole bucket. folder: their own folder, `folders` and `also`."""
    folders: tuple[Folder, ...] = ()
    """A manifest below one of them may use all of it; "*" is any one name."""
    also: tuple[AnyFolder, ...] = ()
    """Folders that every manifest may use."""
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
    """A folder whose `_gpudrop.yaml` count, and those below it."""

    folder: Folder
    bucket: Names = ()
    """Buckets that have it; empty: every bucket."""
    addresses: bool = False
    """Whether they may name a callback_url."""


class Img2VidConfig(Section, frozen=True):
    """How more than `images_per_job` images are spread over up to `max_jobs` jobs."""

    images_per_job: int = Field(default=50, ge=1, le=1000)
    max_jobs: int = Field(default=3, ge=1, le=50)


class CallbacksConfig(Section, frozen=True):
    """How callbacks are posted. Seconds."""

    private_hosts: frozenset[str] = frozenset()
    """Hosts that callbacks may go to although their address is private."""
    timeout: Seconds = 15.0
    keep_trying: Seconds = 86400.0
    """How long a failing callback is retried, over restarts."""
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    """Ends retries earlier; None: only `keep_trying` does."""


class LogConfig(Section, frozen=True):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Config(Section, frozen=True):
    """All of config.yaml."""

    store: StoreConfig = FolderStoreConfig(kind="folder")
    state: str | None = None
    """Folder of the SQLite state, or a postgresql:// URL. Default: .gpudrop beside this file."""
    sources: tuple[SourceConfig, ...] = ()
    """Where events come from. Default: the store's own source, and reconcile."""
    manifests: ManifestsConfig = ManifestsConfig()
    triggers: tuple[TriggerConfig, ...] = ()
    defaults: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Defaults of every manifest; those of _gpudrop.yaml override them."""
    defaults_from: tuple[DefaultsFolderConfig, ...] | None = None
    """Folders whose _gpudrop.yaml count; the longest match decides. Default: all, none with `addresses`."""
    reconcile: ReconcileConfig = ReconcileConfig()
    local: LocalBackendConfig = LocalBackendConfig()
    endpoints: tuple[EndpointConfig, ...] = (LocalEndpointConfig(kind="local"),)
    """Where tasks run. Default: this machine."""
    runpod: RunPodConfig = RunPodConfig()
    task_timeout: Seconds = 3600.0
    """Seconds that a worker may take for one job."""
    task_max_input: Bytes = MAX_INPUT_BYTES
    """Bytes of all inputs of one job."""
    task_max_output: Bytes | None = None
    """Bytes of one output of a worker. Default: 256 MiB, and 64 times its inputs or a clip's frames."""
    prices: dict[str, Usd] = Field(default_factory=dict[str, Usd])
    """US dollars a second, by GPU, in addition to RunPod's pools."""
    budgets: BudgetsConfig = BudgetsConfig()
    img2vid: Img2VidConfig = Img2VidConfig()
    callbacks: CallbacksConfig = CallbacksConfig()
    max_lineage: int = Field(default=4, ge=1, le=16)
    concurrent_runs: int = Field(default=1000, ge=1, le=5000)
    link_expiry: Seconds = 7 * 86400.0
    """Seconds that the links in done sidecars work."""
    keep_runs: Seconds = 30 * 86400.0
    """Seconds after which ended runs are deleted; it must exceed the delay of late events."""
    log: LogConfig = LogConfig()
    _file: Path | None = PrivateAttr(default=None)

    @property
    def file(self) -> Path | None:
        """The file that was read; None: none was."""
        return self._file

    def read_from(self, file: Path) -> Config:
        """Returns a copy that knows its file."""
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
