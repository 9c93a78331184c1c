"""Kubernetes quantities, as far as a pod's resources and a volume's size use them: cpu `100m` `2`, memory `64Mi`.

They are parsed, not passed through, so that a request above its limit is refused here and not by the API server
after half of a bot's objects have been written.
"""

import re
from decimal import Decimal
from typing import Annotated

from .decimals import format_decimal
from .scalar import Scalar, ScalarInvalid

_SUFFIXES = {
    "Ti": 2**40,
    "Gi": 2**30,
    "Mi": 2**20,
    "Ki": 2**10,
    "T": 10**12,
    "G": 10**9,
    "M": 10**6,
    "k": 10**3,
    "": 1,
}

MOST_BYTES = 10**15
"""What is below can be written in bytes with the digits that the pattern allows."""

_CPU = r"^((0|[1-9][0-9]{0,5})(\.[0-9]{1,3})?|[1-9][0-9]{0,8}m)$"
_BYTES = r"^[1-9][0-9]{0,14}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"


def parse_cpu(text: str) -> Decimal:
    """`"100m"` → Decimal("0.1") cores. Raises `ScalarInvalid`."""
    value: Decimal = CPU.parse(text)
    return value


def format_cpu(value: Decimal) -> str:
    """Cores as Kubernetes prints them: whole cores plain, others in thousandths."""
    if value == value.to_integral_value():
        return format_decimal(value)
    return f"{format_decimal(value * 1000)}m"


def parse_bytes(text: str) -> int:
    """`"64Mi"` → 67108864. Raises `ScalarInvalid`."""
    value: int = BYTES.parse(text)
    return value


def format_bytes(value: int) -> str:
    """Bytes with the largest binary suffix that divides them."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if not value % _SUFFIXES[suffix]:
            return f"{value // _SUFFIXES[suffix]}{suffix}"
    return str(value)


def _convert_cpu(text: str) -> Decimal:
    cores = Decimal(text[:-1]) / 1000 if text.endswith("m") else Decimal(text)
    if not cores:
        raise ScalarInvalid("is no CPU at all", "write at least 1m")
    return cores


def _convert_bytes(text: str) -> int:
    number = text.rstrip("KMGTik")
    amount = Decimal(number) * _SUFFIXES[text[len(number) :]]
    if amount != amount.to_integral_value():
        raise ScalarInvalid("is not a whole number of bytes", "write a smaller unit, such as 1536Ki for 1.5Mi")
    if amount >= MOST_BYTES:
        raise ScalarInvalid("is more than any volume holds", "write less than 1000T")
    return int(amount)


def _explain_cpu(text: str) -> tuple[str, str]:
    return "is not an amount of CPU", 'write cores or thousandths of a core, such as "2", "0.5" or "100m"'


def _explain_bytes(text: str) -> tuple[str, str]:
    known = re.fullmatch(r"([1-9][0-9]*)\s*([kKmMgGtT])i?[bB]?", text)
    if known:
        return "is not an amount of bytes", f'write "{known[1]}{known[2].upper()}i"'
    return "is not an amount of bytes", 'write bytes with a suffix, such as "64Mi" or "1Gi"'


CPU = Scalar(
    name="quantity of CPU",
    pattern=_CPU,
    longest=64,
    example="100m",
    convert=_convert_cpu,
    format=format_cpu,
    explain=_explain_cpu,
)
BYTES = Scalar(
    name="quantity of bytes",
    pattern=_BYTES,
    longest=64,
    example="64Mi",
    convert=_convert_bytes,
    format=format_bytes,
    explain=_explain_bytes,
)

Cpu = Annotated[Decimal, CPU]
Bytes = Annotated[int, BYTES]
