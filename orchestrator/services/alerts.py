"""Tells people about money: thresholds of budgets, and spend that is out of the ordinary.

Control workers look every few seconds, one at a time. What is found is written down first, once
for each threshold and period; mail is sent from there, so a worker that dies in between costs a
second mail at worst, and never the alert.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connections
from psycopg import Connection

from costs.core.money import format_usd
from costs.models import AlertKind
from costs.selectors.outlook import unusual_today
from orchestrator.execution import engine_db
from orchestrator.execution.engine_db import Row, rows
from orchestrator.services.alone import Work, is_alone
from orchestrator.services.mail import MailError, addresses_of, send
from tenants.kernel.clock import now

log = structlog.get_logger(__name__)

SECONDS: Final = 3.0
_COMPARES_EVERY: Final = timedelta(minutes=5)
_MAILS_AT_ONCE: Final = 20
_MAIL_TRIES: Final = 8

_FIND = "SELECT * FROM muster_find_alerts(%s)"
_UNUSUAL = """
INSERT INTO cost_alert (id, tenant_id, kind, period, spent_nano, limit_nano, mail_due_at)
VALUES (uuidv7(), %s, 'unusual', %s, %s, %s, CASE WHEN %s THEN clock_timestamp() END)
ON CONFLICT DO NOTHING RETURNING *
"""
_CLAIM = "SELECT * FROM muster_claim_mails(%s, %s)"
_MAILED = """
UPDATE cost_alert SET mail_due_at = NULL, mailed_at = CASE WHEN %s > 0 THEN clock_timestamp() END,
       mailed_to = %s, updated_at = clock_timestamp()
 WHERE id = %s RETURNING id
"""


@dataclass(slots=True)
class Watcher:
    """Remembers when it last compared the day with others, which costs more than the rest."""

    compares_at: float = 0.0

    def watch(self) -> int:
        """One look, and the mail that is due. Gives how many alerts are new."""
        found = self._find()
        for alert in found:
            log.warning(
                "cost_alert",
                tenant_id=str(alert["tenant_id"]),
                kind=alert["kind"],
                budget=alert["budget_name"],
                period=alert["period"],
                threshold=alert["threshold"],
            )
        deliver()
        return len(found)

    def _find(self) -> list[Row]:
        with engine_db.transaction(alias="system") as connection:
            if not is_alone(connection, Work.ALERTS):
                return []
            found = rows(connection, _FIND, [can_mail()])
            if time.monotonic() >= self.compares_at:
                self.compares_at = time.monotonic() + _COMPARES_EVERY.total_seconds()
                found += self._compare(connection)
        return found

    def _compare(self, connection: Connection[Row]) -> list[Row]:
        days = unusual_today(now())
        # Django's connection of this thread: kept, it would not outlive a restart of the database.
        connections["system"].close()
        facts = [[day.tenant_id, f"{day.day}", day.spent_nano, day.from_nano] for day in days]
        return [row for each in facts for row in rows(connection, _UNUSUAL, [*each, can_mail()])]


def deliver() -> int:
    """Send the mail that is due; gives how many alerts have been mailed."""
    if not can_mail():
        return 0
    due = engine_db.many(_CLAIM, _MAILS_AT_ONCE, _MAIL_TRIES, alias="system")
    return sum(_mail(alert) for alert in due)


def subject_of(alert: Row) -> str:
    if alert["kind"] == AlertKind.VELOCITY:
        return "A run was paused for what it spends"
    if alert["kind"] == AlertKind.ASK:
        return "A run asks whether it may go on"
    if alert["kind"] == AlertKind.UNUSUAL:
        return f"Unusual spend on {alert['period']}"
    if alert["refuses"]:
        return f'Budget "{alert["budget_name"]}" is exhausted ({alert["period"]})'
    return f'Budget "{alert["budget_name"]}" is {alert["threshold"]} % spent ({alert["period"]})'


def text_of(alert: Row) -> str:
    spent, limit = format_usd(alert["spent_nano"]), format_usd(alert["limit_nano"])
    if alert["kind"] == AlertKind.VELOCITY:
        return (
            f"{spent} USD were spent in a minute, and more than {limit} USD asks for a person's "
            f"yes. Run {alert['run_id']} is paused, and says more: resume it if that is right, or "
            "cancel it."
        )
    if alert["kind"] == AlertKind.ASK:
        return (
            f"{spent} USD of the {limit} USD that run {alert['run_id']} may cost are spent or "
            "held, and its workflow asks a person. It is paused, and says who may resume it; if "
            "that is not right, cancel it."
        )
    if alert["kind"] == AlertKind.UNUSUAL:
        return (
            f"{spent} USD have been spent since midnight UTC. By this time of day anything from "
            f"{limit} USD on is out of the ordinary, judged by the last weeks."
        )
    told = f"{spent} USD of {limit} USD are spent."
    if alert["refuses"]:
        told += " Calls that do not fit are refused: raise the limit, and resume the runs."
    return told


def _mail(alert: Row) -> bool:
    to = addresses_of(alert["tenant_id"])
    try:
        if to:
            send(
                to,
                subject=subject_of(alert),
                text=text_of(alert),
                message_id=_message_id(alert["id"]),
            )
    except MailError as error:
        log.warning("alert_not_mailed", alert_id=str(alert["id"]), error=str(error))
        return False
    engine_db.one(_MAILED, len(to), len(to), alert["id"], alias="system")
    return bool(to)


def _message_id(alert_id: UUID) -> str:
    """The same for a second mail of the same alert, so that mail programs show one."""
    return f"<{alert_id}@muster>"


def can_mail() -> bool:
    return bool(settings.EMAIL_HOST)
