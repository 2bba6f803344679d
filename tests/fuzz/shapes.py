"""Random models: classes, keys, columns and relationships, with a description for reports.

A :class:`Blueprint` is drawn at random and describes everything; :func:`build` maps its classes.
Every class has a column ``tag`` with a different value for each object, so that rows are recognised
whatever their keys.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from fuzz.columns import KINDS
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    Uuid,
    insert_sentinel,
    text,
)
from sqlalchemy.orm import backref, registry, relationship

__all__ = ["Blueprint", "Models", "build", "draw"]

GENERATED: Final = (
    *("identity", "serial", "bigint", "sequence", "sequence default", "always"),
    *("uuid", "server uuid", "tenant"),
)
COMPOSITE: Final = frozenset({"tenant", "pair"})
KEYS: Final = (*GENERATED, "identity", "serial", "sequence default", "natural", "pair")
CASCADES: Final = (
    *("save-update, merge", "save-update, merge", "all", "all, delete-orphan", ""),
    "save-update, merge, expunge, refresh-expire",
)


@dataclass(frozen=True)
class Shape:
    """A class, whether it has a table of its own, and the class that it inherits from."""

    name: str
    key: str
    columns: tuple[str, ...]
    eager: bool | str = "auto"
    versioned: bool = False
    tree: str | None = None
    parent: str | None = None
    joined: bool = False
    is_base: bool = False
    has_sentinel: bool = False

    def __str__(self) -> str:
        if self.parent:
            way = "joined" if self.joined else "single"
            return f"{self.name}({self.parent}, {way}): {', '.join(self.columns)}"
        more = [
            *([f"eager_defaults={self.eager}"] if self.eager != "auto" else []),
            *(["version_id_col"] if self.versioned else []),
            *([f"tree({self.tree!r})"] if self.tree is not None else []),
            *(["insert_sentinel()"] if self.has_sentinel else []),
        ]
        return f"{self.name}: key {self.key}; {', '.join([*self.columns, *more])}"


@dataclass(frozen=True)
class Link:
    """A foreign key with its relationship, from one or both sides."""

    child: str
    parent: str
    name: str
    nullable: bool
    cascade: str
    sides: str
    passive_deletes: bool

    def __str__(self) -> str:
        return (
            f"{self.child}.{self.name} -> {self.parent}{'' if self.nullable else ' NOT NULL'},"
            f" {self.sides}, cascade {self.cascade!r}{', ON DELETE' * self.passive_deletes}"
        )


@dataclass(frozen=True)
class Blueprint:
    """Classes, their foreign keys, and pairs of classes that a table of links connects."""

    shapes: tuple[Shape, ...]
    links: tuple[Link, ...]
    many: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        many = [f"{left} <-> {right}" for left, right in self.many]
        return "\n".join(f"    {line}" for line in [*self.shapes, *self.links, *many])

    def root(self, name: str) -> Shape:
        """The class at the top of this class's hierarchy."""
        shape = self.shape(name)
        return self.root(shape.parent) if shape.parent else shape

    def shape(self, name: str) -> Shape:
        """The class with this name."""
        return next(shape for shape in self.shapes if shape.name == name)

    def columns(self, name: str) -> tuple[str, ...]:
        """The columns of the class, including inherited ones."""
        shape = self.shape(name)
        return (*(self.columns(shape.parent) if shape.parent else ()), *shape.columns)


def draw(chance: Random) -> Blueprint:
    """Draw one to four root classes, some with subclasses, and relationships between them."""
    shapes: list[Shape] = []
    for name in "ABCD"[: chance.choice((1, 1, 2, 2, 3, 4))]:
        used = chance.sample(list(KINDS), chance.randint(0, 4))
        inherits = chance.random() < 1 / 3
        key = chance.choice(KEYS)
        tree = chance.choice(CASCADES) if key not in COMPOSITE and chance.random() < 1 / 3 else None
        shapes.append(
            Shape(
                name,
                key,
                tuple(used),
                eager=chance.choice(("auto", "auto", True, False)),
                versioned=chance.random() < 1 / 6,
                tree=tree,
                is_base=inherits,
                has_sentinel=chance.random() < 1 / 6,
            )
        )
        if inherits:
            rest = [kind for kind in KINDS if kind not in used]
            for number in range(1, chance.choice((2, 3))):
                more = chance.sample(rest, chance.randint(0, 2))
                rest = [kind for kind in rest if kind not in more]
                joined = key not in COMPOSITE and chance.random() < 2 / 3
                if not joined:
                    # A column that only some rows have is nullable, whatever its kind says.
                    more = [kind for kind in more if kind not in {"needed", "counted"}]
                shapes.append(
                    Shape(f"{name}{number}", key, tuple(more), parent=name, joined=joined)
                )
    links = []
    for number in range(chance.choice((0, 1, 1, 2)) if len(shapes) > 1 else 0):
        child, parent = chance.sample(shapes, 2)
        if child.name < parent.name:
            child, parent = parent, child
        is_single = child.parent is not None and not child.joined
        if child.name[0] == parent.name[0] or (is_single and parent.key in COMPOSITE):
            continue
        nullable = child.parent is not None or chance.random() < 2 / 3
        links.append(
            Link(
                child.name,
                parent.name,
                f"to{number}",
                nullable,
                chance.choice(CASCADES),
                chance.choice(("both", "both", "parent", "children")),
                chance.random() < 1 / 5,
            )
        )
    many = []
    if len(shapes) > 1 and chance.random() < 1 / 3:
        left, right = chance.sample(shapes, 2)
        if left.name[0] != right.name[0] and not {left.key, right.key} & COMPOSITE:
            many.append((left.name, right.name))
    return Blueprint(tuple(shapes), tuple(links), tuple(many))


@dataclass
class Models:
    """The classes of a blueprint, and for each column with a key's value the class of that key."""

    blueprint: Blueprint
    metadata: MetaData
    mappers: registry
    classes: dict[str, type[Any]] = field(default_factory=dict)
    refers: dict[tuple[str, str], str] = field(default_factory=dict)
    """Table and column -> the name of the class at the top of the hierarchy whose key the values
    are.
    """

    def is_generated(self, name: str) -> bool:
        return self.blueprint.root(name).key in GENERATED


def _key(kind: str, table: str, metadata: MetaData) -> list[Column[Any]]:
    if kind == "natural":
        return [Column("id", Text, primary_key=True)]
    if kind == "pair":
        return [Column("tenant", Integer, primary_key=True), Column("id", Text, primary_key=True)]
    if kind == "tenant":
        return [
            Column("tenant", Integer, primary_key=True, autoincrement=False),
            Column("id", Integer, Identity(), primary_key=True),
        ]
    sequence = Sequence(f"{table}_numbers", metadata=metadata)
    column: Column[Any] = {
        "identity": lambda: Column("id", Integer, Identity(), primary_key=True),
        "serial": lambda: Column("id", Integer, primary_key=True),
        "bigint": lambda: Column(
            "id", BigInteger, Identity(start=50, increment=3), primary_key=True
        ),
        "always": lambda: Column("id", Integer, Identity(always=True), primary_key=True),
        "sequence": lambda: Column("id", Integer, sequence, primary_key=True),
        "sequence default": lambda: Column(
            "id", BigInteger, sequence, server_default=sequence.next_value(), primary_key=True
        ),
        "uuid": lambda: Column("id", Uuid, default=uuid.uuid4, primary_key=True),
        "server uuid": lambda: Column(
            "id", Uuid, server_default=text("gen_random_uuid()"), primary_key=True
        ),
    }[kind]()
    return [column]


def build(blueprint: Blueprint, prefix: str) -> Models:
    """Map the classes; the names of their tables begin with ``prefix``."""
    metadata = MetaData()
    models = Models(blueprint, metadata, registry(metadata=metadata))
    many = {pair: _link_table(models, prefix, pair) for pair in blueprint.many}
    for shape in blueprint.shapes:
        attributes: dict[str, Any] = {}
        options: dict[str, Any] = {}
        arguments: list[Any] = []
        table = f"{prefix}_{shape.name.lower()}"
        own_table = not shape.parent or shape.joined
        if not shape.parent:
            for column in _key(shape.key, table, metadata):
                attributes[column.name] = column
            attributes["tag"] = Column("tag", Text, nullable=False)
            models.refers[table, "id"] = shape.name
            options["eager_defaults"] = shape.eager
            if shape.versioned:
                attributes["version"] = options["version_id_col"] = Column(
                    "version", Integer, nullable=False
                )
            if shape.has_sentinel:
                attributes["mark"] = insert_sentinel("mark")
            if shape.is_base:
                attributes["kind"] = Column("kind", Text)
                options["polymorphic_on"] = "kind"
                options["polymorphic_identity"] = shape.name
            if shape.tree is not None:
                attributes["above_id"] = Column("above_id", ForeignKey(f"{table}.id"))
                models.refers[table, "above_id"] = shape.name
                attributes["below"] = relationship(
                    shape.name,
                    cascade=shape.tree,
                    order_by=f"{shape.name}.tag",
                    backref=backref("above", remote_side=f"{shape.name}.id"),
                )
        else:
            options["polymorphic_identity"] = shape.name
            if shape.joined:
                over = f"{prefix}_{shape.parent.lower()}"
                attributes["id"] = Column("id", ForeignKey(f"{over}.id"), primary_key=True)
                models.refers[table, "id"] = blueprint.root(shape.name).name
        for kind in shape.columns:
            name = kind.replace(" ", "_")
            attributes[name] = KINDS[kind].column(name)
        for link in blueprint.links:
            if link.child == shape.name:
                arguments += _foreign_key(models, prefix, link, table, attributes)
            if link.parent == shape.name and link.sides != "parent":
                extra: dict[str, Any] = {"backref": link.name} if link.sides == "both" else {}
                if link.passive_deletes:
                    extra["passive_deletes"] = True
                attributes[f"{link.name}_children"] = relationship(
                    link.child,
                    cascade=link.cascade,
                    order_by=f"{link.child}.tag",
                    foreign_keys=_names(blueprint, link),
                    **extra,
                )
        for left, right in blueprint.many:
            if left == shape.name:
                attributes["linked"] = relationship(
                    right,
                    secondary=many[left, right],
                    backref="linked_from",
                    order_by=f"{right}.tag",
                )
        base = models.classes.get(shape.parent or "")
        space = {"__mapper_args__": options, **attributes}
        if own_table:
            space["__tablename__"] = table
            space["__table_args__"] = tuple(arguments)
        if base is None:
            space["__init__"] = models.mappers.constructor
        space["__repr__"] = lambda self: f"<{type(self).__name__} {self.__dict__.get('tag')}>"
        models.classes[shape.name] = models.mappers.mapped(
            type(shape.name, (base,) if base else (), space)
        )
    models.mappers.configure()
    return models


def _foreign_key(
    models: Models, prefix: str, link: Link, table: str, attributes: dict[str, Any]
) -> list[ForeignKeyConstraint]:
    """Add the columns of the link to the attributes of the child's class, and return the
    constraints of its table.
    """
    blueprint = models.blueprint
    root, child, parent = (
        blueprint.root(link.parent),
        *map(blueprint.shape, (link.child, link.parent)),
    )
    if child.parent and not child.joined:
        table = f"{prefix}_{child.parent.lower()}"
    over = f"{prefix}_{(parent if parent.joined else root).name.lower()}"
    deletes = {"ondelete": "CASCADE"} if link.passive_deletes else {}
    models.refers[table, f"{link.name}_id"] = root.name
    if root.key in COMPOSITE:
        tenant = Column(f"{link.name}_tenant", Integer, nullable=link.nullable)
        kind = Integer if root.key == "tenant" else Text
        columns = [tenant, Column(f"{link.name}_id", kind, nullable=link.nullable)]
        constraints = [ForeignKeyConstraint(columns, [f"{over}.tenant", f"{over}.id"], **deletes)]
    else:
        key = ForeignKey(f"{over}.id", **deletes)
        columns, constraints = [Column(f"{link.name}_id", key, nullable=link.nullable)], []
    attributes.update((column.name, column) for column in columns)
    if link.sides == "parent":
        attributes[link.name] = relationship(
            link.parent, foreign_keys=columns, cascade=_to_one(link.cascade)
        )
    return constraints


def _names(blueprint: Blueprint, link: Link) -> str:
    """The columns of a link, as a relationship names columns of a class that is mapped later."""
    composite = blueprint.root(link.parent).key in COMPOSITE
    names = [*([f"{link.name}_tenant"] if composite else []), f"{link.name}_id"]
    return f"[{', '.join(f'{link.child}.{name}' for name in names)}]"


def _to_one(cascade: str) -> str:
    return ", ".join(part for part in cascade.split(", ") if part not in {"all", "delete-orphan"})


def _link_table(models: Models, prefix: str, pair: tuple[str, str]) -> Table:
    columns = []
    for side, name in zip(("left_id", "right_id"), pair, strict=True):
        root = models.blueprint.root(name)
        over = f"{prefix}_{root.name.lower()}"
        columns.append(Column(side, ForeignKey(f"{over}.id"), primary_key=True))
        models.refers[f"{prefix}_links", side] = root.name
    return Table(f"{prefix}_links", models.metadata, *columns)
