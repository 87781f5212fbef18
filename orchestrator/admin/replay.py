"""The page from which a run is replayed from one of its steps."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextInputWidget

from orchestrator.core.state import TERMINAL_RUN
from orchestrator.models import Run
from orchestrator.services.control import RunStateError
from orchestrator.services.errors import InputInvalidError
from orchestrator.services.replay import UNCHANGED, ReplayPlan, plan_replay, replay_run
from tenants.admin_fields import JsonField
from tenants.errors import TenantSuspendedError

_FIELDS = ("from_step", "input", "overrides")


class ReplayForm(forms.Form):
    from_step = forms.CharField(max_length=63, widget=UnfoldAdminTextInputWidget())
    input = JsonField(
        rows=10, kind=None, help_text="Steps that read what you change run again too."
    )
    overrides = JsonField(
        rows=6,
        help_text="By step: prompt, provider, model, parameters or timeout, such as "
        '{"draft": {"prompt": "Write it shorter"}}.',
    )


class ReplayPages:
    """Of the admin of runs."""

    def replay(self: Any, request: HttpRequest, object_id: UUID) -> HttpResponse:
        run = self._steered_run_or_404(request, object_id)
        step = request.GET.get("step", "")
        form = ReplayForm(request.POST or None, initial={"from_step": step, "input": run.input})
        if request.method == "POST" and form.is_valid():
            new = _replayed(run, form)
            if new is not None:
                self.message_user(request, "The replay has started.")
                return HttpResponseRedirect(self.url_of(new))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Replay this run of {run.workflow.name}",
            "opts": self.opts,
            "run": run,
            "form": form,
            "has_ended": run.status in TERMINAL_RUN,
            "preview": _preview(run, step),
        }
        return TemplateResponse(request, "admin/orchestrator/run/replay.html", context)


def _preview(run: Run, step: str) -> ReplayPlan | None:
    found = plan_replay(run, from_step=step)
    return found if step in found.again and run.status in TERMINAL_RUN else None


def _replayed(run: Run, form: ReplayForm) -> Run | None:
    asked = form.cleaned_data
    try:
        return replay_run(
            run,
            from_step=asked["from_step"],
            input=UNCHANGED if asked["input"] is None else asked["input"],
            overrides=asked["overrides"],
        )
    except InputInvalidError as error:
        for problem in error.problems:
            field, _, place = problem.loc.strip("/").partition("/")
            place = place.replace("/", ".")
            told = f"{place}: {problem.message}" if place else problem.message
            form.add_error(field if field in _FIELDS else None, told)
    except (RunStateError, TenantSuspendedError) as error:
        form.add_error(None, str(error))
    return None
