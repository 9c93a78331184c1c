"""A real Kubernetes API for a test session, with kubectl and Helm. Each test has a namespace of its own on it.

Taken from the environment (``TRADINGBOT_TEST_KUBECONFIG``: a cluster that the tests may fill and empty); else started
from the programs in ``KUBEBUILDER_ASSETS``, else from the cache that ``make servers`` fills. What is started has no
node: admission, RBAC, controllers and garbage collection are real, and no pod ever runs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
import pytest
from kubernetes import config as kubernetes_config

from support.certificates import Authority

Json = dict[str, Any]
T = TypeVar("T")

LIMIT = 60.0
"""Seconds for a start, a command, or for what a controller does: the machine may be busy."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
"""Content types of a PATCH: server-side apply, and a merge."""

AUDIT_POLICY: Json = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}

READS = frozenset({"get", "list", "watch"})

NO_KUBERNETES = (
    "no Kubernetes: run 'make servers', or set KUBEBUILDER_ASSETS to a folder with kube-apiserver, etcd and kubectl, "
    "or TRADINGBOT_TEST_KUBECONFIG to the kubeconfig of a cluster that tests may use"
)
NO_KUBECTL = "no kubectl: run 'make servers', or put one on the PATH"
NO_HELM = "no Helm: run 'make servers', or put helm 4 on the PATH"


def absent(reason: str) -> NoReturn:
    """Skips the test; fails it in CI, which has to have everything."""
    if os.environ.get("CI"):
        pytest.fail(f"CI skips none: {reason}")
    pytest.skip(reason)


def until(
    check: Callable[[], T | None], what: str | Callable[[], str], limit: float = LIMIT, every: float = 0.02
) -> T:
    """The first value of ``check`` that is true, looked at ``every`` so many seconds. Fails with ``what`` after
    ``limit`` seconds."""
    waiting = threading.Event()
    deadline = time.monotonic() + limit
    while not (value := check()):
        assert time.monotonic() < deadline, f"after {limit:g} s: {what if isinstance(what, str) else what()}"
        waiting.wait(every)
    return value


class Completed(msgspec.Struct, frozen=True):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Refused(Exception):
    """The API server's answer was an error: its Status in ``status``, its HTTP code in ``code``."""

    def __init__(self, request: str, code: int, content: bytes) -> None:
        self.code = code
        try:
            self.status: Json = json.loads(content)
        except ValueError:
            self.status = {"message": content.decode(errors="replace")}
        self.message = str(self.status.get("message", ""))
        super().__init__(f"{request}: {code} {self.message}")


def address(resource: str, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
    """A path of the API. ``resource`` is ``v1/pods`` or ``apps/v1/deployments``; ``part`` a subresource."""
    *versions, plural = resource.split("/")
    parts = ["/api" if len(versions) == 1 else "/apis", *versions]
    parts += [] if namespace is None else ["namespaces", namespace]
    parts += [each for each in (plural, name, part) if each is not None]
    return "/".join(parts)


class Api:
    """The API without types: JSON in, JSON out."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = kubernetes_config.new_client_from_config(str(kubeconfig), persist_config=False)

    def close(self) -> None:
        self._client.close()

    def ask(
        self, method: str, path: str, body: object = None, content_type: str = "application/json", **query: str
    ) -> Json:
        """Raises ``Refused``."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        answer = self._client.rest_client.pool_manager.request(
            method,
            self._client.configuration.host + path + (f"?{urllib.parse.urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=LIMIT,
            retries=False,
        )
        if answer.status >= 400:
            raise Refused(f"{method} {path}", answer.status, answer.data)
        content: Json = json.loads(answer.data)
        return content

    def get(self, resource: str, namespace: str | None, name: str) -> Json:
        return self.ask("GET", address(resource, namespace, name))

    def find(self, resource: str, namespace: str | None, name: str) -> Json | None:
        """``None``: it does not exist."""
        try:
            return self.get(resource, namespace, name)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def list(
        self,
        resource: str,
        namespace: str | None = None,
        selector: str | None = None,
        *,
        fields: str | None = None,
        cached: bool = False,
    ) -> list[Json]:
        """``selector`` is of labels, ``fields`` of fields. ``cached``: as the server has it at hand, which may be a
        moment old and costs it little."""
        asked = {"labelSelector": selector, "fieldSelector": fields, "resourceVersion": "0" if cached else None}
        query = {key: value for key, value in asked.items() if value is not None}
        items: list[Json] = self.ask("GET", address(resource, namespace), **query)["items"]
        return items

    def create(self, resource: str, manifest: Json) -> Json:
        return self.ask("POST", address(resource, manifest["metadata"].get("namespace")), manifest)

    def apply(self, resource: str, manifest: Json, manager: str = "tests") -> Json:
        """Server-side, without force."""
        metadata = manifest["metadata"]
        path = address(resource, metadata.get("namespace"), metadata["name"])
        return self.ask("PATCH", path, manifest, APPLY, fieldManager=manager)

    def patch(self, resource: str, namespace: str | None, name: str, change: Json, part: str | None = None) -> Json:
        """A merge; ``part`` is a subresource, such as ``status``."""
        return self.ask("PATCH", address(resource, namespace, name, part), change, MERGE)

    def delete(self, resource: str, namespace: str | None, name: str, propagation: str = "Background") -> Json:
        return self.ask("DELETE", address(resource, namespace, name), {"propagationPolicy": propagation})


class Audited(msgspec.Struct, frozen=True):
    """A request that the API server has answered."""

    user: str
    """The impersonated one, if any."""
    verb: str
    """As RBAC has it: ``create``, ``patch``, ``deletecollection`` …"""
    resource: str
    """With its group, as ``deployments.apps``; empty for a path that is no resource."""
    subresource: str
    namespace: str
    name: str
    code: int
    agent: str


class _User(msgspec.Struct):
    username: str = ""


class _Reference(msgspec.Struct, rename="camel"):
    resource: str = ""
    api_group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class _Response(msgspec.Struct):
    code: int = 0


class _Event(msgspec.Struct, rename="camel"):
    audit_id: str = msgspec.field(name="auditID")
    stage: str
    verb: str
    user: _User
    impersonated_user: _User | None = None
    object_ref: _Reference = msgspec.field(default_factory=_Reference)
    response_status: _Response = msgspec.field(default_factory=_Response)
    user_agent: str = ""


_BLOCK = 2**16
"""Bytes of the audit log that are looked at in one go; a line is far shorter."""


class AuditLog:
    """What the API server was asked by whom.

    A request is in the file before it is handled, so that one whose answer was received is never missed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._decoder = msgspec.json.Decoder(_Event)

    def mark(self) -> int:
        """This moment, for ``since``: the end of the last whole line, for the next may just be written."""
        with self.file.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(end - _BLOCK, 0)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    return start + found + 1
                end = start
        return 0

    def requests(self, since: int = 0, user: str | None = None) -> list[Audited]:
        """Those that came after ``since``, in the order of their answers; of ``user``, such as
        ``system:serviceaccount:NAMESPACE:NAME``, or of everybody. Waits for the answers that are still due, except
        those of watches."""
        asked = {
            event.audit_id
            for event in self._read(since)
            if event.stage == "RequestReceived" and event.verb != "watch"
        }

        def answers() -> list[_Event] | None:
            found = [event for event in self._read(since) if event.stage != "RequestReceived"]
            found = [event for event in found if event.audit_id in asked]
            return found if len(found) == len(asked) else None

        answered = until(answers, "requests without an answer in the audit log") if asked else []
        # Not before: who is impersonated is only known then.
        return [_audited(event) for event in answered if user in (None, _name(event))]

    def writes(self, since: int = 0, user: str | None = None) -> list[Audited]:
        """All but ``READS``; the refused ones too."""
        return [request for request in self.requests(since, user) if request.verb not in READS]

    def _read(self, since: int) -> Iterator[_Event]:
        with self.file.open("rb") as file:
            file.seek(since)
            for line in file:
                if not line.endswith(b"\n"):
                    # It is just being written; what is read next would be its other half.
                    return
                yield self._decoder.decode(line)


def _name(event: _Event) -> str:
    return (event.impersonated_user or event.user).username


def _audited(event: _Event) -> Audited:
    reference = event.object_ref
    return Audited(
        _name(event),
        event.verb,
        ".".join(part for part in (reference.resource, reference.api_group) if part),
        reference.subresource,
        reference.namespace,
        reference.name,
        event.response_status.code,
        event.user_agent,
    )


class Cluster:
    """A cluster with its administrator's ``kubeconfig``, and the commands to use it."""

    has_controllers = True
    """Whether a controller manager runs: garbage collection, ReplicaSets, Jobs."""

    def __init__(self, folder: Path, kubeconfig: Path, kubectl: Path | None) -> None:
        """``folder`` is for files of ours, such as the commands' caches."""
        self.folder = folder
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        """As the administrator."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    @property
    def audit(self) -> AuditLog:
        absent("the audit log of the cluster of TRADINGBOT_TEST_KUBECONFIG is out of reach")

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | Json | list[Json] | None = None,
        kubeconfig: Path | None = None,
        check: bool = True,
    ) -> Completed:
        """``input`` is for ``-f -``: text, or manifests. ``kubeconfig``: of another identity. ``check=False``: a
        failure is what the test expects."""
        return self._run(self._kubectl_program(), arguments, input, kubeconfig, check)

    def helm(self, *arguments: str | Path, kubeconfig: Path | None = None, check: bool = True) -> Completed:
        return self._run(self._helm_program(), arguments, None, kubeconfig, check)

    def shell(self, script: str, folder: Path, *, limit: float, check: bool = True) -> Completed:
        """Lines that a person would type in ``folder``; the first that fails ends it. What it says and what it prints
        is one text, as on a terminal."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        for name, program in (("kubectl", self._kubectl_program()), ("helm", self._helm_program())):
            if not (programs / name).exists():
                (programs / name).symlink_to(program)
        words = ("-euo", "pipefail", "-c", f"exec 2>&1\n{script}")
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return self._run(Path("/bin/bash"), words, None, None, check, folder=folder, path=path, limit=limit)

    def _kubectl_program(self) -> Path:
        return self._kubectl or _on_the_path("kubectl") or absent(NO_KUBECTL)

    @staticmethod
    def _helm_program() -> Path:
        built = servers_cache() / "helm" / "bin" / "helm"
        return built if built.exists() else _on_the_path("helm") or absent(NO_HELM)

    def kubeconfig_of(self, namespace: str, service_account: str) -> Path:
        """For a service account, by a token of one hour."""
        token = self.kubectl("create", "token", service_account, "-n", namespace, "--duration=1h").out.strip()
        admin = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").json
        name = f"{namespace}-{service_account}"
        context = {"cluster": admin["clusters"][0]["name"], "user": name, "namespace": namespace}
        file = self.folder / f"{name}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(
            json.dumps(
                {
                    **{key: admin[key] for key in ("apiVersion", "kind", "clusters")},
                    "users": [{"name": name, "user": {"token": token}}],
                    "contexts": [{"name": name, "context": context}],
                    "current-context": name,
                }
            )
        )
        return file

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None

    def _run(
        self,
        program: Path,
        arguments: tuple[str | Path, ...],
        input: str | Json | list[Json] | None,
        kubeconfig: Path | None,
        check: bool,
        *,
        folder: Path | None = None,
        path: str | None = None,
        limit: float = 2 * LIMIT,
    ) -> Completed:
        if isinstance(input, list):
            input = {"apiVersion": "v1", "kind": "List", "items": input}
        done = subprocess.run(
            [program, *arguments],
            input=input if input is None or isinstance(input, str) else json.dumps(input),
            env={
                **os.environ,
                **({} if path is None else {"PATH": path}),
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "KUBECACHEDIR": str(self.folder / "kubectl"),
                "HELM_CACHE_HOME": str(self.folder / "helm" / "cache"),
                "HELM_CONFIG_HOME": str(self.folder / "helm" / "config"),
                "HELM_DATA_HOME": str(self.folder / "helm" / "data"),
            },
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=folder,
            check=False,
        )
        command = " ".join([program.name, *map(str, arguments)])
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return Completed(done.returncode, done.stdout, done.stderr)


class ControlPlane(Cluster):
    """One of our own, on free loopback ports, not durable. ``stop`` ends it for good."""

    def __init__(self, folder: Path, programs: Path) -> None:
        """``folder`` is empty; ``programs`` has kube-apiserver, etcd and kubectl, and maybe
        kube-controller-manager and kube-scheduler."""
        super().__init__(folder, folder / "kubeconfig", programs / "kubectl")
        self.has_controllers = (programs / "kube-controller-manager").exists()
        self._programs = programs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        authority = Authority(folder, "authority")
        self._authority = authority.file
        certificate, key = authority.sign("127.0.0.1")
        self._serving = (
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            "--bind-address=127.0.0.1",
        )
        self._accounts, self._accounts_key = authority.sign("service-accounts")
        self._policy = folder / "audit-policy.json"
        self._policy.write_text(json.dumps(AUDIT_POLICY))
        self._audit = AuditLog(folder / "audit.jsonl")

    @property
    def audit(self) -> AuditLog:
        return self._audit

    def start(self) -> None:
        """On return everything answers."""
        etcd, peers, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self._write_access("an-administrator-of-the-tests")
        self._run_program(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._run_program(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--secure-port={port}",
            *self._serving,
            f"--cert-dir={self.folder}/certificates",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            # Off by default, on in some distributions: it asks for more rights of who sets blockOwnerDeletion.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._accounts}",
            f"--service-account-signing-key-file={self._accounts_key}",
            f"--audit-policy-file={self._policy}",
            f"--audit-log-path={self._audit.file}",
            # One file, however long: a rotated one would be forgotten.
            "--audit-log-maxsize=0",
        )
        self._wait_for("kube-apiserver", f"{self.url}/readyz")
        if self.has_controllers:
            self._start_controller(
                "kube-controller-manager",
                f"--service-account-private-key-file={self._accounts_key}",
                f"--root-ca-file={self._authority}",
                "--use-service-account-credentials=true",
                # Thousands of objects are made and thrown away; the usual limit is 20 requests a second.
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
            )
        if (self._programs / "kube-scheduler").exists():
            self._start_controller("kube-scheduler")

    def stop(self) -> None:
        """Nothing here is worth a graceful end."""
        self.close()
        for process in reversed(self._processes.values()):
            process.kill()
        for process in self._processes.values():
            process.wait(LIMIT)
        self._processes.clear()

    def _write_access(self, token: str) -> None:
        (self.folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        cluster = {"server": self.url, "certificate-authority": str(self._authority)}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "tests", "cluster": cluster}],
                    "users": [{"name": "admin", "user": {"token": token}}],
                    "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
                    "current-context": "tests",
                }
            )
        )

    def _start_controller(self, name: str, *arguments: str) -> None:
        port = free_port()
        self._run_program(
            name,
            f"--kubeconfig={self.kubeconfig}",
            f"--secure-port={port}",
            *self._serving,
            "--leader-elect=false",
            *arguments,
        )
        self._wait_for(name, f"https://127.0.0.1:{port}/healthz")

    def _run_program(self, name: str, *arguments: str) -> None:
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [self._programs / name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _wait_for(self, name: str, url: str) -> None:
        trusted = ssl.create_default_context(cafile=str(self._authority))
        waiting = threading.Event()
        deadline = time.monotonic() + LIMIT
        while not _answers(url, trusted):
            for each, process in self._processes.items():
                assert process.poll() is None, f"{each} ended at its start: {self._end_of_log(each)}"
            assert time.monotonic() < deadline, f"{name} does not answer: {self._end_of_log(name)}"
            waiting.wait(0.05)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _end_of_log(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-2000:]


def _answers(url: str, trusted: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2, context=trusted) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def servers_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """What ``make servers`` fills."""
    home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environment.get("TRADINGBOT_SERVERS") or home / "tradingbot-servers")


def find_programs(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder with the programs of a control plane, or ``None``."""
    given = environment.get("KUBEBUILDER_ASSETS")
    folder = Path(given).absolute() if given else servers_cache(environment) / "kubernetes" / "bin"
    missing = [name for name in ("kube-apiserver", "etcd", "kubectl") if not (folder / name).exists()]
    if given:
        assert not missing, (
            f"KUBEBUILDER_ASSETS is {given}, which has no {missing[0]}: name a folder that has it, or unset it"
        )
    return None if missing else folder


def _on_the_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


@contextmanager
def running_control_plane(programs: Path | None = None) -> Iterator[ControlPlane]:
    """A started one of its own; skips the test when there are no programs."""
    programs = programs or find_programs() or absent(NO_KUBERNETES)
    with tempfile.TemporaryDirectory(prefix="tb-kubernetes-") as folder:
        control_plane = ControlPlane(Path(folder), programs)
        try:
            control_plane.start()
            yield control_plane
        finally:
            control_plane.stop()


@contextmanager
def a_cluster(environment: Mapping[str, str] = os.environ) -> Iterator[Cluster]:
    """That of the environment, or a started one."""
    given = environment.get("TRADINGBOT_TEST_KUBECONFIG")
    if not given:
        with running_control_plane() as control_plane:
            yield control_plane
        return
    kubeconfig = Path(given).absolute()
    assert kubeconfig.exists(), f"TRADINGBOT_TEST_KUBECONFIG is {given}, which does not exist: correct or unset it"
    built = servers_cache(environment) / "kubernetes" / "bin" / "kubectl"
    with tempfile.TemporaryDirectory(prefix="tb-kubernetes-") as folder:
        cluster = Cluster(Path(folder), kubeconfig, built if built.exists() else None)
        try:
            yield cluster
        finally:
            cluster.close()


_CLUSTER = pytest.StashKey[Cluster]()


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """For the whole session, whichever folders import this; each test has a namespace of its own."""
    shared = request.config.stash.get(_CLUSTER, None)
    if shared is not None:
        yield shared
        return
    with a_cluster() as cluster:
        request.config.stash[_CLUSTER] = cluster
        yield cluster
        del request.config.stash[_CLUSTER]


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh one that enforces the restricted Pod Security Standard. At the end its deletion is asked for."""
    name = f"tests-{uuid.uuid4().hex[:12]}"
    api = control_plane.api
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    # A pod is refused until its service account is there; the controller manager, if any, takes its time.
    account = {"metadata": {"name": "default", "namespace": name}}
    api.apply("v1/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", **account})
    yield name
    api.delete("v1/namespaces", None, name)


@pytest.fixture
def controllers(control_plane: Cluster) -> None:
    """For tests of what the controller manager does: garbage collection, ReplicaSets, Jobs."""
    if not control_plane.has_controllers:
        absent("no kube-controller-manager in KUBEBUILDER_ASSETS: run 'make servers' and unset it")


@pytest.fixture
def kubectl(control_plane: Cluster) -> Callable[..., Completed]:
    """As the administrator, without a namespace: see ``Cluster.kubectl``."""
    return control_plane.kubectl


@pytest.fixture
def helm(control_plane: Cluster) -> Callable[..., Completed]:
    """See ``Cluster.helm``."""
    return control_plane.helm
