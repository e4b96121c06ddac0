"""What `gpudrop deploy` wants, finds different and says, without anybody to ask."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpu_dispatch.runpod.account import Account, Container, Endpoint, EndpointSettings, Template, plain_name
from listener.config.config import Config
from listener.config.loader import parse_config
from listener.deploy.desired import DesiredEndpoint, desired_of, oddities_of
from listener.deploy.plan import (
    ChangeEndpoint,
    ChangeTemplate,
    MakeEndpoint,
    MakeTemplate,
    SettledEndpoint,
    plan_changes,
)
from listener.deploy.render import cost, plan_difference
from listener.deploy.secrets import looks_secret, without_secrets
from manifests.errors import ConfigError


def configured(**more: Any) -> Config:
    deploy = {"image": "me/whisper:1", "gpus": ["ADA_24", "AMPERE_24"]} | more.pop("deploy", {})
    endpoint = {"kind": "runpod", "name": "whisper", "capabilities": ["whisper"], "deploy": deploy} | more
    return parse_config({"endpoints": [endpoint]}, origin="config.yaml")


def desired(**more: Any) -> DesiredEndpoint:
    (wanted,) = desired_of(configured(**more))
    return wanted


def there(wanted: DesiredEndpoint, id: str = "ep1") -> Account:
    """An account that has what `wanted` says."""
    template = Template("tpl1", wanted.settings.name, wanted.settings.container, serverless=True)
    return Account((template,), (Endpoint(id, wanted.settings),))


def changed(wanted: DesiredEndpoint, account: Account) -> tuple[str, ...]:
    """What one plan changes of an endpoint that is there."""
    (settled,) = plan_changes([wanted], account)
    (step,) = [each for each in settled.steps if isinstance(each, ChangeEndpoint)]
    return tuple(f"{change.what}: {change.before} -> {change.after}" for change in step.changes)


def test_everything_is_made_where_nothing_is() -> None:
    wanted = desired()
    (settled,) = plan_changes([wanted], Account((), ()))
    assert settled == SettledEndpoint(wanted, None, (MakeTemplate(wanted), MakeEndpoint(wanted, None)))


def test_nothing_is_done_where_everything_is() -> None:
    wanted = desired()
    assert plan_changes([wanted], there(wanted)) == (SettledEndpoint(wanted, "ep1", ()),)


CHANGES: dict[str, tuple[Callable[[EndpointSettings], EndpointSettings], str]] = {
    "image": (
        lambda s: replace(s, container=replace(s.container, image="me/whisper:0")),
        "image: me/whisper:0 -> me/whisper:1",
    ),
    "disk": (lambda s: replace(s, container=replace(s.container, disk_gb=5)), "container_disk_gb: 5 -> 20"),
    "registry": (lambda s: replace(s, container=replace(s.container, registry="r1")), "registry_auth: r1 -> -"),
    "ports": (lambda s: replace(s, container=replace(s.container, ports=("22/tcp",))), "ports: 22/tcp -> -"),
    "env": (lambda s: replace(s, container=replace(s.container, env={"MODEL": "tiny"})), "env.MODEL: tiny -> -"),
    "pools": (lambda s: replace(s, pools=("ADA_24",)), "gpus: ADA_24 -> ADA_24, AMPERE_24"),
    "order": (
        lambda s: replace(s, pools=("AMPERE_24", "ADA_24")),
        "gpus: AMPERE_24, ADA_24 -> ADA_24, AMPERE_24",
    ),
    "excluded": (lambda s: replace(s, excluded=frozenset({"NVIDIA L4"})), "gpus left out: NVIDIA L4 -> -"),
    "min": (lambda s: replace(s, workers_min=1), "workers.min: 1 -> 0"),
    "reduced": (lambda s: replace(s, workers_max=0), "workers.max: 0 -> 3"),
    "idle": (lambda s: replace(s, idle_s=10), "workers.idle_timeout: 10 s -> 5 s"),
    "scaler": (lambda s: replace(s, queue_delay_s=None), "queue_delay: - -> 4 s"),
    "flashboot": (lambda s: replace(s, flashboot=False), "flashboot: off -> on"),
    "volume": (lambda s: replace(s, volumes=frozenset({"v"})), "volume: v -> -"),
    "timeout": (lambda s: replace(s, timeout_ms=300_000), "timeout: 300 s -> 3600 s"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_setting_that_differs_is_the_only_change(what: str) -> None:
    alter, told = CHANGES[what]
    wanted = desired()
    account = there(wanted)
    assert changed(wanted, replace(account, endpoints=(Endpoint("ep1", alter(wanted.settings)),))) == (told,)


def test_a_template_is_kept_like_the_endpoint() -> None:
    wanted = desired()
    account = there(wanted)
    old = replace(account.templates[0], container=Container("me/whisper:0", 20))
    (settled,) = plan_changes([wanted], replace(account, templates=(old,)))
    (step,) = settled.steps
    assert isinstance(step, ChangeTemplate) and step.id == "tpl1"
    assert [change.what for change in step.changes] == ["image"]


def test_no_template_is_made_for_an_endpoint_that_is_there() -> None:
    wanted = desired()
    assert plan_changes([wanted], replace(there(wanted), templates=()))[0].steps == ()


def test_a_name_with_flashboots_ending_is_the_same_name() -> None:
    wanted = desired()
    account = there(wanted)
    flash = Endpoint("ep1", replace(wanted.settings, name="gpudrop-whisper -fb"))
    assert plan_changes([wanted], replace(account, endpoints=(flash,)))[0].steps == ()
    assert [plain_name(name) for name in ("a -fb", "a-fb", "-fb", "a")] == ["a", "a", "", "a"]


def test_endpoints_of_other_names_are_foreign() -> None:
    wanted = desired()
    theirs = Endpoint("theirs", replace(wanted.settings, name="whisper"))
    (settled,) = plan_changes([wanted], Account((), (theirs,)))
    assert settled.id is None and isinstance(settled.steps[-1], MakeEndpoint)


def test_an_id_names_an_endpoint_of_any_name() -> None:
    wanted = desired(id="theirs")
    theirs = Endpoint("theirs", replace(wanted.settings, name="somebody's", workers_max=1))
    assert changed(wanted, Account((), (theirs,))) == ("workers.max: 1 -> 3",)


def test_an_id_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match="no endpoint gone"):
        plan_changes([desired(id="gone")], Account((), ()))


def test_two_endpoints_of_one_name_are_told_with_their_ids() -> None:
    wanted = desired()
    account = there(wanted)
    second = Endpoint("ep2", replace(wanted.settings, name="gpudrop-whisper -fb"))
    with pytest.raises(ConfigError, match="ep1, ep2"):
        plan_changes([wanted], replace(account, endpoints=(*account.endpoints, second)))


@pytest.mark.parametrize(("kind", "why"), [({"queue": False}, "load balancer"), ({"gpu": False}, "no GPU")])
def test_an_endpoint_of_another_kind_is_left_alone(kind: dict[str, bool], why: str) -> None:
    wanted = desired()
    with pytest.raises(ConfigError, match=why):
        plan_changes([wanted], Account((), (Endpoint("ep1", wanted.settings, **kind),)))


def test_a_pods_template_of_our_name_is_left_alone() -> None:
    wanted = desired()
    account = there(wanted)
    pods = replace(account.templates[0], serverless=False)
    with pytest.raises(ConfigError, match="for pods"):
        plan_changes([wanted], replace(account, templates=(pods,)))


@pytest.mark.parametrize("pool", ["AMPERE_80", "ADA_80_PRO", "HOPPER_141", "BLACKWELL_180"])
def test_gpus_without_an_encoder_are_refused_for_nvenc(pool: str) -> None:
    with pytest.raises(ConfigError, match=pool) as e:
        desired_of(configured(capabilities=["nvenc"], deploy={"gpus": ["ADA_24", pool]}))
    assert "ADA_24" in e.value.info.hint and pool not in e.value.info.hint
    assert desired(deploy={"gpus": [pool]}).settings.pools == (pool,)


@pytest.mark.parametrize(
    ("deploy", "why"),
    [
        ({"workers": {"min": 4, "max": 3}}, "larger than max"),
        ({"workers": {"idle_timeout": "2h"}}, "at most 3600"),
        ({"queue_delay": 0.1}, "at least 0.5"),
        ({"gpus": ["-NVIDIA L4"]}, "no pool"),
    ],
)
def test_what_runpod_could_not_do_is_refused_before_it_is_asked(deploy: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        desired_of(configured(deploy=deploy))


def test_an_unknown_endpoint_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError) as e:
        desired_of(configured(), only="whispr")
    assert "whisper" in e.value.info.hint
    with pytest.raises(ConfigError, match="deploy"):
        desired_of(Config())


def test_cards_can_be_left_out_of_a_pool() -> None:
    settings = desired(deploy={"gpus": ["ADA_24", "-NVIDIA L4"]}).settings
    assert (settings.pools, settings.excluded) == (("ADA_24",), frozenset({"NVIDIA L4"}))


@pytest.mark.parametrize(
    ("deploy", "told"),
    [
        ({"env": {"HF_TOKEN": "hf_abcdefghijkl"}}, "env.HF_TOKEN looks like a secret"),
        ({"gpus": ["ADA_24", "AMPERE_24", "AMPERE_48", "AMPERE_16"]}, "at most 3"),
        ({"workers": {"max": 0}}, "no job will run"),
        ({"workers": {"min": 1}}, "$26.78 a day"),
        ({"flashboot": False}, "FlashBoot is off"),
    ],
)
def test_odd_settings_are_told(deploy: dict[str, Any], told: str) -> None:
    config = configured(deploy=deploy)
    notes = oddities_of(config, desired_of(config))
    assert [note for note in notes if told in note] and "hf_abcdefghijkl" not in " ".join(notes)
    assert oddities_of(configured(), desired_of(configured())) == ()


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "x", True),
        ("RUNPOD_API_KEY", "abc", True),
        ("ANYTHING", "rpa_ABC", True),
        ("STORE", "https://me:word@host/", True),
        ("LINK", "https://host/x?X-Amz-Signature=abc", True),
        ("SALT", "a1B2c3D4e5F6a1B2c3D4e5F6a1B2c3D4", True),
        ("HF_TOKEN", "{{ RUNPOD_SECRET_hf }}", False),
        ("MODEL", "large-v3", False),
        ("KEYFRAMES", "24", False),
        ("MONKEY", "24", False),
        ("PASSES", "2", False),
        ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility,video", False),
        ("HF_TOKEN", "", False),
    ],
)
def test_secrets_are_known_by_name_or_by_look(name: str, value: str, secret: bool) -> None:
    assert looks_secret(name, value) is secret
    repeated = without_secrets(f"{name}={value} is not valid", {name: value})
    assert (value not in repeated.split("=", 1)[1]) if secret else (value in repeated)


def test_a_secret_that_changes_is_told_without_being_shown() -> None:
    before, after = {"A_TOKEN": "old-one", "MODE": "x"}, {"A_TOKEN": "new-one", "MODE": "y"}
    wanted = desired(deploy={"env": after})
    settings = replace(wanted.settings, container=replace(wanted.settings.container, env=before))
    told = changed(wanted, replace(there(wanted), endpoints=(Endpoint("ep1", settings),)))
    assert told == ("env.A_TOKEN: (hidden) -> (another, hidden)", "env.MODE: x -> y")
    assert "new-one" not in repr(wanted)


def test_a_plan_shows_every_setting_of_what_is_made() -> None:
    wanted = desired(deploy={"env": {"A_TOKEN": "new-one"}, "volume": "vol1"})
    (settled,) = plan_changes([wanted], Account((), ()))
    lines = [line for step in settled.steps for line in plan_difference(step)]
    assert lines[0] == "+ make the template gpudrop-whisper"
    assert "+   env.A_TOKEN: (hidden)" in lines
    assert "+ make the endpoint gpudrop-whisper" in lines
    for told in ("gpus: ADA_24, AMPERE_24", "workers.max: 3", "flashboot: on", "volume: vol1", "timeout: 3600 s"):
        assert f"+   {told}" in lines


def test_the_price_is_that_of_the_dearest_card_and_of_every_worker() -> None:
    assert cost(desired()) == "$0.00031/s a worker, at most $3.35 an hour (3 workers)"
    assert "$0.0001/s" in cost(desired(price=0.0001))
    assert "$0.00053/s" in cost(desired(gpu="ADA_48_PRO"))
    assert "unknown" in cost(desired(deploy={"gpus": ["ADA_24", "ADA_32_PRO"]}))
