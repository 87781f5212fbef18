"""Mail to the people of a tenant."""

from collections.abc import Sequence
from smtplib import SMTPException
from uuid import UUID

from django.core.mail import EmailMessage

from orchestrator.execution import engine_db

_ADDRESSES = """
SELECT DISTINCT u.email FROM membership m JOIN user_account u ON u.id = m.user_id
 WHERE m.tenant_id = %s AND m.role IN ('owner', 'admin') AND u.is_active AND u.email <> ''
 ORDER BY u.email
"""


class MailError(Exception):
    """It could not be sent, now."""


def addresses_of(tenant_id: UUID) -> list[str]:
    """Of the tenant's owners and admins."""
    return [row["email"] for row in engine_db.many(_ADDRESSES, tenant_id, alias="system")]


def send(to: Sequence[str], *, subject: str, text: str, message_id: str) -> None:
    """One message to all of them, none of whom learns who else gets it. Raises MailError."""
    # Names of budgets are people's words; a line's end in them would be a header.
    line = " ".join(subject.split())
    message = EmailMessage(line, text, bcc=list(to), headers={"Message-ID": message_id})
    try:
        message.send()
    except (SMTPException, OSError) as error:
        raise MailError(f"{type(error).__name__}: {error}") from error
