"""What the chart says, without a cluster: what Helm renders of it, what its schema refuses, and that its generated
files are current."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from support.chart import CHART, CRD_NAME, EVERYTHING, templated
from support.kubernetes import Cluster, Json
from support.process import REPOSITORY
from tradingbot_api import load_file
from tradingbot_operator import settings
from tradingbot_operator.metrics import Metrics as OperatorMetrics
from tradingbot_operator.names import AGENTS, Label, bot_labels

pytestmark = pytest.mark.kubernetes

VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text())
PROJECT: Json = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def one(manifests: list[Json], kind: str, name: str | None = None) -> Json:
    [found] = [each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


# --- its files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_chart", REPOSITORY / "scripts" / "generate_chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_current(generator: ModuleType) -> None:
    assert generator.outdated() == [], "run 'make chart'"


def test_every_value_is_described(generator: ModuleType) -> None:
    rows = list(generator.described((CHART / "values.yaml").read_text()))
    assert len(rows) > 30
    assert [path for path, _, comment in rows if not comment.endswith(".")] == []


def test_its_version_is_the_project_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == PROJECT["version"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it is", "with everything"])
def test_helm_finds_nothing_to_say_about_it(control_plane: Cluster, values: Json, tmp_path: Path) -> None:
    given = tmp_path / "values.yaml"
    given.write_text(json.dumps(values))
    linted = control_plane.helm("lint", "--strict", CHART, "-f", given).out
    assert "WARNING" not in linted
    assert "ERROR" not in linted


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"watchNamespace": ["trading"]}, "'watchNamespace' not allowed"),
        ({"watchNamespaces": "trading"}, "at '/watchNamespaces': got string, want array"),
        ({"watchNamespaces": ["Trading"]}, "at '/watchNamespaces/0': 'Trading' does not match pattern"),
        ({"watchNamespaces": ["trading", "trading"]}, "at '/watchNamespaces': items at 0 and 1 are equal"),
        ({"logLevel": "verbose"}, "at '/logLevel': value must be one of 'debug', 'info', 'warning'"),
        ({"image": {"repository": "Bad Name"}}, "at '/image/repository': 'Bad Name' does not match pattern"),
        ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
        ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
        (
            {"resources": {"limits": {"memory": "lots"}}},
            "at '/resources/limits/memory': 'lots' does not match pattern",
        ),
        ({"rbac": {"create": "yes"}}, "at '/rbac/create': got string, want boolean"),
        ({"networkPolicy": {"apiServerPorts": [0]}}, "at '/networkPolicy/apiServerPorts/0': minimum"),
        ({"monitoring": {"serviceMonitor": {"interval": "30"}}}, "at '/monitoring/serviceMonitor/interval'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(control_plane: Cluster, values: Json, complaint: str) -> None:
    done = control_plane.helm("template", "x", CHART, "--set-json", json.dumps(values), check=False)
    assert done.code != 0
    assert complaint in done.err


def test_a_service_account_that_is_not_made_must_be_named(control_plane: Cluster) -> None:
    done = control_plane.helm("template", "x", CHART, "--set", "serviceAccount.create=false", check=False)
    assert "serviceAccount.name is empty: name the service account that is there" in done.err


# --- what it renders ------------------------------------------------------------------------------------------


def test_the_crd_is_the_project_s_and_stays(control_plane: Cluster) -> None:
    found = one(templated(control_plane), "CustomResourceDefinition")
    metadata = found.pop("metadata")
    given = yaml.safe_load((REPOSITORY / "crds" / "tradingbots.yaml").read_text())
    assert metadata["name"] == given.pop("metadata")["name"] == CRD_NAME
    assert metadata["annotations"]["helm.sh/resource-policy"] == "keep"
    assert found == given


def test_the_environment_is_what_the_operator_reads(control_plane: Cluster) -> None:
    values = {"watchNamespaces": ["one", "two"], "agents": {"image": {"repository": "here/agents", "tag": "7"}}}
    manifests = templated(control_plane, values | {"logLevel": "debug", "logFormat": "text"})
    operator = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    check = one(manifests, "Job")["spec"]["template"]["spec"]["containers"][0]
    for container in (operator, check):
        environment = {each["name"]: each.get("value", "") for each in container["env"]}
        found = settings.read_settings(environment, default_image="none")
        assert found.namespaces == ("one", "two")
        assert found.agents_image == "here/agents:7"
        assert (found.log_level, found.log_format) == ("debug", "text")
        assert found.listen == ("0.0.0.0", 8080)
    assert operator["ports"][0]["containerPort"] == 8080


def test_by_default_all_namespaces_and_the_images_of_its_version(control_plane: Cluster) -> None:
    container = one(templated(control_plane), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    found = settings.read_settings(environment, default_image="none")
    assert found.namespaces is None
    assert found.agents_image == f"tradingbot-agents:{PROJECT['version']}"
    assert container["image"] == f"tradingbot-operator:{PROJECT['version']}"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"repository": "r/o"}, f"r/o:{PROJECT['version']}"),
        ({"repository": "r:5000/o", "tag": "x"}, "r:5000/o:x"),
        ({"repository": "r/o", "digest": f"sha256:{'a' * 64}"}, f"r/o@sha256:{'a' * 64}"),
        ({"repository": "r/o", "tag": "x", "digest": f"sha256:{'a' * 64}"}, f"r/o:x@sha256:{'a' * 64}"),
    ],
)
def test_an_image_is_named_by_tag_or_digest(control_plane: Cluster, image: Json, expected: str) -> None:
    found = one(templated(control_plane, {"image": image}), "Deployment")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == expected


def test_one_operator_at_a_time_that_may_end_in_peace(control_plane: Cluster) -> None:
    """In its first moments too."""
    spec = one(templated(control_plane), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    pod = spec["template"]["spec"]
    assert pod["shareProcessNamespace"]
    assert pod["terminationGracePeriodSeconds"] > settings.STOP_LIMIT.total_seconds() + 10
    [container] = pod["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container["resources"]["requests"]["memory"] == "120Mi"


def test_without_rights_in_the_cluster_it_has_nothing_of_the_cluster(control_plane: Cluster) -> None:
    values = {
        "watchNamespaces": ["trading"],
        "crds": {"install": False},
        "admissionPolicy": {"enabled": False},
        "rbac": {"aggregateRoles": False},
    }
    manifests = templated(control_plane, values, namespace="trading")
    assert {each["metadata"].get("namespace") for each in manifests} == {"trading"}


def test_the_monitors_find_the_pods(control_plane: Cluster) -> None:
    manifests = templated(control_plane, EVERYTHING | {"watchNamespaces": ["one"]})
    service, monitor = one(manifests, "Service"), one(manifests, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["metadata"]["labels"]["prometheus"] == "main"
    pod = one(manifests, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["ports"][0]["name"] == service["spec"]["ports"][0]["targetPort"]
    agents = one(manifests, "PodMonitor")["spec"]
    assert agents["namespaceSelector"] == {"matchNames": ["one"]}
    for component in AGENTS:
        assert agents["selector"]["matchLabels"].items() <= bot_labels("bot", component).items()
    assert Label.NAME.value in agents["selector"]["matchLabels"]
    check = one(manifests, "Job")["spec"]["template"]["metadata"]["labels"]
    assert not service["spec"]["selector"].items() <= check.items(), "the hook's pod would be taken for the operator"


def test_every_monitor_sees_all_namespaces_when_the_operator_does(control_plane: Cluster) -> None:
    found = one(templated(control_plane, EVERYTHING), "PodMonitor")
    assert found["spec"]["namespaceSelector"] == {"any": True}


# --- alerts and dashboard ---------------------------------------------------------------------------------------


def known_metrics() -> set[str]:
    """As Prometheus has them: the operator's own, and those that docs/operations.md explains."""
    requests: Any = Requests()
    registry = OperatorMetrics(requests, queue=int, bots=int, away=int, ready=list, checks=list).registry
    found = {sample for metric in registry.collect() for sample in samples_of(metric)}
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    return found | set(re.findall(r"^### (tradingbot_\w+)$", page, re.MULTILINE))


class Requests:
    """What the metrics read of the connection to the API server."""

    requests: dict[tuple[str, int], int] = {("GET", 200): 1}  # noqa: RUF012


def samples_of(metric: Metric) -> Iterator[str]:
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
    yield from (metric.name + suffix for suffix in suffixes)


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(control_plane: Cluster) -> None:
    manifests = templated(control_plane, EVERYTHING)
    rules = [rule for group in one(manifests, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    dashboard = json.loads(one(manifests, "ConfigMap")["data"]["tradingbot.json"])
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 15
    used = {name for text in asked for name in re.findall(r"\btradingbot_\w+", text)}
    assert used <= known_metrics()
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        for page in re.findall(r"docs/[\w-]+\.md", rule["annotations"]["description"]):
            assert (REPOSITORY / page).exists()


# --- helm test ------------------------------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    pages: dict[str, tuple[int, str]] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        status, text = self.pages[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Not on the test's output."""


METRICS = "tradingbot_operator_bots 3\ntradingbot_operator_reconciles_total 2\n"


@pytest.mark.parametrize(
    ("pages", "code", "says"),
    [
        ({"/ready": (200, "ok"), "/metrics": (200, METRICS)}, 0, "the operator is ready"),
        ({"/ready": (503, "it has not seen everything yet")}, 1, "answers 503: it has not seen everything yet"),
        (
            {"/ready": (200, "ok"), "/metrics": (200, "tradingbot_operator_bots 1")},
            1,
            "has no tradingbot_operator_re",
        ),
    ],
)
def test_helm_test_asks_the_operator(
    control_plane: Cluster, pages: dict[str, tuple[int, str]], code: int, says: str
) -> None:
    [container] = one(templated(control_plane), "Pod")["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    server = HTTPServer(("127.0.0.1", 0), type("Given", (Answers,), {"pages": pages}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", *container["args"]],
            env={**os.environ, "OPERATOR_URL": f"http://127.0.0.1:{server.server_port}", "OPERATOR_TEST_LIMIT": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


def test_helm_test_says_when_there_is_nobody(control_plane: Cluster) -> None:
    [container] = one(templated(control_plane), "Pod")["spec"]["containers"]
    done = subprocess.run(
        [sys.executable, "-c", *container["args"]],
        env={**os.environ, "OPERATOR_URL": "http://127.0.0.1:9", "OPERATOR_TEST_LIMIT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "http://127.0.0.1:9 can not be reached" in done.stderr


# --- what uses it ---------------------------------------------------------------------------------------------


def test_the_k3s_manifest_names_this_chart_and_values_that_it_takes(control_plane: Cluster, tmp_path: Path) -> None:
    found = yaml.safe_load((REPOSITORY / "deploy" / "k3s-helmchart.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("helm.cattle.io/v1", "HelmChart")
    assert found["spec"]["chart"].endswith(f"/static/charts/tradingbot-operator-{PROJECT['version']}.tgz")
    values = tmp_path / "values.yaml"
    values.write_text(found["spec"]["valuesContent"])
    # What k3s' own Helm adds.
    templated(control_plane, None, "-f", str(values), "--set", "global.clusterDNS=10.43.0.10")
    packed = control_plane.helm("package", CHART, "-d", tmp_path).out
    assert Path(found["spec"]["chart"]).name in packed


def test_skaffold_builds_what_there_is_and_sets_values_that_the_chart_has(control_plane: Cluster) -> None:
    found = yaml.safe_load((REPOSITORY / "skaffold.yaml").read_text())
    images = {each["image"]: each["docker"]["dockerfile"] for each in found["build"]["artifacts"]}
    assert images.keys() == {VALUES["image"]["repository"], VALUES["agents"]["image"]["repository"]}
    assert all((REPOSITORY / file).exists() for file in images.values())
    [release] = found["deploy"]["helm"]["releases"]
    assert REPOSITORY / release["chartPath"] == CHART
    names = {f"IMAGE_{part}_{image.replace('-', '_')}" for part in ("REPO", "TAG") for image in images}
    assert {value.strip("{.}") for value in release["setValueTemplates"].values()} == names
    given = [f"{name}={value}" for name, value in release["setValues"].items()]
    given += [f"{name}=given" for name in release["setValueTemplates"]]
    rendered = templated(control_plane, None, *(part for each in given for part in ("--set", each)))
    container = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "given:given"
    for profile in found["profiles"]:
        assert {each["image"]: each["docker"]["dockerfile"] for each in profile["build"]["artifacts"]} == images


@pytest.mark.parametrize("file", sorted((REPOSITORY / "examples").glob("**/*.yaml")), ids=lambda file: file.stem)
def test_every_example_is_valid(file: Path) -> None:
    load_file(file)


def test_the_two_bots_share_one_account() -> None:
    one_bot, other = (load_file(REPOSITORY / "examples" / "two-bots" / f"{n}.yaml") for n in ("trend", "reversal"))
    assert one_bot.spec.account == other.spec.account
    assert (one_bot.spec.mode, one_bot.spec.exchange.name) == (other.spec.mode, other.spec.exchange.name)


PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), CHART / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s:]+)\)", text)):
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name} points to {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} points to {target}#{anchor}"
