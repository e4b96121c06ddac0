"""What the story of every run works with."""

from __future__ import annotations

from dataclasses import dataclass

from handlers.registry import Registry
from listener.clock import Clock
from listener.parsers import Parsers
from listener.patience import Patience
from listener.process_pool import ProcessPool
from listener.runs.admission import Admission
from listener.runs.adoption import Adoption
from listener.runs.board import Board
from listener.runs.closing import Closer
from listener.runs.file_room import FileRoom
from listener.runs.inputs import InputFinder
from listener.runs.jobs import JobRunner
from listener.runs.outbox import Outbox
from listener.runs.outputs import OutputKeys
from listener.runs.reading import ManifestReader
from listener.signals import Ends


@dataclass(frozen=True, slots=True)
class Collaborators:
    """Everything a run's story needs; built once by the composition root."""

    reader: ManifestReader
    registry: Registry
    finder: InputFinder
    runner: JobRunner
    closer: Closer
    adoption: Adoption
    outbox: Outbox
    board: Board
    outputs: OutputKeys
    ends: Ends
    clock: Clock
    patience: Patience
    pool: ProcessPool
    parsers: Parsers
    room: FileRoom
    admission: Admission
