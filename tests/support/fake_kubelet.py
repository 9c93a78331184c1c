"""Plays a node for the pods of one namespace: binds them, says that they run, ends them when they are deleted.

Nothing runs: a pod is what its status says. Jobs' pods succeed at once. A test can make the pods of a component wait,
fail to pull their image, or crash with last words that the API server then fetches here as it would from a kubelet;
say since when they run, and what they have written; or end with a code of a process that the test has run for them.
Claims for volumes get volumes. What was there at the same time is remembered, in the order of the API server's own
events.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient

from support.certificates import Authority
from support.kubernetes import MERGE, Cluster
from support.loop_thread import LoopThread, break_off

Json = dict[str, Any]

_CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")

COMPONENT = "app.kubernetes.io/component"
REVISION = "tradingbot.dev/revision"

HEARTBEAT = 10.0
"""Seconds; the node counts as lost after some 40 without one."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """How the pods of a component fail."""

    waiting: str
    """The reason that the container waits for: ``ImagePullBackOff``, ``CrashLoopBackOff`` …"""
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    last_words: str = ""
    """What its log ends with."""


Lines = tuple[tuple[datetime, bytes], ...]


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """How the container of a component's running pods has lived, and what it has written: lines, each with the time
    that the node has of it."""

    began: datetime
    log: Lines = ()
    restarts: int = 0
    """Then there was one before it:"""
    before_began: datetime | None = None
    before_ended: datetime | None = None
    before_log: Lines | None = ()
    """``None``: the node has it no more."""
    is_silent: bool = False
    """The node never answers who asks for its log."""


class Seen(msgspec.Struct, frozen=True):
    """A pod that came, became ready, succeeded or went."""

    what: str
    component: str
    name: str
    revision: str


class FakeKubelet:
    """For ``namespace``, from ``start`` until ``stop``."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        """``folder`` is for a certificate."""
        self._namespace = namespace
        self._node = f"node-of-{namespace}"
        self._kubeconfig = cluster.kubeconfig
        self._folder = folder
        self._thread = LoopThread("fake-kubelet")
        self._troubles: dict[str, Trouble] = {}
        self._lives: dict[str, Life] = {}
        self._held: set[str] = set()
        self._busy: set[str] = set()
        self._no_volumes = False
        self._pods: dict[str, Json] = {}
        """By uid, as the watch has them."""
        self._counted: dict[str, set[str]] = {}
        self._most: dict[str, int] = {}
        self._history: list[Seen] = []

    def start(self) -> None:
        self._thread.wait_for(self._start())

    def stop(self) -> None:
        self._thread.wait_for(self._stop())
        self._thread.close()

    # --- what a test commands and asks -----------------------------------------------------------------------

    def hold(self, component: str) -> None:
        """Its pods are bound, and no more, from now on."""
        self._thread.do(lambda: self._held.add(component))

    def release(self, component: str) -> None:
        async def done() -> None:
            self._held.discard(component)
            await self._look_again(component)

        self._thread.wait_for(done())

    def busy(self, component: str) -> None:
        """Its pods have something to end first when they are deleted, until ``done``."""
        self._thread.do(lambda: self._busy.add(component))

    def done(self, component: str) -> None:
        async def done() -> None:
            self._busy.discard(component)
            await self._look_again(component)

        self._thread.wait_for(done())

    def trouble(self, component: str, trouble: Trouble) -> None:
        """Its pods fail like this, also those that ran."""

        async def done() -> None:
            self._troubles[component] = trouble
            await self._look_again(component)

        self._thread.wait_for(done())

    def mend(self, component: str) -> None:
        async def done() -> None:
            self._troubles.pop(component, None)
            await self._look_again(component)

        self._thread.wait_for(done())

    def ends(self, name: str, exit_code: int) -> None:
        """A pod that was held has run to its end."""

        async def done() -> None:
            [pod] = [each for each in self._pods.values() if each["metadata"]["name"] == name]
            await self._write_status(pod, _ended(pod, exit_code))

        self._thread.wait_for(done())

    def lives(self, component: str, life: Life) -> None:
        """Its pods have lived like this, if they run."""

        async def done() -> None:
            self._lives[component] = life
            for pod in list(self._pods.values()):
                if _component(pod) == component:
                    await self._write_status(pod, _lived(pod, life))

        self._thread.wait_for(done())

    def hold_volumes(self) -> None:
        """Claims stay pending, and pods that need one unscheduled."""
        self._thread.do(lambda: setattr(self, "_no_volumes", True))

    def most(self, component: str) -> int:
        """How many pods of it that had not ended were ever there at once."""
        return self._thread.do(lambda: self._most.get(component, 0))

    def history(self) -> list[Seen]:
        return self._thread.do(lambda: list(self._history))

    # --- the node ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        # Its type belongs to the client's models, which nobody needs here.
        settings: Any = await config.new_client_from_config(str(self._kubeconfig), persist_config=False)
        self._client: ApiClient = settings
        await self._serve_logs()
        node = {
            "metadata": {"name": self._node, "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"unschedulable": True},
        }
        await self._ask("POST", "/api/v1/nodes", node)
        await self._beat()
        ready = {
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Fake", "message": "", "lastHeartbeatTime": _now()}
            ],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "capacity": {"cpu": "64", "memory": "64Gi", "pods": "1000"},
            "allocatable": {"cpu": "64", "memory": "64Gi", "pods": "1000"},
        }
        await self._ask("PATCH", f"/api/v1/nodes/{self._node}/status", {"status": ready})
        self._tasks = [
            asyncio.create_task(self._for_ever(lambda: self._follow("pods", self._pod_changed))),
            asyncio.create_task(self._for_ever(lambda: self._follow("persistentvolumeclaims", self._claim_changed))),
            asyncio.create_task(self._for_ever(self._beat_later)),
        ]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._ask("DELETE", f"/api/v1/nodes/{self._node}")
        # Nobody else ends what was bound to it.
        for pod in list(self._pods.values()):
            await self._end(pod)
        volumes = await self._ask("GET", "/api/v1/persistentvolumes", query="?labelSelector=tests%3D" + self._node)
        for volume in (volumes or {}).get("items", []):
            await self._ask("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
        server = self._logs.server
        assert server is not None
        for connection in server.connections:
            # The API server keeps its connections.
            if connection.transport is not None:
                connection.transport.abort()
        await self._logs.cleanup()
        await self._client.close()
        for each in ended:
            # What broke it is why the test waited in vain.
            if isinstance(each, Exception):
                raise each

    async def _beat_later(self) -> None:
        await asyncio.sleep(HEARTBEAT)
        await self._beat()

    async def _beat(self) -> None:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._node, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self._node, "leaseDurationSeconds": 40, "renewTime": _now(micro=True)},
        }
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        if await self._ask("PATCH", f"{path}/{self._node}", {"spec": lease["spec"]}) is None:
            await self._ask("POST", path, lease)

    async def _serve_logs(self) -> None:
        certificate, key = Authority(self._folder, f"authority-of-{self._node}").sign("127.0.0.1")
        secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secured.load_cert_chain(certificate, key)
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        self._logs = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._logs.setup()
        await web.TCPSite(self._logs, "127.0.0.1", 0, ssl_context=secured).start()
        self._port: int = self._logs.addresses[0][1]

    async def _log(self, request: web.Request) -> web.Response:
        name = request.match_info["pod"]
        pod = next((each for each in self._pods.values() if each["metadata"]["name"] == name), None)
        life = None if pod is None else self._lives.get(_component(pod))
        if life is not None:
            return await _part_of_log(life, request)
        trouble = None if pod is None else self._troubles.get(_component(pod))
        return web.Response(text="" if trouble is None else trouble.last_words + "\n")

    # --- watching ------------------------------------------------------------------------------------------

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()

    async def _follow(self, plural: str, changed: Callable[[str, Json], Awaitable[None]]) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/{plural}"
        found = await self._ask("GET", path)
        assert found is not None
        for item in found["items"]:
            await changed("ADDED", item)
        query = f"?watch=true&resourceVersion={found['metadata']['resourceVersion']}"
        answer = await self._send("GET", path + query)
        try:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    await changed(event["type"], event["object"])
        except aiohttp.ClientError:
            return
        finally:
            break_off(answer)

    async def _pod_changed(self, change: str, pod: Json) -> None:
        meta = pod["metadata"]
        before = self._pods.get(meta["uid"])
        self._count(change, pod)
        if change == "DELETED":
            self._pods.pop(meta["uid"], None)
            self._tell("gone", pod)
            return
        self._pods[meta["uid"]] = pod
        if before is None:
            self._tell("came", pod)
        if _is_ready(pod) and (before is None or not _is_ready(before)):
            self._tell("ready", pod)
        if _phase(pod) == "Succeeded" and (before is None or _phase(before) != "Succeeded"):
            self._tell("succeeded", pod)
        await self._look(pod)

    def _tell(self, what: str, pod: Json) -> None:
        meta = pod["metadata"]
        revision = (meta.get("annotations") or {}).get(REVISION, "")
        self._history.append(Seen(what, _component(pod), meta["name"], revision))

    def _count(self, change: str, pod: Json) -> None:
        live = self._counted.setdefault(_component(pod), set())
        if change == "DELETED" or _phase(pod) in ("Succeeded", "Failed"):
            live.discard(pod["metadata"]["uid"])
        else:
            live.add(pod["metadata"]["uid"])
        self._most[_component(pod)] = max(self._most.get(_component(pod), 0), len(live))

    async def _look_again(self, component: str) -> None:
        for pod in list(self._pods.values()):
            if _component(pod) == component:
                await self._look(pod)

    async def _look(self, pod: Json) -> None:
        """Make it what it should be."""
        meta = pod["metadata"]
        if meta.get("deletionTimestamp") is not None:
            if _component(pod) not in self._busy:
                await self._end(pod)
            return
        if self._no_volumes and any("persistentVolumeClaim" in each for each in pod["spec"].get("volumes") or []):
            # The scheduler says why it places it nowhere.
            return
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
            await self._ask("POST", f"{self._path(pod)}/binding", binding)
            return
        if _component(pod) in self._held or _phase(pod) in ("Succeeded", "Failed"):
            return
        trouble = self._troubles.get(_component(pod))
        if trouble is not None:
            wanted = _in_trouble(pod, trouble)
        elif _component(pod) in self._lives:
            wanted = _lived(pod, self._lives[_component(pod)])
        elif pod["spec"].get("restartPolicy") == "Always":
            wanted = _running(pod)
        else:
            wanted = _succeeded(pod)
        status = pod.get("status") or {}
        if status.get("phase") == wanted["phase"] and _gist(status) == _gist(wanted):
            return
        await self._write_status(pod, wanted)

    async def _write_status(self, pod: Json, status: Json) -> None:
        change = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        await self._ask("PATCH", f"{self._path(pod)}/status", change)

    async def _end(self, pod: Json) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        await self._ask("DELETE", self._path(pod), options)

    async def _claim_changed(self, change: str, claim: Json) -> None:
        meta, spec = claim["metadata"], claim["spec"]
        volume = f"volume-{meta['uid']}"
        if change == "DELETED":
            await self._ask("DELETE", f"/api/v1/persistentvolumes/{volume}")
            return
        if self._no_volumes or change != "ADDED" or spec.get("volumeName"):
            return
        manifest = {
            "metadata": {"name": volume, "labels": {"tests": self._node}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": spec.get("storageClassName") or "",
                "claimRef": {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]},
                "hostPath": {"path": f"/nowhere/{volume}"},
            },
        }
        await self._ask("POST", "/api/v1/persistentvolumes", manifest)

    # --- the API -------------------------------------------------------------------------------------------

    def _path(self, pod: Json) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{pod['metadata']['name']}"

    async def _send(self, method: str, path: str, body: Json | None = None) -> aiohttp.ClientResponse:
        content = MERGE if method == "PATCH" else "application/json"
        headers = {"Accept": "application/json", "Content-Type": content}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = self._client.configuration.host + path
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10)
        answer = await self._client.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=limit
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _ask(self, method: str, path: str, body: Json | None = None, *, query: str = "") -> Json | None:
        """``None``: it is not there (any more), or was there already, or is not as it was."""
        response = await self._send(method, path + query, body)
        content = await response.read()
        if response.status in (404, 409) or (response.status == 403 and b"being terminated" in content):
            return None
        assert response.status < 400, f"{method} {path}: {response.status} {content.decode()}"
        found: Json = json.loads(content)
        return found


def _component(pod: Json) -> str:
    found: str = (pod["metadata"].get("labels") or {}).get(COMPONENT, "")
    return found


def _phase(pod: Json) -> str:
    found: str = (pod.get("status") or {}).get("phase", "")
    return found


def _is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _gist(status: Json) -> list[Any]:
    """What makes two statuses the same for a kubelet that only plays. The scheduler, which knows of no node, may
    write what it thinks of a pod after us."""
    return [
        sorted((one["type"], one["status"]) for one in status.get("conditions") or [] if one["type"] in _CONDITIONS),
        *(
            (each.get("ready"), sorted(each.get("state") or {}), _reason(each), each.get("restartCount", 0))
            for each in status.get("containerStatuses") or []
        ),
    ]


def _reason(container: Json) -> str:
    found: str = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
    return found


def _status(pod: Json, phase: str, *, ready: bool, state: Json, restarts: int = 0, last: Json | None = None) -> Json:
    initial = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": _now(), "finishedAt": _now()}}
    given = "True" if ready else "False"
    given_of = dict(zip(_CONDITIONS, ("True", "True", given, given), strict=True))
    conditions = [{"type": kind, "status": status} for kind, status in given_of.items()]
    return {
        "phase": phase,
        "startTime": (pod.get("status") or {}).get("startTime") or _now(),
        "conditions": [{**each, "lastTransitionTime": _now()} for each in conditions],
        "initContainerStatuses": [
            _container(each, ready=True, state=initial) for each in pod["spec"].get("initContainers") or []
        ],
        "containerStatuses": [
            _container(each, ready=ready, state=state, restarts=restarts, last=last)
            for each in pod["spec"]["containers"]
        ],
    }


def _container(container: Json, *, ready: bool, state: Json, restarts: int = 0, last: Json | None = None) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }


def _running(pod: Json) -> Json:
    return _status(pod, "Running", ready=True, state={"running": {"startedAt": _now()}})


def _lived(pod: Json, life: Life) -> Json:
    last = None
    if life.before_ended is not None:
        last = {"exitCode": 1, "reason": "Error", "finishedAt": _time(life.before_ended)}
        last |= {} if life.before_began is None else {"startedAt": _time(life.before_began)}
    state = {"running": {"startedAt": _time(life.began)}}
    ended = None if last is None else {"terminated": last}
    status = _status(pod, "Running", ready=True, state=state, restarts=life.restarts, last=ended)
    return {**status, "startTime": _time(life.before_began or life.began)}


async def _part_of_log(life: Life, request: web.Request) -> web.Response:
    if life.is_silent:
        await asyncio.Event().wait()
    asked = request.query
    lines = life.before_log if asked.get("previous") == "true" else life.log
    if lines is None:
        # The words of a kubelet.
        return web.Response(status=400, text="previous terminated container not found")
    since = datetime.fromisoformat(asked["sinceTime"]) if "sinceTime" in asked else None
    stamps = asked.get("timestamps") == "true"
    text = b"".join(
        (_time(at).encode() + b" " if stamps else b"") + line for at, line in lines if since is None or at >= since
    )
    return web.Response(body=text[: int(asked["limitBytes"])] if "limitBytes" in asked else text)


def _succeeded(pod: Json) -> Json:
    return _ended(pod, 0)


def _ended(pod: Json, exit_code: int) -> Json:
    phase, reason = ("Succeeded", "Completed") if exit_code == 0 else ("Failed", "Error")
    ended = {"exitCode": exit_code, "reason": reason, "startedAt": _now(), "finishedAt": _now()}
    return _status(pod, phase, ready=False, state={"terminated": ended})


def _in_trouble(pod: Json, trouble: Trouble) -> Json:
    state = {"waiting": {"reason": trouble.waiting, "message": trouble.message}}
    if trouble.exit_code is None:
        return _status(pod, "Pending", ready=False, state=state)
    ended = {"exitCode": trouble.exit_code, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}
    return _status(pod, "Running", ready=False, state=state, restarts=trouble.restarts, last={"terminated": ended})


def _now(*, micro: bool = False) -> str:
    return _time(datetime.now(UTC), micro=micro)


def _time(at: datetime, *, micro: bool = False) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")
