"""How lists of images are shared out to jobs, for every list and every limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.task import GpuResult, VideoFile, Videos
from handlers.addaudio import AddAudioHandler
from handlers.base import Input, Planning
from handlers.caption import CaptionHandler
from handlers.files import task_file
from handlers.img2vid import Img2VidHandler, SplitLimits, split_images
from handlers.registry import load_registry
from handlers.transcribe import TranscribeHandler
from manifests.models import AddAudio, Caption, Image, Img2Vid, Transcribe
from manifests.references import ObjectRef, UrlRef

FRAMES = st.lists(st.integers(1, 3600 * 24), min_size=1, max_size=200)
LIMITS = st.builds(SplitLimits, st.integers(1, 60), st.integers(1, 8))


def planned(durations, *, sizes=None):
    """`durations` by hundredths of a second; the images' sizes by their number."""
    images = tuple(Image(image=f"{i}.png", duration=d / 100, id=f"img-{i}") for i, d in enumerate(durations))
    inputs = {f"images[{i}].image": Input(ObjectRef("media", f"{i}.png"), i + 1) for i in range(len(images))}
    return Planning(Img2Vid(images=images), "drop", "media", "out/", inputs)


@given(FRAMES, LIMITS)
def test_every_image_goes_to_one_job_and_the_jobs_are_even(frames, limits):
    parts = split_images(frames, limits)
    assert sorted(i for part in parts for i in part) == list(range(len(frames)))
    assert all(part == sorted(part) and part for part in parts)
    loads = [sum(frames[i] for i in part) for part in parts]
    assert max(loads) - min(loads) <= max(frames)


@given(FRAMES, LIMITS)
def test_there_are_as_many_jobs_as_the_limits_say(frames, limits):
    parts = split_images(frames, limits)
    assert len(parts) <= limits.max_jobs
    if len(frames) <= limits.images_per_job:
        assert len(parts) == 1
    elif len(frames) > limits.images_per_job * (limits.max_jobs - 1):
        assert len(parts) == limits.max_jobs


@given(FRAMES, LIMITS)
def test_the_same_list_is_always_shared_out_in_the_same_way(frames, limits):
    """A run that is taken up again plans once more, and must find the jobs that it has sent."""
    assert split_images(frames, limits) == split_images(
        list(frames), SplitLimits(limits.images_per_job, limits.max_jobs)
    )


def test_long_clips_count_for_what_they_are():
    """One long clip weighs as much as ten short ones; by number, each job would have been given six."""
    parts = split_images([240, *[24] * 10], SplitLimits(images_per_job=6, max_jobs=2))
    assert parts == [[0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


@given(st.lists(st.integers(10, 3000), min_size=1, max_size=60), LIMITS, st.randoms(use_true_random=False))
def test_outputs_stand_in_the_order_of_the_images_whichever_job_made_them(durations, limits, order):
    handler = Img2VidHandler(limits)
    planning = planned(durations)
    plan = handler.plan(planning)
    clips = {c.output: c for task in plan.tasks for c in task.params.clips}
    assert len(clips) == len(durations) == sum(len(task.outputs) for task in plan.tasks)
    for i in range(len(durations)):
        assert clips[f"video_{i + 1}.mp4"].image == f"img_{i + 1:04d}.png"
    results = []
    for i, task in enumerate(plan.tasks):
        assert {f.name for f in task.inputs} == {c.image for c in task.params.clips}
        files = [VideoFile(t.name, 5, 1.0, 1920, 1080, 24) for t in task.outputs]
        order.shuffle(files)
        results.append(GpuResult(f"j{i}", Videos(tuple(files), "libx264")))
    finished = handler.finish(planning, plan, tuple(results))
    assert [v["id"] for v in finished.response["videos"]] == [f"img-{i}" for i in range(len(durations))]
    assert [v["video_url"].key for v in finished.response["videos"]] == [
        f"out/video_{i + 1}.mp4" for i in range(len(durations))
    ]
    assert finished.stats["tasks"] == len(plan.tasks)


def test_the_limits_reach_the_handler_through_the_registry():
    planning = planned([100] * 9)
    usual = load_registry(lambda: ()).get("img2vid")
    small = load_registry(lambda: (), img2vid=SplitLimits(images_per_job=4, max_jobs=3)).get("img2vid")
    assert len(usual.plan(planning).tasks) == 1
    assert [len(task.outputs) for task in small.plan(planning).tasks] == [3, 3, 3]


def test_tasks_know_the_sizes_of_their_files():
    (task,) = Img2VidHandler().plan(planned([100, 200])).tasks
    assert [(f.name, f.size) for f in task.inputs] == [("img_0001.png", 1), ("img_0002.png", 2)]
    video, sound = Input(ObjectRef("media", "v.mp4"), 7), Input(UrlRef("https://files.example/a.mp3"))
    both = {
        "video": video,
        "audio": sound,
        "srt": Input(ObjectRef("media", "s.srt"), 3, b"1\n00:00:00,0 --> 00:00:01,0\na"),
    }
    for handler, manifest, sizes in (
        (AddAudioHandler(), AddAudio(video="v.mp4", audio="a.mp3"), [7, None]),
        (CaptionHandler(), Caption(video="v.mp4", srt="s.srt"), [7]),
        (TranscribeHandler(), Transcribe(audio="a.mp3"), [None]),
    ):
        (task,) = handler.plan(Planning(manifest, "drop", "media", "out/", both)).tasks
        assert [f.size for f in task.inputs] == sizes
    assert task_file("video", video).size == 7
