"""``reconcile(bot) = observe → plan → apply → report``, and the same for the database of an account.

Read ``Reconciler._bot`` from top to bottom: each step is guarded by those before it. It rests on what is there and
on nothing that it remembers, so a crash at any point and a second operator lead to the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime

import msgspec
import structlog

from tradingbot_api import SpecInvalid, TradingBot
from tradingbot_operator import desired
from tradingbot_operator.applying import Done, Foreign, carry_out
from tradingbot_operator.bots import Bot, account_owner, in_words
from tradingbot_operator.children import Children
from tradingbot_operator.cluster import ApiError, Away, Busy, Cluster, Conflict, Missing
from tradingbot_operator.deletion import Verdict, ending, judge, stopping
from tradingbot_operator.desired import Pinned
from tradingbot_operator.diagnosis import Crashed, Problem, crashed, due, problems, restarts
from tradingbot_operator.kinds import CONFIG_MAP, POD, SECRET, TRADING_BOT, Manifest, Owner
from tradingbot_operator.names import AGENTS, FINALIZER, MANAGER, Annotation, Component, Label, account_id
from tradingbot_operator.plan import Plan, Why, owner_reference, plan
from tradingbot_operator.registry import Registry
from tradingbot_operator.revisions import ROLL_ORDER, Choice, Pod, choose, rolled, started
from tradingbot_operator.settings import LOG_LINES, SETTLING
from tradingbot_operator.status import Agent, Findings, differs, news, status_of
from tradingbot_operator.telling import tell
from tradingbot_operator.work import Again, Over

log = structlog.get_logger()

WORDS_KEPT = 200
"""Last words of crashed containers that are remembered; they are read once each."""


class Reconciler:
    def __init__(
        self,
        cluster: Cluster,
        children: Children,
        registry: Registry,
        *,
        agents_image: str,
        now: Callable[[], datetime],
        wrote: Callable[[str], None],
        wake: Callable[[Owner], None],
    ) -> None:
        self._cluster = cluster
        self._children = children
        self._registry = registry
        self._image = agents_image
        self._now = now
        self._wrote = wrote
        self._wake = wake
        self._words: dict[tuple[str, Crashed], str] = {}
        self._troubles: dict[Owner, str] = {}
        """Of accounts: why the last reconcile could not do all that it wanted."""

    @staticmethod
    def is_expected(error: Exception) -> bool:
        """One that says all in its message, and no defect of ours."""
        return isinstance(error, ApiError | Foreign)

    async def reconcile(self, key: Owner) -> Again | Over | None:
        """Raises ``ApiError`` or ``Foreign``: try again later."""
        if key.label == Label.ACCOUNT:
            await self._database(key)
            return None if self._registry.bots_of(key) else Over()
        bot = self._registry.get(key)
        if bot is None:
            # Its children wake it once more as they go.
            return Over()
        try:
            return await self._bot(bot)
        except Exception as error:
            if not isinstance(error, _PASSING):
                await self._report_failure(bot, self._failure(error))
            raise

    def _failure(self, error: Exception) -> str:
        return str(error) if self.is_expected(error) else f"a defect of the operator: {type(error).__name__}: {error}"

    # --- a bot -------------------------------------------------------------------------------------------

    async def _bot(self, bot: Bot) -> Again | None:
        now = self._now()
        verdict = self._verdict(bot, now)
        if verdict is not None and verdict.waits is None:
            if not bot.abandoned and not await self._agents_are_gone(bot, now):
                return Again(SETTLING)
            await self._let_go(bot, verdict, now)
            return None
        if verdict is None and not bot.has_finalizer:
            bot = await self._hold(bot)
        findings = Findings(generation=bot.generation, deletion=None if verdict is None else verdict.waits)
        try:
            spec = bot.read()
        except SpecInvalid as error:
            findings = replace(findings, invalid=in_words(error), revision=self._running(bot))
            await self._report(bot, self._seen(bot, findings, now), now)
            return None
        state = verdict.state if verdict is not None and verdict.state is not None else spec.spec.state
        findings = replace(findings, wanted_state=state)
        asked = desired.pin(spec, bot.namespace, spec.spec.image or self._image)
        if bot.hands_off:
            running = self._running(bot) or asked.revision
            findings = replace(
                findings,
                hands_off=True,
                revision=running,
                pending=None if running == asked.revision else asked.revision,
                pending_why=f"the annotation {Annotation.PAUSED.value} keeps the operator's hands off",
            )
            await self._report(bot, self._seen(bot, findings, now, spec), now)
            return None
        choice = await self._choice(bot, spec, asked)
        findings = replace(findings, revision=choice.revision, pending=choice.pending, pending_why=choice.waits_for)
        await self._apply(bot, asked, choice, state, now)
        await self._refresh_state(bot, state)
        lacking = await self._lacking(bot, spec)
        findings = self._seen(bot, findings, now, spec, lacking, await self._last_words(bot))
        await self._report(bot, findings, now)
        ready = all(agent.ready for agent in findings.agents.values())
        if ready and findings.deletion is None:
            return None
        there = {**self._children.of(bot.owner), **self._children.of(account_owner(bot.namespace, account_id(spec)))}
        return Again(SETTLING, by=due(there, now))

    async def _report_failure(self, bot: Bot, failure: str) -> None:
        """On the bot, for whoever looks there; that it is tried again is in the log."""
        now = self._now()
        spec = None
        with suppress(SpecInvalid):
            spec = bot.read()
        findings = Findings(
            generation=bot.generation,
            failure=failure,
            wanted_state="" if spec is None else spec.spec.state,
            revision=bot.status.get("revision"),
            # Its times would begin anew.
            deletion=bot.deletion if bot.deleted_at is not None else None,
        )
        with suppress(ApiError):
            await self._report(bot, self._seen(bot, findings, now, spec), now)

    def _verdict(self, bot: Bot, now: datetime) -> Verdict | None:
        """``None``: it is not being deleted."""
        if bot.deleted_at is None:
            return None
        policy = (bot.body.get("spec") or {}).get("deletionPolicy", "Block")
        return judge(
            policy=policy,
            positions=bot.positions,
            live_orders=bot.live_orders,
            abandoned=bot.abandoned,
            asked_at=bot.deleted_at,
            before=bot.deletion,
            now=now,
        )

    async def _hold(self, bot: Bot) -> Bot:
        """Before anything of it is made: its end goes through us from now on."""
        meta = bot.body["metadata"]
        patch = {
            "metadata": {
                "finalizers": [*(meta.get("finalizers") or []), FINALIZER],
                "resourceVersion": meta["resourceVersion"],
            }
        }
        return self._changed(bot, await self._cluster.merge(TRADING_BOT, bot.namespace, bot.name, patch))

    async def _agents_are_gone(self, bot: Bot, now: datetime) -> bool:
        """Its servers are there until they are."""
        left = ending(self._children.of(bot.owner), now)
        if left.over or not bot.has_finalizer:
            return True
        if left.deletes:
            # Told once: that they are not ready from now on is no news.
            deletion = stopping(bot.deletion, now)
            findings = Findings(
                generation=bot.generation,
                deletion=deletion,
                wanted_state=bot.status.get("wantedState") or "",
                revision=self._running(bot),
            )
            await self._report(bot, self._seen(bot, findings, now), now)
            await carry_out(self._cluster, self._children, bot.namespace, Plan([], left.deletes))
        return False

    async def _let_go(self, bot: Bot, verdict: Verdict, now: datetime) -> None:
        if not bot.has_finalizer:
            return
        meta = bot.body["metadata"]
        patch = {
            "metadata": {
                "finalizers": [each for each in meta["finalizers"] if each != FINALIZER],
                "resourceVersion": meta["resourceVersion"],
            }
        }
        try:
            # It is gone with that: known at once, so that it is let go and told of once.
            self._changed(bot, await self._cluster.merge(TRADING_BOT, bot.namespace, bot.name, patch))
        except Missing:
            return
        if verdict.left:
            await tell(self._cluster, bot, "PositionsLeft", verdict.left, now, warning=True)

    async def _choice(self, bot: Bot, spec: TradingBot, asked: Pinned) -> Choice:
        running = self._running(bot)
        if running not in (None, asked.revision) and await self._pinned(bot, running) is None:
            # Nobody knows any more what it was: what is asked is the only thing that can be kept so.
            running = None
        return choose(
            asked=asked.revision,
            running=running,
            strategy=spec.spec.update_strategy,
            approved=bot.annotation(Annotation.APPLY),
            positions=bot.positions,
            real_orders=spec.spec.mode != "paper",
            how=f"kubectl annotate tradingbot {bot.name} -n {bot.namespace} --overwrite"
            f" {Annotation.APPLY.value}={asked.revision}",
        )

    async def _pinned(self, bot: Bot, revision: str | None) -> Pinned | None:
        if revision is None:
            return None
        found = await self._cluster.get(CONFIG_MAP, bot.namespace, desired.pin_ref(bot.name, revision).name)
        return None if found is None else desired.unpin(revision, found)

    async def _apply(self, bot: Bot, asked: Pinned, choice: Choice, state: str, now: datetime) -> None:
        there = self._children.of(bot.owner)
        pods = self._pods(bot)
        target = asked if choice.revision == asked.revision else await self._pinned(bot, choice.revision)
        assert target is not None, "only a revision that is pinned is kept"
        migrated = started(target.revision, pods) or desired.is_migrated(there, bot.name, target.revision)
        revisions = rolled(target.revision, pods) if migrated else {each: pods[each].revision for each in AGENTS}
        kept = {target.revision: target, asked.revision: asked}
        for revision in revisions.values():
            pinned = None if revision in (None, *kept) else await self._pinned(bot, revision)
            if pinned is not None:
                kept[pinned.revision] = pinned
        known = {each: kept[revision] for each, revision in revisions.items() if revision in kept}
        wanted = desired.of_bot(
            bot.namespace,
            target,
            [kept[each] for each in kept if each != asked.revision or choice.pending is None],
            known,
            uid=bot.uid,
            state=state,
            migrating=not started(target.revision, pods),
            positions_open=bool(bot.positions),
        )
        changes = plan(
            wanted,
            there,
            [owner_reference(bot.body, controller=True)],
            settled=_was_settled(bot) and bot.status.get("revision") == target.revision,
            # One whose revision nobody can read any more runs on until its turn comes.
            keep=desired.kept_refs(bot.name, target.revision, [each for each in AGENTS if each not in known]),
        )
        if not changes.empty:
            done = await carry_out(self._cluster, self._children, bot.namespace, changes)
            await self._tell_repairs(bot, done, now)

    async def _tell_repairs(self, bot: Bot, done: Done, now: datetime) -> None:
        for write in done.writes:
            self._wrote(write.why.value)
            if write in done.in_vain:
                log.warning("repaired_in_vain", namespace=bot.namespace, object=str(write.ref), what=write.detail)
            elif write.why is Why.LOST and write.ref.kind == SECRET.name:
                # A server keeps the password of its first start in its volume.
                again = (
                    f"{write.ref} was gone, and is made again with another password, which its server does not know"
                )
                await tell(self._cluster, bot, "Repaired", f"{again}: put the old Secret back", now, warning=True)
            elif write.why is Why.LOST:
                await tell(self._cluster, bot, "Repaired", f"{write.ref} was gone, and is made again", now)
            elif write.why is Why.DRIFTED:
                await tell(
                    self._cluster, bot, "Repaired", f"{write.ref} was changed by somebody: {write.detail}", now
                )
        for _ in done.deletes:
            self._wrote("pruned")

    async def _refresh_state(self, bot: Bot, state: str) -> None:
        """The kubelet looks at a mounted ConfigMap once a minute or so, and at once when its pod is changed."""
        for ref, pod in self._children.of(bot.owner).items():
            meta = pod["metadata"]
            labels = meta.get("labels") or {}
            if ref.kind != "Pod" or labels.get(Label.COMPONENT.value) not in {each.value for each in AGENTS}:
                continue
            told = (meta.get("annotations") or {}).get(Annotation.STATE.value)
            if told == state or meta.get("deletionTimestamp") is not None:
                continue
            try:
                patch = {"metadata": {"annotations": {Annotation.STATE.value: state}}}
                self._children.put(POD, await self._cluster.merge(POD, bot.namespace, ref.name, patch))
            except Missing:
                continue

    async def _lacking(self, bot: Bot, spec: TradingBot) -> list[Problem]:
        """Secrets of people that are not there: a pod that waits for one says nothing of it in its status."""
        if all(pod.ready for pod in self._pods(bot).values()):
            return []
        lacking = []
        for reference in desired.references(spec):
            found = await self._cluster.get(SECRET, bot.namespace, reference.name)
            if found is None:
                lacking.append(
                    Problem(
                        reference.component, "SecretMissing", f"Secret {reference.name} is missing: {reference.why}"
                    )
                )
                continue
            missing = [key for key in reference.keys if key not in (found.get("data") or {})]
            if missing:
                lacking.append(
                    Problem(
                        reference.component,
                        "SecretIncomplete",
                        f"Secret {reference.name} has no key {', '.join(missing)}: {reference.why}",
                    )
                )
        return lacking

    async def _last_words(self, bot: Bot) -> dict[Crashed, str]:
        words: dict[Crashed, str] = {}
        for each in crashed(self._children.of(bot.owner), self._now()):
            known = (bot.namespace, each)
            if known not in self._words:
                try:
                    text = await self._cluster.log_tail(
                        bot.namespace, each.pod, each.container, LOG_LINES, previous=each.again
                    )
                except ApiError:
                    # The container or its log is gone; that it ended is told all the same.
                    continue
                while len(self._words) >= WORDS_KEPT:
                    del self._words[next(iter(self._words))]
                self._words[known] = last_line(text)
            words[each] = self._words[known]
        return words

    # --- what is there -----------------------------------------------------------------------------------

    def _running(self, bot: Bot) -> str | None:
        """The revision of the pods that handle the money, or else of any; ``None``: there are none."""
        pods = self._pods(bot)
        return next((pods[each].revision for each in ROLL_ORDER if pods[each].revision is not None), None)

    def _pods(self, bot: Bot) -> dict[Component, Pod]:
        there = self._children.of(bot.owner)
        return {each: desired.pod_of(there, bot.name, each) for each in AGENTS}

    def _seen(
        self,
        bot: Bot,
        findings: Findings,
        now: datetime,
        spec: TradingBot | None = None,
        lacking: list[Problem] | None = None,
        words: Mapping[Crashed, str] | None = None,
    ) -> Findings:
        there = self._children.of(bot.owner)
        counts = restarts(there)
        found = problems(there, words or {}, now)
        if spec is not None:
            account = account_owner(bot.namespace, account_id(spec))
            database = self._children.of(account)
            shared = set(problems(database, {}, now))
            if account in self._troubles:
                shared.add(Problem(Component.POSTGRES, "DatabaseFailed", self._troubles[account]))
            found = sorted({*found, *shared})
            findings = replace(findings, servers=desired.servers(spec, there, database))
            planned = self._database_plan(account, self._of_account(account)) if _must_wait(bot) else None
            if planned is not None:
                findings = replace(findings, held=[str(ref) for ref in planned[1].held])
        else:
            # Which they are is in the spec: what was known is as good as can be.
            findings = replace(findings, servers=bot.status.get("children") or {})
        return replace(
            findings,
            agents={
                each: Agent(ready=pod.ready, revision=pod.revision, restarts=counts.get(each.value, 0))
                for each, pod in self._pods(bot).items()
            },
            migrating=findings.revision is not None
            and not started(findings.revision, self._pods(bot))
            and not desired.is_migrated(there, bot.name, findings.revision),
            problems=[*(lacking or []), *found],
        )

    async def _report(self, bot: Bot, findings: Findings, now: datetime) -> None:
        bot = self._registry.get(bot.owner) or bot
        before = bot.status
        after = status_of(findings, before, now)
        if not differs(before, after):
            return
        meta = {"name": bot.name, "namespace": bot.namespace, "uid": bot.uid}
        manifest: Manifest = {
            "apiVersion": bot.body["apiVersion"],
            "kind": bot.body["kind"],
            "metadata": meta,
            "status": after,
        }
        try:
            found = await self._cluster.apply_status(manifest, MANAGER)
        except (Missing, Conflict):
            # It is gone, or another of its name is there: its own reconcile reports.
            return
        self._changed(bot, found)
        for each in news(before, after):
            warning = (each.type, each.status) in _BAD or each.status == "Unknown"
            reason = {"True": each.type, "False": f"Not{each.type}"}.get(each.status, f"{each.type}Unknown")
            await tell(self._cluster, bot, reason, each.message, now, warning=warning)

    def _changed(self, bot: Bot, found: Manifest) -> Bot:
        """We have just written it: kopf tells of it later."""
        changed = Bot(found)
        if self._registry.get(bot.owner) is not None:
            self._registry.put(changed)
        return changed

    # --- an account ----------------------------------------------------------------------------------------

    async def _database(self, key: Owner) -> None:
        """Its bots wait for it, so that what is wrong with it is said on them."""
        before = self._troubles.get(key)
        try:
            await self._account(key)
            self._troubles.pop(key, None)
        except Exception as error:
            if not isinstance(error, _PASSING):
                self._troubles[key] = self._failure(error)
            raise
        finally:
            if self._troubles.get(key) != before:
                for each in self._registry.bots_of(key):
                    self._wake(each)

    async def _account(self, key: Owner) -> None:
        """Its database, made by the settings of its eldest bot, and owned by all of them."""
        present = self._of_account(key)
        if any(bot.hands_off for bot in present):
            return
        changes = self._database_plan(key, present)
        if changes is None:
            return
        eldest, todo = changes
        if not todo.empty:
            done = await carry_out(self._cluster, self._children, key.namespace, todo)
            await self._tell_repairs(eldest, done, self._now())
        if not todo.empty or todo.held:
            for each in present:
                self._wake(each.owner)

    def _of_account(self, key: Owner) -> list[Bot]:
        bots = [self._registry.get(each) for each in self._registry.bots_of(key)]
        return [bot for bot in bots if bot is not None]

    def _database_plan(self, key: Owner, present: list[Bot]) -> tuple[Bot, Plan] | None:
        """By the settings of the eldest that can be read; ``None``: there is none."""
        for bot in present:
            try:
                spec = bot.read()
            except SpecInvalid:
                continue
            wanted = desired.of_account(key.namespace, key.name, spec)
            owners = [owner_reference(each.body, controller=False) for each in present]
            # A restart of the database stops every bot of the account for some seconds.
            held = desired.restarting(wanted) if any(_must_wait(each) for each in present) else []
            there = self._children.of(key)
            return bot, plan(wanted, there, owners, settled=_was_settled(bot), held=held)
        return None


_PASSING = (Away, Busy, Conflict)
"""Errors that say nothing of what is wanted: not told on a bot."""

_BAD = frozenset({("Ready", "False"), ("Degraded", "True"), ("ConfigDrift", "True"), ("Trading", "Unknown")})


def replace(findings: Findings, **changes: object) -> Findings:
    return msgspec.structs.replace(findings, **changes)


def last_line(text: str) -> str:
    """What a container said last: the message of a structured line, or the line."""
    for line in reversed(text.strip().splitlines()):
        line = line.strip()
        if not line:
            continue
        try:
            told = json.loads(line)
        except ValueError:
            return line[:300]
        if isinstance(told, dict):
            words = [str(told[name]) for name in ("event", "why", "message", "detail", "msg") if told.get(name)]
            return ": ".join(words)[:300] if words else line[:300]
        return line[:300]
    return ""


def _must_wait(bot: Bot) -> bool:
    """Whether nothing of it is restarted without a person, for it holds positions."""
    spec = bot.body.get("spec") or {}
    return bool(bot.positions) and spec.get("updateStrategy", "Manual") == "Manual"


def _was_settled(bot: Bot) -> bool:
    """Whether everything that this spec asks for had been made when its status was written last."""
    if bot.status.get("observedGeneration") != bot.generation:
        return False
    for condition in bot.status.get("conditions") or []:
        if condition["type"] == "Progressing":
            return condition["reason"] in ("UpToDate", "Starting")
    return False
