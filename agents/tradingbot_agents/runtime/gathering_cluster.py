"""What a cluster knows of a bot: its pods, what is wanted of them, and what their logs say.

Nothing here raises: what can not be looked at is ``Missing``, with the reason. Of a log no more than a part is held,
and there is an end to it in bytes and in time.

Of an agent only those pods are heard that run its running revision: that of its newest pod. A node keeps of a log
what was written since its file was rotated last, and of a container that has restarted the log of the one before. So
it is asked from when on there is anything; where that is too late, the log is told as not complete. What was in the
log of a pod that is gone nobody knows: what the agent tells then counts from the pod's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from tradingbot_agents.domain.values import BotState
from tradingbot_agents.reality.evidence import AgentEvidence, AgentLog, AgentsEvidence, Known, Logs, Missing
from tradingbot_agents.reality.logs import SLACK, Scan
from tradingbot_agents.runtime import cluster_names
from tradingbot_agents.runtime.api_server import ApiServer, ApiUnavailable, ClusterAccess

MOST_BYTES = 2**30
"""Of one container's log. A node keeps some MB of it, unless somebody has told it otherwise."""

_AT_ONCE = 2
"""Agents whose logs are read in parallel."""

_FIRST_LINES = 2**14
"""Bytes; enough for the first line's time."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


# --- what is read of the API's objects ---------------------------------------------------------------------------


class _Part(msgspec.Struct, rename="camel", frozen=True):
    """Of an object."""


class _Running(_Part, frozen=True):
    started_at: datetime | None = None


class _Waiting(_Part, frozen=True):
    reason: str = ""
    message: str = ""


class _Terminated(_Part, frozen=True):
    exit_code: int = 0
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class _State(_Part, frozen=True):
    running: _Running | None = None
    waiting: _Waiting | None = None
    terminated: _Terminated | None = None


class _Container(_Part, frozen=True):
    name: str
    restart_count: int = 0
    state: _State = _State()
    last_state: _State = _State()


class _Condition(_Part, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _PodStatus(_Part, frozen=True):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: datetime | None = None
    conditions: tuple[_Condition, ...] = ()
    container_statuses: tuple[_Container, ...] = ()


class _Metadata(_Part, frozen=True):
    name: str
    creation_timestamp: datetime = _EARLIEST
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Pod(_Part, frozen=True):
    metadata: _Metadata
    status: _PodStatus = _PodStatus()

    @property
    def agent(self) -> str:
        return self.metadata.labels.get(cluster_names.COMPONENT, "")

    @property
    def revision(self) -> str | None:
        return self.metadata.annotations.get(cluster_names.REVISION)

    @property
    def container(self) -> _Container | None:
        return next((each for each in self.status.container_statuses if each.name == self.agent), None)

    @property
    def has_ended(self) -> bool:
        """For good: it was evicted, or its node was shut down. What it wrote is gone."""
        return self.status.phase in ("Failed", "Succeeded")


class _Pods(_Part, frozen=True):
    items: tuple[_Pod, ...] = ()


class _BotSpec(_Part, frozen=True):
    state: BotState | None = None


class _BotStatus(_Part, frozen=True):
    revision: str | None = None
    wanted_state: BotState | None = None


class _Bot(_Part, frozen=True):
    spec: _BotSpec = _BotSpec()
    status: _BotStatus = _BotStatus()


# --- gathering ---------------------------------------------------------------------------------------------------


class ClusterGatherer:
    """Of one bot, in the namespace of this process."""

    def __init__(self, access: ClusterAccess, bot: str, agents: Sequence[str]) -> None:
        self._server = ApiServer(access)
        self._namespace = access.namespace
        self._bot = bot
        self._names = tuple(agents)

    async def agents(self) -> Known[AgentsEvidence]:
        """Its pods, and what is wanted of them."""
        try:
            bot = msgspec.json.decode(
                await self._server.get(cluster_names.bot_path(self._namespace, self._bot)), type=_Bot
            )
            pods = await self._pods()
        except (ApiUnavailable, msgspec.MsgspecError) as error:
            return _missing(error)
        return AgentsEvidence(
            read_at=datetime.now(UTC),
            wanted_revision=bot.status.revision,
            pods=tuple(_evidence(pod) for pod in pods),
            state=bot.spec.state or bot.status.wanted_state,
        )

    async def logs(self, *, since: datetime, within: timedelta, most: int = MOST_BYTES) -> Known[Logs]:
        """What each agent's log says from ``since`` on. ``within`` is for all of them together, ``most`` the bytes
        of each container's."""
        deadline = asyncio.get_running_loop().time() + within.total_seconds()
        try:
            async with asyncio.timeout_at(deadline):
                pods = await self._pods()
        except (ApiUnavailable, msgspec.MsgspecError) as error:
            return _missing(error)
        except TimeoutError:
            return Missing(f"the pods were not told within {within.total_seconds():g} s")
        free = asyncio.Semaphore(_AT_ONCE)

        async def of(agent: str) -> AgentLog | Missing:
            mine = _running([pod for pod in pods if pod.agent == agent])
            if not mine:
                return Missing("it has no pod")
            reading = _Reading(self._server, self._namespace, mine, since, most)
            late = f"it was not read to its end within {within.total_seconds():g} s"
            try:
                async with asyncio.timeout_at(deadline), free:
                    await reading.read()
            except TimeoutError:
                return reading.log(lacks=late) if reading.has_begun else Missing(late)
            except ApiUnavailable as error:
                return _missing(error)
            return reading.log()

        found = await asyncio.gather(*map(of, self._names))
        return Logs(agents=dict(zip(self._names, found, strict=True)))

    async def _pods(self) -> list[_Pod]:
        """Of its agents, oldest first."""
        wanted = f"{cluster_names.BOT}={self._bot},{cluster_names.COMPONENT} in ({','.join(self._names)})"
        found = msgspec.json.decode(
            await self._server.get(cluster_names.pods_path(self._namespace), {"labelSelector": wanted}), type=_Pods
        )
        return sorted(found.items, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name))


def _missing(error: Exception) -> Missing:
    if isinstance(error, ApiUnavailable):
        return Missing(str(error))
    return Missing(f"the API server's answer is not understood: {error}")


def _running(pods: Sequence[_Pod]) -> list[_Pod]:
    """Those of one agent that run the revision of its newest."""
    live = [pod for pod in pods if not pod.has_ended]
    return [pod for pod in live if pod.revision == live[-1].revision]


class _Stream(msgspec.Struct, frozen=True):
    """The log of one start of a container."""

    pod: str
    previous: bool
    began: datetime | None
    """The container, then."""
    before: datetime | None
    """Between then and its begin nothing was written that would belong to the log; ``None``: there was something, and
    it is gone."""

    @property
    def query(self) -> dict[str, str]:
        return {"previous": "true"} if self.previous else {}


def _streams(pod: _Pod, since: datetime) -> tuple[list[_Stream], datetime | None]:
    """What can be read of a pod, oldest first; and when its first container began, if that is known."""
    name, container = pod.metadata.name, pod.container
    if container is None:
        return [], None
    restarts, now, last = container.restart_count, container.state, container.last_state.terminated
    began = now.terminated.started_at if now.terminated is not None else None
    began = now.running.started_at if now.running is not None else began
    if now.running is None and now.terminated is None:
        # It waits to be started anew: what is told as its log is that of the last one.
        if last is None:
            return [], None
        began, last = last.started_at, None
    if last is None:
        # The count of a container that waits may have gone up already: then the log is told as one that may lack
        # something, for once.
        alone = restarts == 0
        return [_Stream(name, False, began, _EARLIEST if alone else None)], began if alone else None
    first = last.started_at if restarts == 1 else None
    here = _Stream(name, False, began, last.finished_at)
    if last.finished_at is not None and last.finished_at < since:
        return [here], first
    return [_Stream(name, True, last.started_at, _EARLIEST if restarts == 1 else None), here], first


class _Reading:
    """Reads what there is of one agent."""

    def __init__(self, server: ApiServer, namespace: str, pods: Sequence[_Pod], since: datetime, most: int) -> None:
        self._server = server
        self._namespace = namespace
        self._agent = pods[0].agent
        self._pods = pods
        self._since = since
        self._most = most
        first = _streams(pods[0], since)[1] or pods[0].status.start_time
        self._scan = Scan([self._agent], since=since, counts_from={} if first is None else {self._agent: first})
        self._begins: datetime | None = None
        self._lacks: list[str] = []
        self.has_begun = False

    def log(self, *, lacks: str = "") -> AgentLog:
        told = "; ".join([*self._lacks, *([lacks] if lacks else [])])
        return self._scan.logs(begins=self._begins, lacks=told)[self._agent]

    async def read(self) -> None:
        """Raises ``ApiUnavailable``."""
        for pod in self._pods:
            streams, _ = _streams(pod, self._since)
            if not streams:
                raise ApiUnavailable(f"{pod.metadata.name} has not started: {_why_not(pod) or 'nobody says why'}")
            for stream in streams:
                try:
                    await self._read(stream)
                except ApiUnavailable as error:
                    if not stream.previous:
                        raise
                    self._lacks.append(f"what was before the restart of {stream.pod} can not be heard: {error}")

    async def _read(self, stream: _Stream) -> None:
        path = cluster_names.log_path(self._namespace, stream.pod)
        query = {
            "container": self._agent,
            "sinceTime": self._since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            # One more than is taken: so it is known whether that was all.
            "limitBytes": str(self._most + 1),
            **stream.query,
        }
        whole = await self._server.pour(path, query, self._feed, most=self._most)
        self._scan.end_of_part(cut=not whole)
        if not whole:
            self._lacks.append(f"only {self._most} bytes of {stream.pod} were read")
        # Asked afterwards, for its file may have been rotated meanwhile.
        begins = await self._begins_at(stream)
        if self._begins is None:
            self._begins = begins
        elif begins > max(self._since, stream.before or _EARLIEST):
            self._lacks.append(f"of {stream.pod}, what was before {begins:%Y-%m-%d %H:%M:%S}Z is gone")

    def _feed(self, part: bytes) -> None:
        self.has_begun = True
        self._scan.feed(part)

    async def _begins_at(self, stream: _Stream) -> datetime:
        """How far its log reaches back."""
        first = bytearray()
        path = cluster_names.log_path(self._namespace, stream.pod)
        query = {"container": self._agent, "timestamps": "true", "limitBytes": str(_FIRST_LINES), **stream.query}
        await self._server.pour(path, query, first.extend, most=_FIRST_LINES)
        # A container that has just begun has said nothing yet.
        written = _first_time(bytes(first)) or datetime.now(UTC)
        reaches_its_begin = stream.began is not None and written <= stream.began + SLACK
        return stream.before if reaches_its_begin and stream.before is not None else written


def _first_time(log: bytes) -> datetime | None:
    """Of a log whose lines begin with the time that the node gives them."""
    written = log.partition(b" ")[0].decode(errors="replace")
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except ValueError:
        return None


# --- a pod in words ----------------------------------------------------------------------------------------------


def _evidence(pod: _Pod) -> AgentEvidence:
    container = pod.container or _Container(pod.agent)
    last = container.last_state.terminated
    why_not = _why_not(pod)
    return AgentEvidence(
        agent=pod.agent,
        place=pod.metadata.name,
        revision=pod.revision,
        ready=not why_not,
        why_not=why_not,
        restarts=container.restart_count,
        restarted_at=None if last is None else last.finished_at,
        ended="" if last is None else _how(last),
        started_at=pod.status.start_time,
    )


def _why_not(pod: _Pod) -> str:
    """Empty: it is ready."""
    status = pod.status
    if pod.has_ended:
        return f"it has ended: {status.message or status.reason or status.phase}"
    if pod.metadata.deletion_timestamp is not None:
        return "it is being ended"
    conditions = {each.type: each for each in status.conditions}
    ready = conditions.get("Ready")
    if ready is not None and ready.status == "True":
        return ""
    container = pod.container
    if container is None:
        placed = conditions.get("PodScheduled")
        if placed is not None and placed.status == "False":
            return f"no node takes it: {placed.message or placed.reason}"
        return "it has not started"
    if (waiting := container.state.waiting) is not None:
        reason = waiting.reason or "waiting"
        return f"{reason}: {waiting.message}" if waiting.message else reason
    if (ended := container.state.terminated) is not None:
        return f"it has ended {_how(ended)}"
    if ready is not None and ready.message:
        return ready.message
    return "it says that it is not ready"


def _how(ended: _Terminated) -> str:
    if ended.reason == "OOMKilled":
        return "for it used more memory than its limit"
    return f"with exit code {ended.exit_code}" + (f" ({ended.reason})" if ended.reason else "")
