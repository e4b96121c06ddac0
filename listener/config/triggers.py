"""The configuration's triggers for the matcher."""

from __future__ import annotations

from listener.config.config import Config
from listener.triggers.triggers import Trigger
from manifests.references import Reach


def triggers_of(config: Config) -> tuple[Trigger, ...]:
    """Returns the trigger of manifests, then those of media files in their order."""
    manifests = config.manifests
    reach = Reach(manifests.scope, manifests.folders, manifests.also)
    of_manifests = Trigger(
        name="manifests",
        prefix=manifests.prefix,
        chain=manifests.chain,
        max_attempts=manifests.max_attempts,
        max_event_age_s=manifests.max_event_age,
        wait_for_inputs_s=manifests.wait_for_inputs,
        budget_per_day=manifests.budget_per_day,
        reach=reach,
    )
    of_media = tuple(
        Trigger(
            name=t.name,
            buckets=t.bucket,
            prefix=t.prefix,
            suffix=t.suffix,
            patterns=t.pattern,
            exclude=t.exclude,
            media=t.media,
            manifest=t.manifest,
            chain=t.chain,
            max_attempts=t.max_attempts,
            max_event_age_s=t.max_event_age,
            wait_for_inputs_s=t.wait_for_inputs,
            budget_per_day=t.budget_per_day,
            reach=reach,
        )
        for t in config.triggers
    )
    return (*((of_manifests,) if manifests.enabled else ()), *of_media)
