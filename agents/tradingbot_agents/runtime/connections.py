"""Where an agent finds what it works with: addresses and secrets from the environment, never from the spec.

Each variable may be given as ``NAME`` or as ``NAME_FILE``, the path of a file that holds the value, as a mounted
Secret does. A file is read anew each time it is asked for, so that a rotated key is taken up without a restart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS


class Variable(StrEnum):
    DATABASE_URL = "TRADINGBOT_DATABASE_URL"
    MESSAGING_URL = "TRADINGBOT_MESSAGING_URL"
    TIME_SERIES_URL = "TRADINGBOT_TIME_SERIES_URL"
    TIME_SERIES_TOKEN = "TRADINGBOT_TIME_SERIES_TOKEN"
    EXCHANGE_API_KEY = "TRADINGBOT_EXCHANGE_API_KEY"
    EXCHANGE_SECRET = "TRADINGBOT_EXCHANGE_SECRET"
    EXCHANGE_PASSWORD = "TRADINGBOT_EXCHANGE_PASSWORD"


_SCHEMES: Mapping[Variable, tuple[str, ...]] = {
    Variable.DATABASE_URL: ("postgresql", "postgres"),
    Variable.MESSAGING_URL: ("amqp", "amqps"),
    Variable.TIME_SERIES_URL: ("http", "https"),
}

_MARKET_DATA = frozenset({Variable.TIME_SERIES_URL, Variable.TIME_SERIES_TOKEN})

NEEDS: Mapping[str, frozenset[Variable]] = {
    DATA_COLLECTION: frozenset({Variable.MESSAGING_URL}) | _MARKET_DATA,
    TECHNICAL_ANALYSIS: frozenset({Variable.MESSAGING_URL}) | _MARKET_DATA,
    STRATEGY: frozenset({Variable.MESSAGING_URL, Variable.DATABASE_URL}),
    RISK: frozenset({Variable.MESSAGING_URL, Variable.DATABASE_URL}) | _MARKET_DATA,
    EXECUTION: frozenset(
        {
            Variable.MESSAGING_URL,
            Variable.DATABASE_URL,
            Variable.EXCHANGE_API_KEY,
            Variable.EXCHANGE_SECRET,
        }
    ),
}
"""What each agent is given, and no more: only execution has the exchange's key, and none in mode paper."""

EXCHANGE_KEY = frozenset({Variable.EXCHANGE_API_KEY, Variable.EXCHANGE_SECRET, Variable.EXCHANGE_PASSWORD})

_MAY_BE_MISSING = frozenset({Variable.EXCHANGE_PASSWORD})
"""Where the Secret has no such key, its file is not there."""

OPTIONAL: Mapping[str, frozenset[Variable]] = {EXECUTION: frozenset({Variable.EXCHANGE_PASSWORD})}


class ConnectionsInvalid(Exception):
    """Something is missing or wrong in the environment; all of it is told at once."""


class Secret:
    """A value that no log, error or ``repr`` shows."""

    def __init__(self, value: str, file: Path | None = None) -> None:
        self._value = value
        self._file = file
        self.seen = {value}
        """Every value that it had: none of them is ever shown."""

    def reveal(self) -> str:
        """The value of now. A file that can not be read for a moment, as while it is replaced, changes nothing."""
        if self._file is not None:
            try:
                found = self._file.read_text(encoding="utf-8").strip()
            except OSError:
                return self._value
            self._value = found or self._value
            self.seen.add(self._value)
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)" if self._file is None else f"Secret({self._file})"


class Connections(msgspec.Struct, frozen=True):
    values: Mapping[Variable, Secret]

    def __getitem__(self, variable: Variable) -> Secret:
        return self.values[variable]

    def get(self, variable: Variable) -> Secret | None:
        return self.values.get(variable)

    def hidden(self) -> set[str]:
        """Texts that must show nowhere: keys, tokens, and the passwords within addresses."""
        texts: set[str] = set()
        for variable, secret in self.values.items():
            for text in secret.seen:
                hide = urlsplit(text).password if variable in _SCHEMES else text
                texts |= {hide, unquote(hide)} if hide else set()
        return texts


def read_connections(agent: str, environment: Mapping[str, str], *, paper: bool = False) -> Connections:
    """What the agent needs of ``environment``; with ``paper`` no key of an exchange, even where there is one. Raises
    ``ConnectionsInvalid`` with every problem and its remedy."""
    problems: list[str] = []
    values: dict[Variable, Secret] = {}
    needed = NEEDS[agent]
    wanted = needed | OPTIONAL.get(agent, frozenset())
    for variable in _ordered(wanted - EXCHANGE_KEY if paper else wanted):
        secret = _read(variable, environment, problems)
        if secret is not None:
            values[variable] = secret
        elif variable in needed and not any(problem.startswith(variable.value) for problem in problems):
            problems.append(f"{variable.value} is not set: set it, or {variable.value}_FILE to a file that holds it")
    if problems:
        raise ConnectionsInvalid(
            f"the {agent} agent can not start with this environment:\n" + "\n".join(f"  {each}" for each in problems)
        )
    return Connections(values)


def read_database(environment: Mapping[str, str], *, required: bool = False) -> Secret | None:
    """The database that the environment names, if any. Raises ``ConnectionsInvalid``."""
    return _read_one(Variable.DATABASE_URL, environment, "the address of the database" if required else None)


def read_messaging(environment: Mapping[str, str], *, required: bool = True) -> Secret | None:
    """The RabbitMQ that the environment names, if any. Raises ``ConnectionsInvalid``."""
    return _read_one(Variable.MESSAGING_URL, environment, "the address of the bot's RabbitMQ" if required else None)


def _read_one(variable: Variable, environment: Mapping[str, str], required: str | None) -> Secret | None:
    """``required``: what to set it to, when it has to be set."""
    problems: list[str] = []
    secret = _read(variable, environment, problems)
    if secret is None and required is not None and not problems:
        problems.append(f"{variable.value} is not set: set it to {required}")
    if problems:
        raise ConnectionsInvalid("\n".join(problems))
    return secret


class Audited(msgspec.Struct, frozen=True):
    """What a reality check was given."""

    connections: Connections
    missing: Mapping[Variable, str]
    """Why the others are not there, in words."""


def read_audited(environment: Mapping[str, str], *, paper: bool) -> Audited:
    """Everything that a check can look with, as far as it is there: one that is missing is a finding, and no reason
    not to look at the rest. With ``paper`` no key of an exchange."""
    values: dict[Variable, Secret] = {}
    missing: dict[Variable, str] = {}
    for variable in Variable:
        if paper and variable in EXCHANGE_KEY:
            continue
        problems: list[str] = []
        secret = _read(variable, environment, problems)
        if secret is not None:
            values[variable] = secret
        else:
            missing[variable] = "; ".join(problems) or f"{variable.value} is not set: set it"
    return Audited(Connections(values), missing)


class Migration(msgspec.Struct, frozen=True):
    database: Secret | None
    time_series: tuple[Secret, Secret] | None
    """Address and token."""


def read_migration(environment: Mapping[str, str]) -> Migration:
    """What there is to be migrated. Raises ``ConnectionsInvalid``, also when there is nothing."""
    problems: list[str] = []
    database, url, token = (
        _read(variable, environment, problems)
        for variable in (Variable.DATABASE_URL, Variable.TIME_SERIES_URL, Variable.TIME_SERIES_TOKEN)
    )
    if not problems and (url is None) != (token is None):
        problems.append(
            f"{Variable.TIME_SERIES_URL.value} and {Variable.TIME_SERIES_TOKEN.value} belong together: set both"
        )
    if not problems and database is None and url is None:
        problems.append(
            f"neither {Variable.DATABASE_URL.value} nor {Variable.TIME_SERIES_URL.value} is set: set what to migrate"
        )
    if problems:
        raise ConnectionsInvalid("\n".join(problems))
    return Migration(database, None if url is None or token is None else (url, token))


def _ordered(variables: Collection[Variable]) -> list[Variable]:
    return [variable for variable in Variable if variable in variables]


def _read(variable: Variable, environment: Mapping[str, str], problems: list[str]) -> Secret | None:
    plain, from_file = environment.get(variable.value), environment.get(f"{variable.value}_FILE")
    if plain and from_file:
        problems.append(f"{variable.value} and {variable.value}_FILE are both set: set one of them")
        return None
    if from_file:
        if variable in _MAY_BE_MISSING and not Path(from_file).exists():
            return None
        try:
            value = Path(from_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            problems.append(f"{variable.value}_FILE: {from_file} can not be read ({why}): mount the file there")
            return None
        if not value:
            problems.append(f"{variable.value}_FILE: {from_file} is empty: write the value into it")
            return None
        secret = Secret(value, Path(from_file))
    elif plain:
        secret = Secret(plain)
    else:
        return None
    problem = _scheme_problem(variable, secret.reveal())
    if problem is not None:
        problems.append(problem)
        return None
    return secret


def _scheme_problem(variable: Variable, value: str) -> str | None:
    schemes = _SCHEMES.get(variable)
    if schemes is None:
        return None
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    # The value itself is not told: it may hold a password.
    if scheme in schemes:
        return None
    return f"{variable.value} must be an address that begins with {' or '.join(f'{each}://' for each in schemes)}"
