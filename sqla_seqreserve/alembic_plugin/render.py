"""Renders the operations as Python, for the migrations that autogenerate writes.

Every migration that uses them also imports the plugin, so it runs even if ``env.py`` does not
import it.
"""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from sqlalchemy import Identity

from ._options import SequenceOptions, sqlalchemy_type
from .adoption import AdoptSequenceOp, AlterIdentityOp, ReleaseSequenceOp, ResyncSequenceOp
from .operations import AlterSequenceOp, CreateSequenceOp, DropSequenceOp

__all__ = ["IMPORT"]

IMPORT = "import sqla_seqreserve.alembic_plugin  # noqa: F401"


class _Raw(str):
    """Python source, rendered unchanged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _call(context: AutogenContext, name: str, *args: str, **options: Any) -> str:
    context.imports.add(IMPORT)
    prefix = context.opts["alembic_module_prefix"] or ""
    # Names may be SQLAlchemy's quoted_name, whose repr() is not Python.
    positional = [repr(str(arg)) for arg in args]
    named = [f"{key}={value!r}" for key, value in options.items()]
    return f"{prefix}{name}({', '.join(positional + named)})"


def _given(**options: Any) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, str) and not isinstance(value, _Raw) else value
        for key, value in options.items()
        if value is not None
    }


def _options(context: AutogenContext, options: dict[str, Any]) -> dict[str, Any]:
    if options.get("data_type") is None:
        return options
    prefix = context.opts["sqlalchemy_module_prefix"] or ""
    return options | {"data_type": _Raw(f"{prefix}{sqlalchemy_type(options['data_type'])!r}")}


def _identity(context: AutogenContext, identity: Identity) -> _Raw:
    prefix = context.opts["sqlalchemy_module_prefix"] or ""
    options = {"always": identity.always or None, **SequenceOptions.declared_by(identity).given()}
    named = ", ".join(f"{key}={value!r}" for key, value in options.items() if value is not None)
    return _Raw(f"{prefix}Identity({named})")


@renderers.dispatch_for(CreateSequenceOp)
def _render_create(context: AutogenContext, op: CreateSequenceOp) -> str:
    return _call(
        context,
        "create_sequence",
        op.name,
        **_given(schema=op.schema),
        **_options(context, op.options.given()),
        **_given(
            owned_by=op.owned_by,
            if_not_exists=op.if_not_exists,
            tracked=None if op.tracked else False,
        ),
    )


@renderers.dispatch_for(DropSequenceOp)
def _render_drop(context: AutogenContext, op: DropSequenceOp) -> str:
    return _call(
        context, "drop_sequence", op.name, **_given(schema=op.schema, if_exists=op.if_exists)
    )


@renderers.dispatch_for(AlterSequenceOp)
def _render_alter(context: AutogenContext, op: AlterSequenceOp) -> str:
    changes = op.changes
    owned = {} if changes.owned_by is False else {"owned_by": changes.owned_by}
    return _call(
        context,
        "alter_sequence",
        op.name,
        **_given(schema=op.schema),
        **_options(context, changes.options),
        **owned,
        **_given(owner=changes.owner, new_name=changes.name, new_schema=changes.schema),
    )


@renderers.dispatch_for(AlterIdentityOp)
def _render_alter_identity(context: AutogenContext, op: AlterIdentityOp) -> str:
    rendered: str = renderers.dispatch(ops.AlterColumnOp)(context, op)
    before = op.existing_server_default
    existing = repr(_identity(context, before)) if isinstance(before, Identity) else "None"
    return f"{rendered.removesuffix(')')},\n{' ' * 11}existing_server_default={existing})"


@renderers.dispatch_for(ResyncSequenceOp)
def _render_resync(context: AutogenContext, op: ResyncSequenceOp) -> str:
    return _call(
        context,
        "resync_sequence",
        op.table_name,
        op.column_name,
        **_given(schema=op.schema, sequence=op.sequence, sequence_schema=op.sequence_schema),
    )


@renderers.dispatch_for(AdoptSequenceOp)
def _render_adopt(context: AutogenContext, op: AdoptSequenceOp) -> str:
    return _call(
        context,
        "adopt_sequence",
        op.table_name,
        op.column_name,
        op.sequence,
        **_given(schema=op.schema, sequence_schema=op.sequence_schema),
        **_options(context, op.options.given()),
        **_given(owned=None if op.owned else False, tracked=None if op.tracked else False),
    )


@renderers.dispatch_for(ReleaseSequenceOp)
def _render_release(context: AutogenContext, op: ReleaseSequenceOp) -> str:
    return _call(
        context,
        "release_sequence",
        op.table_name,
        op.column_name,
        op.sequence,
        **_given(
            schema=op.schema,
            sequence_schema=op.sequence_schema,
            serial=op.serial,
            identity=op.identity and _identity(context, op.identity),
            identity_name=op.identity_name,
            keep=op.keep or None,
            tracked=op.tracked or None,
        ),
    )
