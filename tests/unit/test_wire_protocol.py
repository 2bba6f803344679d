"""PostgreSQL's messages are recognised, whatever the pieces in which they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sqla_seqreserve._wire.protocol import Conversation, WireMessage


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


STARTUP = message(b"", (196608).to_bytes(4) + b"user\0me\0\0")
READY = message(b"Z", b"I")


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for position in range(len(data)):
        yield data[position : position + 1]


Cut = Callable[[bytes], Iterator[bytes]]
cuts = pytest.mark.parametrize("cut", [whole, bytewise])


def say(conversation: Conversation, cut: Cut, *messages: bytes) -> list[WireMessage]:
    data = b"".join(messages)
    return [found for piece in cut(data) for found in conversation.sent(piece)]


def answer(conversation: Conversation, cut: Cut, *messages: bytes) -> None:
    for piece in cut(b"".join(messages)):
        conversation.delivered(piece)


def started(cut: Cut) -> Conversation:
    conversation = Conversation(7)
    say(conversation, cut, STARTUP)
    answer(conversation, cut, message(b"R", bytes(4)), READY)
    return conversation


@cuts
def test_a_round_trip_begins_after_an_answer(cut: Cut) -> None:
    """A message that is sent before an answer arrives belongs to the round trip that waits
    for it.
    """
    conversation = started(cut)

    one = say(conversation, cut, message(b"Q", b"BEGIN\0"), message(b"Q", b"SELECT 1\0"))
    answer(conversation, cut, message(b"C", b"BEGIN\0"), READY)
    other = say(conversation, cut, message(b"P", b"name\0SELECT 2\0\0\0"), message(b"S"))

    assert one == [WireMessage(7, 2, "Query", "BEGIN"), WireMessage(7, 2, "Query", "SELECT 1")]
    assert other == [WireMessage(7, 3, "Parse", "SELECT 2"), WireMessage(7, 3, "Sync")]


@cuts
def test_what_nobody_waits_for_is_no_answer(cut: Cut) -> None:
    """A notice, a notification or a changed setting is no answer that ends a round trip."""
    conversation = started(cut)
    say(conversation, cut, message(b"Q", b"A\0"))
    for kind in (b"N", b"A", b"S"):
        answer(conversation, cut, message(kind, b"something\0"))

    assert [found.round_trip for found in say(conversation, cut, message(b"Q", b"B\0"))] == [2]


@cuts
def test_goodbye_waits_for_nothing(cut: Cut) -> None:
    """A client that closes its connection takes no round trip."""
    conversation = started(cut)

    assert say(conversation, cut, message(b"X")) == [WireMessage(7, 0, "Terminate")]
    assert conversation.round_trips == 1


@cuts
def test_what_is_left_of_a_copy_that_failed_waits_for_nothing(cut: Cut) -> None:
    """The rest of a COPY that the server has refused takes no round trip, because it gets no
    answer.
    """
    conversation = started(cut)
    say(conversation, cut, message(b"Q", b"COPY t FROM STDIN\0"))
    answer(conversation, cut, message(b"G", b"\0\0\0"))
    [data] = say(conversation, cut, message(b"d", b"1234"))
    answer(conversation, cut, message(b"E", b"\0"), READY)
    rest = say(conversation, cut, message(b"d", b"5"), message(b"c"))
    [query] = say(conversation, cut, message(b"Q", b"ROLLBACK\0"))

    assert data == WireMessage(7, 3, "CopyData", "4 bytes")
    assert {found.round_trip for found in rest} == {3}
    assert query.round_trip == 4


@cuts
def test_no_password_is_kept(cut: Cut) -> None:
    """A client's password is not shown."""
    conversation = Conversation(1)
    say(conversation, cut, STARTUP)
    answer(conversation, cut, message(b"R", (3).to_bytes(4)))

    assert say(conversation, cut, message(b"p", b"secret\0")) == [
        WireMessage(1, 2, "AuthenticationResponse")
    ]
