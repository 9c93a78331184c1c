"""Names: of the bot, of accounts, Secrets, exchanges, plugins and addresses."""

import re
from collections.abc import Callable
from typing import Annotated

from .scalar import text_scalar

_Explain = Callable[[str], tuple[str, str]]

# No count above 1000: that is RE2's limit, and the API server compiles these patterns with it.
# 40, because the longest name that the operator makes from it (a pod of the reality check's Job) must stay a DNS
# label of 63.
_OBJECT_NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
_DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_DNS_SUBDOMAIN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,3}$"
_SECRET_KEY = r"^[A-Za-z0-9._-]{1,253}$"
_EXCHANGE = r"^[a-z0-9]{2,40}$"
_IDENTIFIER = r"^[A-Za-z][A-Za-z0-9.-]{0,62}$"
_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_PLUGIN_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
_URL = r"^(https?|wss?)://[^\s/?#@]+(/[^\s]*)?$"
_FILE_PATH = r"^[^\s]([^\n\r\t]{0,998}[^\s])?$"
_TEXT = r"^[^\n\r]{1,1000}$"
_IMAGE = r"^[a-z0-9][A-Za-z0-9._:/@-]{0,511}$"


def _dns(length: int, dots: bool) -> _Explain:
    allowed = "a-z, 0-9, dots and hyphens" if dots else "a-z, 0-9 and hyphens"

    def explain(text: str) -> tuple[str, str]:
        if len(text) > length:
            return f"is {len(text)} characters long", f"shorten it to at most {length}"
        lower = re.sub(r"[^a-z0-9.-]+" if dots else r"[^a-z0-9-]+", "-", text.lower()).strip("-.")
        remedy = f"use only {allowed}, with a letter or digit first and last"
        return "is not a DNS name", f"{remedy}, such as {lower}" if lower else remedy

    return explain


def _fixed(problem: str, remedy: str) -> _Explain:
    return lambda _text: (problem, remedy)


def _explain_exchange(text: str) -> tuple[str, str]:
    lower = re.sub(r"[^a-z0-9]", "", text.lower())
    suffix = f", such as {lower}" if len(lower) > 1 else ""
    return "is not an exchange's name", f"write its ccxt id in small letters and digits{suffix}"


def _explain_url(text: str) -> tuple[str, str]:
    if "@" in text:
        return "holds a user or password", "keep secrets in a Secret; write only the address here"
    return "is not an address", "write it with its scheme, such as https://api.example.com"


OBJECT_NAME = text_scalar("name of up to 40 characters", _OBJECT_NAME, 40, "majors", _dns(40, dots=False))
DNS_LABEL = text_scalar("DNS label", _DNS_LABEL, 63, "trading", _dns(63, dots=False))
DNS_SUBDOMAIN = text_scalar("DNS subdomain", _DNS_SUBDOMAIN, 253, "binance-keys", _dns(253, dots=True))
SECRET_KEY = text_scalar(
    "key of a Secret",
    _SECRET_KEY,
    253,
    "url",
    _fixed("is not a key of a Secret", "use letters, digits, dots, hyphens and underscores"),
)
EXCHANGE_NAME = text_scalar("exchange", _EXCHANGE, 40, "binance", _explain_exchange)
IDENTIFIER = text_scalar(
    "id",
    _IDENTIFIER,
    63,
    "fastCross",
    _fixed("is not an id", "start with a letter, then up to 62 letters, digits, dots and hyphens"),
)
ENV_NAME = text_scalar(
    "name of an environment variable",
    _ENV_NAME,
    128,
    "HTTPS_PROXY",
    _fixed("is not the name of an environment variable", "use letters, digits and underscores, no digit first"),
)
PLUGIN_PATH = text_scalar(
    "place of a class",
    _PLUGIN_PATH,
    256,
    "my_package.my_module:MyStrategy",
    _fixed("is not the place of a class", "write module:Class, such as my_package.my_module:MyStrategy"),
)
URL = text_scalar("address", _URL, 1000, "https://api.example.com", _explain_url)
FILE_PATH = text_scalar(
    "path of a file or folder",
    _FILE_PATH,
    1000,
    "candles",
    _fixed("is not a path", "write one without spaces at its ends, relative to the spec file or absolute"),
)
TEXT = text_scalar(
    "text", _TEXT, 1000, "text", _fixed("is not one line of text", "write 1 to 1000 characters on one line")
)
IMAGE = text_scalar(
    "image",
    _IMAGE,
    512,
    "docker.io/library/postgres:18",
    _fixed("is not an image", "write registry/name:tag, such as docker.io/library/postgres:18"),
)

ObjectName = Annotated[str, OBJECT_NAME]
DnsLabel = Annotated[str, DNS_LABEL]
DnsSubdomain = Annotated[str, DNS_SUBDOMAIN]
SecretKey = Annotated[str, SECRET_KEY]
ExchangeName = Annotated[str, EXCHANGE_NAME]
Identifier = Annotated[str, IDENTIFIER]
EnvName = Annotated[str, ENV_NAME]
PluginPath = Annotated[str, PLUGIN_PATH]
Url = Annotated[str, URL]
FilePath = Annotated[str, FILE_PATH]
Text = Annotated[str, TEXT]
Image = Annotated[str, IMAGE]
