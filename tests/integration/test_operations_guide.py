import re

import pytest
from django.conf import settings

from orchestrator.execution import engine_db

GUIDE = settings.BASE_DIR / "docs" / "operations.md"
(SQL,) = re.findall(r"^```sql\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("live_db")
@pytest.mark.parametrize("question", SQL.strip().splitlines())
def test_question_of_the_guide_is_answered_to_the_system_role(question: str) -> None:
    assert engine_db.many(question, alias="system") is not None
