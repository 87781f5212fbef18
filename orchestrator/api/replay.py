"""Running an ended run again from one of its steps."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from orchestrator.api import serializers as forms
from orchestrator.models import Run
from orchestrator.services.replay import replay_run
from tenants.api.serializers import Strict, Text


class StepOverrides(serializers.Serializer[Any]):
    """What a step is set to instead."""

    prompt = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    parameters = serializers.DictField(required=False)
    timeout = serializers.CharField(required=False, help_text="A duration such as `30s`.")


@extend_schema_field(serializers.DictField(child=StepOverrides()))
class Overrides(serializers.DictField):
    """By step. Read as they are: the service tells all that is wrong with them at once."""


class ReplayBody(Strict):
    from_step = Text(max_length=63, help_text="Runs anew, and so does all that follows from it.")
    input = serializers.JSONField(
        required=False,
        help_text="Instead of the run's; steps that read what differs run again too.",
    )
    overrides = Overrides(
        required=False, help_text="Only for steps that run again, which are agents."
    )


class ReplayAction:
    """The call of the run view; apart from it, since it is a subject of its own."""

    @extend_schema(request=ReplayBody, responses={202: forms.RunOut})
    @action(detail=True, methods=["post"])
    def replay(self: Any, request: Request, **_: Any) -> Response:
        """Start a new run of the same version that reuses what need not run again.

        Outputs are reused of steps that completed, neither are `from_step` nor follow from it,
        and were made from nothing that comes out otherwise now. They cost nothing again.
        """
        run: Run = self._run()
        new = replay_run(run, **self.body(ReplayBody))
        answer: Response = self._accepted(new)
        return answer
