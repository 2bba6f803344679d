"""Error messages for likely mistakes: what was given, what was probably meant, and how to write it.
This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.orm import Mapper, Session, scoped_session

from ._sqlalchemy.mapping import registry_of
from .errors import ConfigurationError

# What people write for a mode, such as the names of writers, and the mode that they mean.
_MEANT: Final = {
    "copy": "bulk",
    "on": "bulk",
    "insert": "reserve",
    "orm": "reserve",
    "ids": "reserve",
    "none": "off",
    "stock": "off",
}
_EXPECTED: Final = (
    "expected a Session or AsyncSession (instance or class), a sessionmaker, async_sessionmaker or "
    "scoped_session"
)


def not_a_target(target: object) -> ConfigurationError:
    """The error for an object that ``register()`` does not accept."""
    name = type(target).__name__
    if isinstance(target, Engine | Connection) or name in ("AsyncEngine", "AsyncConnection"):
        what: str | None = (
            f"{'an' if name[0] in 'AE' else 'a'} {name} flushes nothing: register the "
            f"{'async_' if name.startswith('Async') else ''}sessionmaker that makes its sessions"
        )
    elif isinstance(getattr(target, "session", None), scoped_session):
        # Flask-SQLAlchemy's object.
        what = f"register the session that this {name} holds: register(db.session)"
    elif isinstance(target, type) and _is_declarative(target):
        what = (
            "it is a model or a declarative base: register the sessionmaker, and give models as "
            f"classes=[{target.__name__}]"
        )
    else:
        what = None
    return ConfigurationError(
        f"Cannot register {target!r}: {_EXPECTED}{f'; {what}' if what else ''}"
    )


def checked_classes(classes: Any) -> tuple[type[Any], ...]:
    """Check the classes to enrol, and return them.

    :raises ConfigurationError: one of them is neither mapped nor a declarative base
    """
    if isinstance(classes, type):
        raise ConfigurationError(
            f"classes must be several: write classes=[{classes.__name__}], with brackets"
        )
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise ConfigurationError(
            f"classes must hold mapped classes or declarative bases, found {classes!r}"
        )
    found = tuple(classes)
    for cls in found:
        if not isinstance(cls, type):
            raise ConfigurationError(
                f"classes must hold mapped classes or declarative bases, found {cls!r}"
            )
        if not _is_declarative(cls) and not _has_mapped_subclass(cls):
            raise ConfigurationError(
                "classes must hold mapped classes or declarative bases, found "
                f"{cls.__module__}.{cls.__qualname__}, which is neither: nothing of it could ever "
                "be enrolled"
            )
    return found


def checked_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Check that the value is one of the choices.

    :raises ConfigurationError: it is not; the message names the choice that is probably meant
    """
    if isinstance(value, str) and value in choices:
        return
    meant = None
    if isinstance(value, str):
        lower = value.lower()
        near = did_you_mean(lower, choices)
        meant = near or (_MEANT.get(lower) if name == "mode" else None)
    hint = f'; did you mean "{meant}"?' if meant in choices else ""
    raise ConfigurationError(
        f"{name} must be one of {', '.join(map(repr, choices))}, found {value!r}{hint}"
    )


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names`` that ``name`` was probably meant to be."""
    from difflib import get_close_matches  # slow to import, and needed only for mistakes

    return next(iter(get_close_matches(name, list(names), 1)), None)


def no_such_attribute(mapper: Mapper[Any], name: object) -> str:
    """Return the message for a key of a row that is no column attribute of the class. It names the
    attribute that was probably meant: that of the column with this name, those of the
    relationship's foreign key, or one with a similar name.
    """
    said = f"{mapper.class_.__name__} has no such column"
    if not isinstance(name, str):
        return f"{said}: expected the attribute's name, found {type(name).__name__}"
    of_columns = {column.name: prop.key for prop in mapper.column_attrs for column in prop.columns}
    if name in of_columns:
        return f"{said}: its attribute is {of_columns[name]!r}"
    if name in mapper.synonyms:
        return f"is a synonym: give {mapper.synonyms[name].name!r}"
    if name in mapper.composites:
        keys = [prop.key for prop in mapper.composites[name].props]
        return f"is a composite: give {' and '.join(map(repr, keys))}"
    if name in mapper.relationships:
        local = mapper.relationships[name].local_columns
        keys = sorted(prop.key for prop in mapper.column_attrs if local.intersection(prop.columns))
        return f"is a relationship: give {' and '.join(map(repr, keys))}"
    meant = did_you_mean(name, [prop.key for prop in mapper.column_attrs])
    return f"{said}; did you mean {meant!r}?" if meant else said


def no_such_table(name: str) -> ConfigurationError:
    """Return the error for a class whose table the database does not have.

    :param name: the table's name as SQL.
    """
    return ConfigurationError(f"The database has no table {name}")


def attribute_keys(setting: str, names: Any) -> list[str]:
    """Return the attribute keys that a setting gives, as one key or several.

    :param setting: the name of the argument.
    :raises ConfigurationError: it gives something else, such as the attribute itself.
    """
    if isinstance(names, str):
        return [names]
    found: list[Any] = [names]
    if isinstance(names, Iterable) and not hasattr(names, "__clause_element__"):
        found = list(names)
    for name in found:
        if not isinstance(name, str):
            key = getattr(name, "key", None)
            hint = f"; write {setting}=[{key!r}]" if isinstance(key, str) else ""
            raise ConfigurationError(
                f"{setting} takes the keys of attributes, as strings, found {name}{hint}"
            )
    return found


def check_attributes(mapper: Mapper[Any], setting: str, names: Iterable[str]) -> None:
    """Check that each name is a column attribute of the class.

    :param setting: the argument as the user wrote it: ``update=['nmae']``.
    :raises ConfigurationError: one is not; the message names the attribute that is probably meant
    """
    unknown = [name for name in names if name not in mapper.column_attrs]
    if unknown:
        meant = filter(None, (did_you_mean(n, mapper.column_attrs.keys()) for n in unknown))
        hint = ", ".join(map(repr, dict.fromkeys(meant)))
        raise ConfigurationError(
            f"{setting}: {mapper.class_.__name__} has no column {', '.join(unknown)}"
            f"{f'; did you mean {hint}?' if hint else ''}"
        )


def require_async(name: str, bind: object) -> None:
    """Refuse a synchronous session or connection in a function of ``aio``.

    :raises ConfigurationError: ``bind`` is synchronous
    """
    if isinstance(bind, Session | scoped_session | Connection | Engine):
        raise ConfigurationError(
            f"aio.{name}: expected an AsyncSession or AsyncConnection, got a "
            f"{type(bind).__name__}; call sqla_seqreserve.{name} with it, without await"
        )


def _is_declarative(cls: type[Any]) -> bool:
    is_mapped = isinstance(inspect(cls, raiseerr=False), Mapper)
    return is_mapped or registry_of(cls) is not None


def _has_mapped_subclass(cls: type[Any]) -> bool:
    """Whether a mixin has a subclass that is already mapped."""
    if cls is object:
        return False
    return any(
        isinstance(inspect(sub, raiseerr=False), Mapper) or _has_mapped_subclass(sub)
        for sub in type.__subclasses__(cls)
    )
