"""Sends batches of calls to their providers, asks for their answers, and has their steps go on.

Every control worker does it on a timer. Who takes a batch in hand has its lease, which is longer
than all that is asked of a provider in it; no transaction lasts while a provider is asked. What is
about to be sent is written down first, and looked for at the provider before it is sent again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from django.conf import settings

from agents_app.core.errors import ProviderError, ProviderErrorKind
from agents_app.core.model import ModelReply
from agents_app.providers.batches import BatchClient, BatchStage, Sent
from orchestrator.dispatch.canvas import publish
from orchestrator.dispatch.live import nudge
from orchestrator.execution import batch_rows
from orchestrator.execution.batch_rows import BatchedCall, TakenBatch, note
from orchestrator.execution.crashpoints import crash_here
from orchestrator.execution.providers import client_for_tenant
from orchestrator.models import ModelBatchStatus

log = structlog.get_logger(__name__)

SECONDS: Final = 1.0
LEASE: Final = timedelta(minutes=10)
# Of all that is asked in one lease: three questions at most, each of two calls.
_DEADLINE_SECONDS: Final = 90.0
# When it is known at the latest whether a batch that was sent has come in.
_SETTLES_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 900.0


def tend() -> int:
    """Do what is due of all batches, one after another; how many there were."""
    tended = 0
    while taken := batch_rows.taken_batches(most=1, lease=LEASE):
        for batch in taken:
            _tend(batch)
            tended += 1
    return tended


def _tend(batch: TakenBatch) -> None:
    facts = {"batch": str(batch.id), "provider": batch.provider, "tenant_id": str(batch.tenant_id)}
    with structlog.contextvars.bound_contextvars(**facts):
        try:
            Tending(batch).go_on()
        except ProviderError as error:
            _put_off(batch, error)


def _put_off(batch: TakenBatch, error: ProviderError) -> None:
    """It could not be asked about; it is tried again, ever more seldom."""
    log.warning("batch_put_off", reason=str(error), tries=batch.tries + 1)
    pause = settings.MUSTER_BATCH_POLL_SECONDS * 2 ** min(batch.tries, 10)
    seconds = max(error.retry_after_seconds or 0.0, min(pause, _LONGEST_PAUSE_SECONDS))
    note(batch, tries=batch.tries + 1, error=str(error), due_in=seconds)


@dataclass(frozen=True, slots=True)
class Tending:
    """One batch, as far as it goes now. Raises ProviderError where it is to be tried again."""

    batch: TakenBatch

    def go_on(self) -> None:
        try:
            self._go_on()
        except ProviderError:
            # Asked once more, however old: its answers may lie there since nobody looked.
            if not self.batch.is_too_old:
                raise
            self._give_up()

    def _go_on(self) -> None:
        if self.batch.status == ModelBatchStatus.WORKING:
            self._look()
        elif self.batch.sent_at is not None:
            self._find(self.batch.sent_at)
        else:
            self._send()

    def _wait(self) -> None:
        if self.batch.is_too_old:
            self._give_up()
        else:
            note(self.batch, tries=0, error="", due_in=settings.MUSTER_BATCH_POLL_SECONDS)

    def _give_up(self) -> None:
        self._end(batch_rows.calls_of(self.batch), _never_heard_of(self.batch))

    @property
    def _client(self) -> BatchClient:
        """With the key that it is sent with. ProviderError if that is not there."""
        batch = self.batch
        calling = client_for_tenant(
            batch.provider, tenant_id=batch.tenant_id, uses_environment=batch.uses_environment
        )
        if calling.credential_id != batch.credential_id or not calling.takes_batches:
            detail = "the key that its calls were to be made with is not in use any more"
            raise ProviderError(ProviderErrorKind.NOT_CONFIGURED, detail, batch.provider)
        return calling.client.batches

    def _send(self) -> None:
        if not note(self.batch, status=ModelBatchStatus.SENDING):
            return
        calls = batch_rows.calls_of(self.batch)
        wanted = [call for call in calls if call.is_wanted]
        self._end_calls([call for call in calls if not call.is_wanted], _not_wanted(self.batch))
        if not wanted:
            note(self.batch, status=ModelBatchStatus.ENDED, due_in=0)
            return
        try:
            client = self._client
        except ProviderError as error:
            self._refused(wanted, error)
            return
        if note(self.batch, is_sent=True, requests=len(wanted)):
            self._submit(client, wanted)

    def _submit(self, client: BatchClient, calls: list[BatchedCall]) -> None:
        requests = {str(call.id): call.request for call in calls}
        crash_here("before_batch")
        try:
            vendor_id = client.submit(
                str(self.batch.id), requests, deadline_seconds=_DEADLINE_SECONDS
            )
        except ProviderError as error:
            if error.in_doubt:
                log.warning("batch_in_doubt", reason=str(error))
                note(self.batch, error=str(error), due_in=_SETTLES_SECONDS)
            elif error.retryable:
                note(self.batch, is_sent=False)
                raise
            else:
                self._refused(calls, error)
            return
        crash_here("after_batch")
        self._is_there(vendor_id)

    def _is_there(self, vendor_id: str) -> None:
        log.info("batch_submitted", vendor_id=vendor_id)
        note(
            self.batch,
            status=ModelBatchStatus.WORKING,
            vendor_id=vendor_id,
            tries=0,
            error="",
            due_in=settings.MUSTER_BATCH_POLL_SECONDS,
        )

    def _find(self, sent_at: datetime) -> None:
        """Whether it has come in that was sent without an answer; else it is sent again."""
        sent = Sent(
            key=str(self.batch.id),
            began_at=sent_at,
            ids=frozenset(str(call.id) for call in batch_rows.calls_of(self.batch)),
            known=batch_rows.others_known(self.batch),
        )
        found = self._client.find(sent, deadline_seconds=_DEADLINE_SECONDS)
        if found.batch_id:
            self._is_there(found.batch_id)
        elif found.is_certain:
            log.warning("batch_sent_again")
            note(self.batch, is_sent=False, due_in=0)
        else:
            self._wait()

    def _look(self) -> None:
        client, vendor_id = self._client, self.batch.vendor_id
        state = client.state(vendor_id, deadline_seconds=_DEADLINE_SECONDS)
        if state.stage is not BatchStage.OVER:
            self._cancel_if_unwanted(client)
            self._wait()
            return
        calls = {str(call.id): call for call in batch_rows.calls_of(self.batch)}
        if state.error is not None:
            self._end(calls.values(), state.error)
            return
        requests = {id: call.request for id, call in calls.items()}
        for answer in client.answers(vendor_id, requests, deadline_seconds=_DEADLINE_SECONDS):
            call = calls.pop(answer.id, None)
            if call is not None:
                crash_here("in_batch")
                self._end_call(call, answer.outcome)
        self._end(calls.values(), _never_heard_of(self.batch))

    def _cancel_if_unwanted(self, client: BatchClient) -> None:
        """Providers cancel batches as a whole: what else is in it would be lost."""
        if self.batch.is_cancelling or batch_rows.is_wanted(self.batch):
            return
        client.cancel(self.batch.vendor_id, deadline_seconds=_DEADLINE_SECONDS)
        log.info("batch_cancelled")
        note(self.batch, is_cancelling=True)

    def _refused(self, calls: list[BatchedCall], error: ProviderError) -> None:
        log.warning("batch_refused", reason=str(error))
        self._end(calls, error)

    def _end(self, left: Iterable[BatchedCall], outcome: ProviderError) -> None:
        """The last of its calls end so, and with them the batch."""
        self._end_calls(left, outcome)
        if note(self.batch, status=ModelBatchStatus.ENDED, due_in=0):
            log.info("batch_ended")

    def _end_calls(self, calls: Iterable[BatchedCall], outcome: ProviderError) -> None:
        for call in calls:
            self._end_call(call, outcome)

    def _end_call(self, call: BatchedCall, outcome: ModelReply | ProviderError) -> None:
        hints = batch_rows.end_batched(self.batch, call, outcome)
        publish(hints)
        for hint in hints:
            nudge(hint.run_id)


def _not_wanted(batch: TakenBatch) -> ProviderError:
    detail = "nobody waited for it any more when its batch was sent"
    return ProviderError(ProviderErrorKind.TIMEOUT, detail, batch.provider)


def _never_heard_of(batch: TakenBatch) -> ProviderError:
    """The provider may have worked on it, and bills it then."""
    detail = "its batch has no answer to it"
    return ProviderError(ProviderErrorKind.PROTOCOL, detail, batch.provider, None, None, True)
