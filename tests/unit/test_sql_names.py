"""The names in the text of a statement."""

from __future__ import annotations

import re

import pytest

from sqla_seqreserve._sql_names import NAME, name_of, table_inserted_into


def test_every_name_of_a_list_is_found() -> None:
    """Names are found with and without quotes, whatever letters PostgreSQL allows in them."""
    listed = '_id, price$2, äpfel, "net ""price"" in %", "a, b"'
    assert list(map(name_of, re.findall(NAME, listed))) == [
        *("_id", "price$2", "äpfel"),
        *('net "price" in %', "a, b"),
    ]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("INSERT INTO book (id) VALUES (1)", "book"),
        ('INSERT INTO "my shop"."net ""price"" in %%" (id) VALUES (1)', 'net "price" in %'),
        ("INSERT INTO shop.book DEFAULT VALUES", "book"),
        ("UPDATE book SET id=1", ""),
    ],
)
def test_the_table_of_an_insert_is_found(statement: str, table: str) -> None:
    """The table of an INSERT is found without its schema and quotes; other statements have none."""
    assert table_inserted_into(statement) == table
