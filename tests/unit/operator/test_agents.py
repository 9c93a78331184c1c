"""The agents' workloads: what each is given, and what it must never be given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.specs import LIVE, PAPER, changed
from tradingbot_agents.cli.main import _parser
from tradingbot_agents.runtime import connections
from tradingbot_api import TradingBot, load_object, parse_bytes
from tradingbot_operator.builders import config
from tradingbot_operator.builders.agents import (
    NEEDS,
    OPTIONAL,
    SECRETS_FOLDER,
    Variable,
    overrides_of,
    paper_volume,
    paper_volume_stays,
    service,
    workload,
)
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENTS, Annotation, Component, bot_labels, bot_selector

IMAGE = "example.invalid/agents:1"
REVISION = "0123456789ab"
SOURCE = Path(__file__).parents[3]
EXTERNAL: dict[str, Any] = {
    "messaging": {"external": {"urlSecretRef": {"name": "rabbit", "key": "address"}}},
    "timeSeries": {
        "external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx", "key": "token"}}
    },
    "database": {"external": {"urlSecretRef": {"name": "ledger"}}},
}


def live(**changes: Any) -> TradingBot:
    return load_object(changed(LIVE, {path.replace("__", "."): value for path, value in changes.items()}))


def paper(**changes: Any) -> TradingBot:
    return load_object(changed(PAPER, {path.replace("__", "."): value for path, value in changes.items()}))


def built(component: Component, bot: TradingBot) -> Manifest:
    return workload(component, bot, "trading", IMAGE, REVISION)


def template(component: Component, bot: TradingBot) -> Manifest:
    found: Manifest = built(component, bot)["spec"]["template"]
    return found


def container(component: Component, bot: TradingBot) -> Manifest:
    [found] = template(component, bot)["spec"]["containers"]
    return dict(found)


def environment(component: Component, bot: TradingBot) -> dict[str, Manifest]:
    variables = container(component, bot)["env"]
    assert len({each["name"] for each in variables}) == len(variables)
    return {each["name"]: each for each in variables}


def secret_files(component: Component, bot: TradingBot) -> dict[str, tuple[str, str]]:
    """Path → Secret and key."""
    volumes = {each["name"]: each for each in template(component, bot)["spec"]["volumes"]}
    return {
        f"{SECRETS_FOLDER}/{item['path']}": (source["secret"]["name"], item["key"])
        for source in volumes["secrets"]["projected"]["sources"]
        for item in source["secret"]["items"]
    }


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


# ------------------------------------------------------------------------------------ what they are given


def test_the_needs_of_the_agents_are_those_that_they_tell() -> None:
    for component in AGENTS:
        optional = connections.OPTIONAL.get(component.value, frozenset())
        assert {each.value for each in NEEDS[component] - OPTIONAL} == set(connections.NEEDS[component.value])
        assert {each.value for each in NEEDS[component] & OPTIONAL} == set(optional)


def test_every_variable_of_the_agents_is_known() -> None:
    assert {each.value for each in Variable} == {each.value for each in connections.Variable}


@pytest.mark.parametrize("component", AGENTS)
def test_an_agent_starts_with_what_its_pod_has(component: Component, tmp_path: Path) -> None:
    bot = live(**EXTERNAL)
    values = {
        ("rabbit", "address"): "amqp://one:two@rabbit/",
        ("influx", "url"): "http://influx",
        ("influx", "token"): "a token",
        ("ledger", "url"): "postgresql://one:two@ledger/books",
        ("binance-keys", "apiKey"): "a key",
        ("binance-keys", "secret"): "a secret",
        ("binance-keys", "password"): "a password",
    }
    files = secret_files(component, bot)
    for path, place in files.items():
        (tmp_path / Path(path).name).write_text(values[place])
    found = {
        name: str(tmp_path / Path(each["value"]).name)
        for name, each in environment(component, bot).items()
        if name.endswith("_FILE")
    }
    read = connections.read_connections(component.value, found)
    assert set(found) == {f"{variable.value}_FILE" for variable in read.values}
    assert set(files) == {f"{SECRETS_FOLDER}/{Path(path).name}" for path in found.values()}


@pytest.mark.parametrize("component", AGENTS)
def test_an_agent_is_started_with_words_that_its_command_knows(component: Component) -> None:
    options = _parser().parse_args(container(component, live())["args"])
    assert options.name == component.value
    assert str(options.spec) == config.SPEC_FILE
    assert str(options.state_file) == config.STATE_FILE
    assert options.listen == ("0.0.0.0", 8080)


def test_only_execution_has_the_key_of_the_exchange() -> None:
    bot = live(realityCheck__credentialsSecretRef={"name": "binance-read-only"})
    for component in AGENTS:
        names = set(texts(built(component, bot)))
        assert ("binance-keys" in names) is (component is Component.EXECUTION)
        assert "binance-read-only" not in names


def test_a_paper_bot_has_no_key_even_when_its_spec_names_one() -> None:
    assert "TRADINGBOT_EXCHANGE_API_KEY_FILE" not in environment(Component.EXECUTION, paper())
    assert set(secret_files(Component.EXECUTION, paper())) == {
        f"{SECRETS_FOLDER}/messaging-url",
        f"{SECRETS_FOLDER}/database-url",
    }


def test_a_missing_secret_keeps_a_pod_from_starting_and_a_missing_password_does_not() -> None:
    volumes = {each["name"]: each for each in template(Component.EXECUTION, live())["spec"]["volumes"]}
    sources = [source["secret"] for source in volumes["secrets"]["projected"]["sources"]]
    assert [source["optional"] for source in sources] == [False, False, False, True]
    assert sources[-1] == {
        "name": "binance-keys",
        "items": [{"key": "password", "path": "exchange-password"}],
        "optional": True,
    }


def test_no_secret_is_a_variable() -> None:
    for component in AGENTS:
        assert not any(
            "secretKeyRef" in each.get("valueFrom", {}) for each in environment(component, live()).values()
        )


def test_folders_are_mounted_whole_so_that_what_changes_arrives() -> None:
    for component in AGENTS:
        mounts = {each["mountPath"]: each for each in container(component, live())["volumeMounts"]}
        assert not any("subPath" in each for each in mounts.values())
        for folder in (config.SPEC_FOLDER, config.STATE_FOLDER, SECRETS_FOLDER):
            assert mounts[folder]["readOnly"] is True


def test_a_pod_has_the_spec_of_its_revision_and_the_state_of_now() -> None:
    volumes = {each["name"]: each for each in template(Component.STRATEGY, live())["spec"]["volumes"]}
    assert volumes["spec"]["configMap"]["name"] == f"live-spec-{REVISION}"
    assert volumes["state"]["configMap"]["name"] == "live-state"


@pytest.mark.parametrize("component", AGENTS)
def test_only_who_writes_to_the_trading_bot_has_a_token(component: Component) -> None:
    tells = component in (Component.RISK, Component.EXECUTION)
    spec = template(component, live())["spec"]
    assert spec["serviceAccountName"] == f"live-{component}"
    assert spec["automountServiceAccountToken"] is tells
    variables = environment(component, live())
    assert (variables.get("TRADINGBOT_KUBERNETES") == {"name": "TRADINGBOT_KUBERNETES", "value": "1"}) is tells
    if tells:
        assert variables["TRADINGBOT_KUBERNETES"]["value"] == "1"
        assert variables["TRADINGBOT_NAMESPACE"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"


@pytest.mark.parametrize("component", AGENTS)
def test_each_is_told_the_revision_of_its_pod(component: Component) -> None:
    found = environment(component, live())["TRADINGBOT_REVISION"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert found == "metadata.annotations['tradingbot.dev/revision']"
    assert template(component, live())["metadata"]["annotations"]["tradingbot.dev/revision"] == REVISION


# ------------------------------------------------------------------------------------------ never two pods


@pytest.mark.parametrize("component", [each for each in AGENTS if each is not Component.RISK])
def test_a_deployment_ends_its_old_pod_before_it_begins_a_new_one(component: Component) -> None:
    manifest = built(component, live())
    assert manifest["kind"] == "Deployment"
    assert manifest["spec"]["replicas"] == 1
    assert manifest["spec"]["strategy"] == {"type": "Recreate"}


def test_risk_is_a_stateful_set_of_one_with_the_service_that_it_names() -> None:
    manifest = built(Component.RISK, live())
    assert manifest["kind"] == "StatefulSet"
    assert manifest["spec"]["replicas"] == 1
    headless = service(live(), "trading")
    assert headless["metadata"]["name"] == manifest["spec"]["serviceName"]
    assert headless["spec"]["clusterIP"] == "None"
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert headless["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("component", AGENTS)
def test_a_workload_selects_its_own_pods_alone(component: Component) -> None:
    spec = built(component, live())["spec"]
    assert spec["selector"]["matchLabels"] == bot_selector("live", component)
    assert spec["template"]["metadata"]["labels"] == bot_labels("live", component)
    assert spec["template"]["metadata"]["annotations"] == {Annotation.REVISION.value: REVISION}


def test_manifests_of_equal_bots_are_equal() -> None:
    for component in AGENTS:
        assert json.dumps(built(component, live())) == json.dumps(built(component, live()))


# ----------------------------------------------------------------------------------------- limits of time


def test_an_agent_may_finish_what_it_does_when_it_is_stopped() -> None:
    for text, seconds in (("20s", 20), ("1500ms", 2), ("2m", 120)):
        spec = template(Component.EXECUTION, live(runtime__stopLimit=text))["spec"]
        assert spec["terminationGracePeriodSeconds"] > seconds


def test_readiness_is_asked_as_often_as_an_agent_looks() -> None:
    for text, seconds in (("5s", 5), ("250ms", 1), ("30s", 30)):
        probe = container(Component.RISK, live(runtime__probeInterval=text))["readinessProbe"]
        assert (probe["httpGet"]["path"], probe["periodSeconds"]) == ("/ready", seconds)


def test_a_frozen_agent_is_restarted_after_a_minute_or_when_it_counts_as_stuck() -> None:
    for text, seconds in (("5m", 60), ("20s", 20), ("1s", 10)):
        probe = container(Component.RISK, live(runtime__stuckAfter=text))["livenessProbe"]
        assert probe["httpGet"]["path"] == "/live"
        assert probe["periodSeconds"] * probe["failureThreshold"] == seconds


def test_nothing_restarts_an_agent_for_what_it_waits_for() -> None:
    for component in AGENTS:
        found = container(component, live())
        assert {found[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe")} == {"/live"}


# ------------------------------------------------------------------------------------ resources and disks


def measured() -> dict[str, int]:
    """Agent → resident bytes, as the page on performance has them."""
    page = (SOURCE / "docs" / "performance.md").read_text()
    rows = re.findall(r"^\| ([a-z ]+) \| ([0-9]+) \| [0-9]+ \|$", page, re.MULTILINE)
    return {name.replace(" ", "-"): int(number) * 10**6 for name, number in rows}


@pytest.mark.parametrize("component", AGENTS)
def test_an_agent_is_promised_what_was_measured_and_allowed_much_more(component: Component) -> None:
    found = container(component, live())["resources"]
    promised, allowed = (parse_bytes(found[kind]["memory"]) for kind in ("requests", "limits"))
    assert measured()[component.value] < promised < 1.5 * measured()[component.value]
    assert allowed >= 2 * promised
    assert set(found["requests"]) == set(found["limits"]) == {"cpu", "memory"}


def test_the_spool_has_room_for_as_many_candles_as_the_spec_allows() -> None:
    def room(**changes: Any) -> int:
        volumes = {
            each["name"]: each for each in template(Component.DATA_COLLECTION, live(**changes))["spec"]["volumes"]
        }
        return parse_bytes(volumes["data"]["emptyDir"]["sizeLimit"])

    # A candle is some 150 bytes on disk, and a rewrite holds the file twice.
    assert room() > 2 * 100_000 * 150
    assert room(timeSeries__spoolLength=1_000_000) > 2 * 1_000_000 * 150


def test_the_books_of_paper_are_on_a_volume_and_those_of_real_money_are_not_ours() -> None:
    claim = paper_volume(paper(), "trading")
    assert claim is not None
    volumes = {each["name"]: each for each in template(Component.EXECUTION, paper())["spec"]["volumes"]}
    assert volumes["data"] == {"name": "data", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert paper_volume(live(), "trading") is None
    assert "data" not in {each["name"] for each in template(Component.EXECUTION, live())["spec"]["volumes"]}


def test_the_books_of_paper_go_with_the_ledger() -> None:
    assert paper_volume_stays(paper(database__external={"urlSecretRef": {"name": "ledger"}}))
    for policy in ("Retain", "Delete"):
        bot = paper(database__managed__storage={"whenDeleted": policy, "className": "fast"})
        assert paper_volume_stays(bot) is (policy == "Retain")
        claim = paper_volume(bot, "trading")
        assert claim is not None
        assert claim["spec"]["storageClassName"] == "fast"
    assert "storageClassName" not in (paper_volume(paper(), "trading") or {})["spec"]


# ------------------------------------------------------------------------------------------- overrides


def overridden() -> TradingBot:
    return live(
        agents={
            "execution": {
                "resources": {"limits": {"memory": "512Mi"}},
                "nodeSelector": {"kubernetes.io/arch": "arm64"},
                "tolerations": [{"key": "only", "operator": "Exists", "tolerationSeconds": 30}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
                "env": [
                    {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                    {"name": "TOKEN", "valueFromSecret": {"name": "mine", "key": "token"}},
                    {"name": "TRADINGBOT_KUBERNETES", "value": "0"},
                ],
                "annotations": {"note": "mine", Annotation.REVISION.value: "forged"},
            }
        }
    )


def test_a_person_may_change_one_agents_pod() -> None:
    found = template(Component.EXECUTION, overridden())
    spec = found["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert spec["tolerations"] == [{"key": "only", "operator": "Exists", "tolerationSeconds": 30}]
    assert spec["affinity"] == {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}
    assert container(Component.EXECUTION, overridden())["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    variables = environment(Component.EXECUTION, overridden())
    assert variables["HTTPS_PROXY"] == {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    assert variables["TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "token"}
    assert found["metadata"]["annotations"]["note"] == "mine"


def test_what_the_operator_itself_says_is_not_overridden() -> None:
    assert (
        template(Component.EXECUTION, overridden())["metadata"]["annotations"][Annotation.REVISION.value] == REVISION
    )
    assert environment(Component.EXECUTION, overridden())["TRADINGBOT_KUBERNETES"]["value"] == "1"


def test_the_other_agents_stay_as_they_are() -> None:
    for component in AGENTS:
        if component is not Component.EXECUTION:
            assert template(component, overridden()) == template(component, live())


def test_every_agent_and_the_check_have_overrides_of_their_own() -> None:
    everyone = [each for each in NEEDS if each not in (Component.MIGRATION, Component.PRUNE)]
    bot = live(agents={_field(each): {"annotations": {"of": each.value}} for each in everyone})
    for each in everyone:
        found = overrides_of(each, bot)
        assert found is not None
        assert found.annotations == {"of": each.value}


def _field(component: Component) -> str:
    first, *others = component.value.split("-")
    return first + "".join(each.capitalize() for each in others)
