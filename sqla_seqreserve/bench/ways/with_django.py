"""Django's ``bulk_create()``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from ..data import account_values, payments, posting_values
from ..models import PAYMENT_COLUMNS, Account, Payment, Posting, Receipt
from ..place import Place
from .clock import Clock

__all__ = ["bulk_create_accounts", "bulk_create_payments", "bulk_create_receipts"]

_ALIAS = "default"


@cache
def _models() -> SimpleNamespace:
    """Django's models of our tables; Django is set up once in a process."""
    import django
    from django.apps import apps
    from django.conf import settings
    from django.db import models

    if not settings.configured:
        settings.configure(USE_TZ=True, DATABASES={}, INSTALLED_APPS=[])
    if not apps.ready:
        django.setup()

    def model(name: str, table: str, /, **fields: Any) -> Any:
        meta = type("Meta", (), {"app_label": "bench", "db_table": table, "managed": False})
        attributes = {
            "__module__": __name__,
            "Meta": meta,
            "id": models.BigAutoField(primary_key=True),
        }
        return type(name, (models.Model,), {**attributes, **fields})

    def eight_columns(**number: Any) -> dict[str, Any]:
        return {
            "number": models.IntegerField(**number),
            "portfolio": models.IntegerField(),
            "kind": models.TextField(),
            "paid_at": models.DateTimeField(),
            "amount": models.DecimalField(max_digits=14, decimal_places=2),
            "booked_at": models.DateTimeField(),
            "note": models.TextField(null=True),
        }

    payment = model("Payment", Payment.__tablename__, **eight_columns())
    receipt = model("Receipt", Receipt.__tablename__, **eight_columns(unique=True))
    account = model(
        "Account",
        Account.__tablename__,
        number=models.IntegerField(),
        name=models.TextField(),
    )
    posting = model(
        "Posting",
        Posting.__tablename__,
        account=models.ForeignKey(account, models.DO_NOTHING),
        number=models.IntegerField(),
        amount=models.DecimalField(max_digits=14, decimal_places=2),
    )
    return SimpleNamespace(payment=payment, receipt=receipt, account=account, posting=posting)


def _connected(place: Place) -> SimpleNamespace:
    """The models, with Django's connection on this place's database."""
    models = _models()
    from django.db import connections

    url = place.url
    query = {str(key): str(value) for key, value in url.query.items()}
    databases = connections.configure_settings(
        {
            _ALIAS: {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": url.database,
                "USER": url.username or "",
                "PASSWORD": url.password or "",
                "HOST": url.host or query.get("host", ""),
                "PORT": str(url.port or query.get("port", "")),
            }
        }
    )
    connections.settings.update(databases)

    def close() -> None:
        connections[_ALIAS].close()
        del connections[_ALIAS]

    place.closing.callback(close)
    return models


def bulk_create_payments(place: Place, objects: int) -> Mapping[str, float]:
    """Make the objects, and create them in a transaction."""
    from django.db import transaction

    payment = place.keep(_connected).payment
    values = payments(objects)
    clock = Clock()
    with transaction.atomic(_ALIAS):
        payment.objects.bulk_create([payment(**row) for row in values])
    return {"commit": clock.seconds()}


def bulk_create_receipts(place: Place, values: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
    """Make the objects, and create or update them in a transaction."""
    from django.db import transaction

    receipt = place.keep(_connected).receipt
    clock = Clock()
    with transaction.atomic(_ALIAS):
        receipt.objects.bulk_create(
            [receipt(**row) for row in values],
            update_conflicts=True,
            unique_fields=["number"],
            update_fields=[name for name in PAYMENT_COLUMNS if name != "number"],
        )
    return {"commit": clock.seconds()}


def bulk_create_accounts(place: Place, parents: int, children: int) -> Mapping[str, float]:
    """Make the parents and the children, and create one kind after the other."""
    from django.db import transaction

    models = place.keep(_connected)
    clock = Clock()
    with transaction.atomic(_ALIAS):
        accounts = models.account.objects.bulk_create(
            [models.account(**account_values(number)) for number in range(parents)]
        )
        models.posting.objects.bulk_create(
            [
                models.posting(account=account, **posting_values(number * children + child))
                for number, account in enumerate(accounts)
                for child in range(children)
            ]
        )
    return {"commit": clock.seconds()}
