"""The guide on many rows: its code runs as it stands."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

import sqla_seqreserve

GUIDE = files(sqla_seqreserve).joinpath("guides", "bulk.md")


def test_every_block_runs(engine: Engine) -> None:
    """The blocks run one after the other, given a session and the tables of the first."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "guide"}

    def run(block: str) -> None:
        exec(compile(block, "bulk.md", "exec", dont_inherit=True), names)

    run(blocks[0])
    names["Base"].metadata.create_all(engine)
    with Session(engine) as session:
        names["session"] = session
        for block in blocks[1:]:
            run(block)
        assert session.in_transaction()
    assert len(blocks) == 10
