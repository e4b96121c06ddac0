"""What the story of every run works with."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.registry import Registry
from listener.clock import Clock
from listener.parsers import DocumentParsers
from listener.patience import OutageRetry
from listener.process_pool import ProcessPool
from listener.runs.admission import Admission
from listener.runs.adoption import Adoption
from listener.runs.board import StatusPublisher
from listener.runs.closing import RunFinalizer
from listener.runs.file_room import FileRoom
from listener.runs.inputs import InputFinder
from listener.runs.jobs import JobRunner
from listener.runs.outbox import Outbox
from listener.runs.outputs import OutputKeys
from listener.runs.reading import ManifestReader
from listener.signals import Cancellations


@dataclass(frozen=True, slots=True)
class RunServices:
    """Everything a run's story needs; built once by the composition root."""

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
