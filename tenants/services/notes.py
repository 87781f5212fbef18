import json
from typing import Any
from uuid import UUID

from django.db import connection


def note(action: str, *, object_type: str, object_id: UUID, facts: Any = None) -> None:
    """Write a line to the open tenant's audit log that no change of a row would write."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT muster_note(%s, %s, %s, %s)",
            [action, object_type, str(object_id), None if facts is None else json.dumps(facts)],
        )
