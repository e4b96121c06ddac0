"""What the workflow of every run works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from handlers.registry import Registry
from listener.clock import Clock
from listener.outages import OutageRetry
from listener.processes.parsers import DocumentParsers
from listener.processes.pool import ProcessPool
from listener.runs.admission import Admission, FileRoom
from listener.runs.adoption import Adoption
from listener.runs.finalizer import RunFinalizer
from listener.runs.inputs import InputFinder
from listener.runs.jobs import JobRunner
from listener.runs.manifests import ManifestReader
from listener.runs.outbox import Outbox
from listener.runs.outputs import OutputKeys
from listener.runs.status import StatusPublisher
from listener.signals import Cancellations
from listener.speech_models import SpeechModels


@dataclass(frozen=True, slots=True)
class RunServices:
    """Everything that a run's workflow needs; built once by the composition root."""

    reader: ManifestReader
    registry: Registry
    finder: InputFinder
    runner: JobRunner
    finalizer: RunFinalizer
    adoption: Adoption
    outbox: Outbox
    publisher: StatusPublisher
    outputs: OutputKeys
    cancellations: Cancellations
    clock: Clock
    outages: OutageRetry
    pool: ProcessPool
    parsers: DocumentParsers
    room: FileRoom
    admission: Admission
    models: SpeechModels = field(default_factory=SpeechModels)
