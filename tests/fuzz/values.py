"""Values for every kind of column: ordinary ones drawn at random, and nasty ones written by
hand.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import string
import uuid
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy import JSON, null
from sqlalchemy.dialects.postgresql import Range

Make: TypeAlias = Callable[[Random], Any]


class Shade(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Mood(str, enum.Enum):  # noqa: UP042  # what applications had before StrEnum
    SAD = "sad"
    GLAD = "glad"


class Rank(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(str):
    __slots__ = ()


class Count(int):
    __slots__ = ()


class Money(Decimal):
    __slots__ = ()


class Moment(dt.datetime):
    __slots__ = ()


class Octets(bytes):
    __slots__ = ()


class Nowhere(dt.tzinfo):
    """A time zone that gives no offset."""

    def utcoffset(self, when: dt.datetime | None) -> None:
        return None

    def dst(self, when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> str:
        return "nowhere"

    def __repr__(self) -> str:
        return "Nowhere()"


MICRO: Final = dt.timezone(dt.timedelta(hours=1, microseconds=1))
SECONDS: Final = dt.timezone(dt.timedelta(hours=-3, minutes=-17, seconds=-5))
EAST: Final = dt.timezone(dt.timedelta(hours=5, minutes=30))
ZONES: Final = (dt.UTC, EAST, SECONDS, ZoneInfo("America/New_York"))
NAN: Final = float("nan")
INFINITY: Final = float("inf")
DAY: Final = dt.datetime(2024, 3, 10, 2, 30)  # noqa: DTZ001  # naive, in the hour that New York lacks

# Values of types that the column is not made for, each given to every type.
ANYTHING: Final = (
    None,
    null(),
    "text",
    "5",
    5,
    2.5,
    True,
    Decimal("1.5"),
    b"bytes",
    Word("word"),
    Count(7),
    Shade.RED,
    Mood.SAD,
    Rank.HIGH,
    DAY,
    DAY.date(),
    uuid.UUID(int=5),
    [1],
    {"a": 1},
    object,
)


def integers(limit: int) -> Make:
    def make(chance: Random) -> int:
        return chance.choice(
            [0, 1, -1, limit - 1, -limit, chance.randint(-limit, limit - 1), chance.randint(0, 99)]
        )

    return make


def decimals(digits: int, scale: int) -> Make:
    def make(chance: Random) -> Decimal:
        whole = chance.randint(-(10 ** (digits - scale)) + 1, 10 ** (digits - scale) - 1)
        return Decimal(whole).scaleb(-chance.randint(0, scale + 2))

    return make


def floats(chance: Random) -> float:
    return chance.choice([0.0, -0.0, 1.5, 0.1, 1 / 3, chance.uniform(-1e6, 1e6), chance.random()])


def booleans(chance: Random) -> bool:
    return chance.random() < 1 / 2


def words(longest: int) -> Make:
    letters = string.ascii_letters + " 'ü€😀\\\t\n{},\""

    def make(chance: Random) -> str:
        return "".join(chance.choices(letters, k=chance.randint(0, longest)))

    return make


def octets(chance: Random) -> bytes:
    return chance.randbytes(chance.randint(0, 9))


def moments(*, aware: bool) -> Make:
    def make(chance: Random) -> dt.datetime:
        zone = chance.choice(ZONES) if aware else None
        return dt.datetime(
            chance.choice([1, 1883, 1970, 2024, 9999]),
            chance.randint(1, 12),
            chance.randint(2, 27),
            chance.randint(0, 23),
            30,
            chance.randint(0, 59),
            chance.choice([0, 1, 500_000, 999_999]),
            zone,
        )

    return make


def days(chance: Random) -> dt.date:
    return moments(aware=False)(chance).date()  # type: ignore[no-any-return]  # of a Make


def clocks(*, aware: bool) -> Make:
    def make(chance: Random) -> dt.time:
        zone = chance.choice([dt.UTC, EAST, SECONDS]) if aware else None
        made: dt.time = moments(aware=False)(chance).time().replace(tzinfo=zone)
        return made

    return make


def spans(chance: Random) -> dt.timedelta:
    return dt.timedelta(
        days=chance.randint(-400, 400),
        seconds=chance.randint(0, 10**6),
        microseconds=chance.choice([0, 1, 500_000]),
    )


def uuids(chance: Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128))


def documents(chance: Random) -> Any:
    return chance.choice(
        [
            {},
            [],
            {"b": [1, {"a": None}], "a": 'ü€\\ "quoted" \u2028'},
            [chance.randint(0, 9), 1.5, True, None],
            {words(4)(chance): words(4)(chance)},
            "text",
            0,
        ]
    )


def addresses(chance: Random) -> str:
    bits = chance.getrandbits(32)
    return chance.choice(
        [str(ipaddress.ip_address(bits)), f"{ipaddress.ip_address(bits)}/32", "::1"]
    )


def networks(chance: Random) -> str:
    return f"10.{chance.randint(0, 255)}.0.0/16"


def hstores(chance: Random) -> dict[str, str | None]:
    return {words(4)(chance): chance.choice([None, words(4)(chance)]) for _ in range(2)}


def bits(length: int) -> Make:
    return lambda chance: "".join(chance.choices("01", k=length))


def one_of(*values: Any) -> Make:
    return lambda chance: chance.choice(values)


def ranges(bound: Make) -> Make:
    def make(chance: Random) -> Range[Any]:
        low, high = bound(chance), bound(chance)
        try:
            low, high = sorted((low, high))
        except TypeError:
            high = low
        return chance.choice(
            [
                Range(low, high, bounds=chance.choice(["[)", "[]", "()", "(]"])),
                Range(None, high),
                Range(low, None),
                Range(),
                Range(empty=True),
            ]
        )

    return make


def lists(element: Make) -> Make:
    def make(chance: Random) -> list[Any]:
        length = chance.randint(0, 3)
        if chance.random() < 1 / 5:
            return [[element(chance) for _ in range(2)] for _ in range(length)]
        return [None if chance.random() < 1 / 6 else element(chance) for _ in range(length)]

    return make


NASTY_INTEGERS: Final = (
    *(2**15 - 1, 2**15, -(2**15) - 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**70),
    *(2.0, Decimal(3), "4", " 4 ", "x", "", NAN, Count(2), Rank.LOW, True, False),
)
NASTY_NUMBERS: Final = (
    *map(
        Decimal, ("NaN", "-NaN", "Infinity", "-Infinity", "-0", "1E+50", "1E-30", "1.005", "sNaN")
    ),
    *(Decimal("9999.995"), Money("1.5"), NAN, INFINITY, -INFINITY, 1e22, 2.675, 5e-324, 1e39),
    *(10**40, 2**60 + 1, "1.5", "NaN", "x", 1 / 3, 0.1 + 0.2),
)
NASTY_STRINGS: Final = (
    *("", " a ", "ab   ", "abcd", "a\x00b", "\ud800", "\\N", "NULL", "x" * 64, "ü€😀😀"),
    *(Word("subclass"), Shade.BLUE, Mood.GLAD, Rank.LOW, b"bytes", 5),
)
NASTY_OCTETS: Final = (
    b"",
    b"\x00\xff\\x",
    bytearray(b"ab"),
    memoryview(b"cd"),
    Octets(b"sub"),
    "a",
)
NASTY_TIMES: Final = (
    *(dt.datetime.min, dt.datetime.max, DAY, DAY.replace(tzinfo=MICRO)),  # noqa: DTZ901  # naive
    *(DAY.replace(tzinfo=zone) for zone in (Nowhere(), SECONDS, EAST, dt.UTC)),
    *(DAY.replace(fold=1), DAY.date(), DAY.time(), Moment(2024, 1, 1, 12)),  # naive
    *("2024-01-01 10:00", "2024-01-01 10:00+05", "infinity", "x", dt.date.max),
)
NASTY_CLOCKS: Final = (
    *(dt.time(0), dt.time(23, 59, 59, 999_999), dt.time(12, tzinfo=EAST)),
    *(dt.time(12, tzinfo=Nowhere()), dt.time(12, tzinfo=MICRO), dt.time(12, tzinfo=ZONES[3])),
    *("13:00", "25:00", "24:00", DAY, dt.timedelta(hours=5)),
)
NASTY_SPANS: Final = (
    *(dt.timedelta.max, dt.timedelta.min, dt.timedelta(microseconds=-1), dt.timedelta(0)),
    *("1 month 2 days", "P1Y", 5, "x", dt.time(1)),
)
NASTY_UUIDS: Final = (
    uuid.UUID(int=0),
    str(uuid.UUID(int=7)),
    "A" * 32,
    "x",
    uuid.UUID(int=1).bytes,
)
NASTY_DOCUMENTS: Final = (
    *(None, null(), JSON.NULL, "", 1e400, {"nan": NAN}, {"nul": "\x00"}, {"no": {1}}, 10**30),
    *({1: "key"}, {"d": Decimal("1.5")}, Shade.RED, (1, 2), [], "\ud800"),
)
NASTY_ADDRESSES: Final = (
    *map(ipaddress.ip_address, ("10.0.0.1", "::1", "fe80::1%eth0", "::ffff:1.2.3.4")),
    *map(ipaddress.ip_interface, ("10.0.0.1/8", "::1/64", "10.0.0.1/32")),
    *map(ipaddress.ip_network, ("10.0.0.0/8", "::/0", "10.0.0.1/32")),
    *("10.0.0.1/8", "10.0.0.0/8", "fe80::1%eth0", "x", ""),
)
NASTY_RANGES: Final = (
    *(Range(1, Decimal("2.5")), Range(Decimal(1), 2), Range(1, 2.5), Range("1", "2"), Range(5, 1)),
    *(Range(DAY, None), Range(DAY.date(), DAY), Range(1, 2**40), "[1,3)", "empty", "x"),
    *(Range(None, None, bounds="[]"), Range(Decimal("NaN"), None), Range(1, 5, bounds="(]")),
)
NASTY_LISTS: Final = (
    [],
    [None],
    [1, [2]],
    [[1], [2, 3]],
    [[1, 2], [3, 4]],
    (1, 2),
    "{1,2}",
    {1, 2},
)
