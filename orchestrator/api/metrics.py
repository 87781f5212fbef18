"""The shape of a run's metrics document, for the OpenAPI document alone.

The selector gives plain values: ten thousand tasks would take serializers seconds.
"""

from typing import Any

from rest_framework import serializers

from orchestrator.core.metrics import TIERS
from orchestrator.core.state import AgentRunStatus, RunStatus


class ExecutionOut(serializers.Serializer[Any]):
    start_time = serializers.DateTimeField(allow_null=True)
    end_time = serializers.DateTimeField(allow_null=True)
    duration_ms = serializers.FloatField(allow_null=True, help_text="From its first start on.")
    queued_ms = serializers.FloatField(allow_null=True)
    waiting_ms = serializers.FloatField(allow_null=True, help_text="Without holding a worker.")
    waiting_reasons_ms = serializers.DictField(child=serializers.FloatField())


class MetricsTokensOut(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Contained in the prompt's.")
    reasoning_tokens = serializers.IntegerField(help_text="Contained in the completion's.")
    total_tokens = serializers.IntegerField()


class PerformanceOut(serializers.Serializer[Any]):
    tokens_per_second = serializers.FloatField(allow_null=True)
    cost_per_token = serializers.CharField(allow_null=True, help_text="USD.")
    efficiency_score = serializers.FloatField(allow_null=True, min_value=0, max_value=100)
    throughput_tier = serializers.ChoiceField([tier for _, tier in TIERS], allow_null=True)


class SystemOut(serializers.Serializer[Any]):
    """Of the worker's process, as the last attempt ended; 100 percent of CPU is one core."""

    worker = serializers.CharField(allow_null=True)
    cpu_percent = serializers.FloatField(allow_null=True)
    memory_percent = serializers.FloatField(allow_null=True)
    memory_used_mb = serializers.FloatField(allow_null=True)


class MessagesHandledOut(serializers.Serializer[Any]):
    sent = serializers.IntegerField()
    read = serializers.IntegerField()


class TaskMetricsOut(serializers.Serializer[Any]):
    task_id = serializers.UUIDField()
    task_type = serializers.CharField(
        help_text="Of the agent; `map`, `loop`, `workflow`, `approval` or `delay` without one."
    )
    name = serializers.CharField(
        help_text="Its place in the run: `write`, `section[3]` for an item of a map, "
        "`polish[1].write` for a step in the second round of a loop."
    )
    status = serializers.ChoiceField([str(status) for status in AgentRunStatus])
    role = serializers.CharField(allow_null=True)
    attempts = serializers.IntegerField()
    llm_calls = serializers.IntegerField()
    messages = MessagesHandledOut(help_text="With other agents of the run.")
    execution = ExecutionOut()
    tokens = MetricsTokensOut()
    cost_usd = serializers.CharField()
    provider = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    performance = PerformanceOut()
    system = SystemOut()


class MetricsOut(serializers.Serializer[Any]):
    session_id = serializers.UUIDField(help_text="The run.")
    start_time = serializers.DateTimeField(allow_null=True)
    end_time = serializers.DateTimeField(allow_null=True)
    duration_s = serializers.FloatField(allow_null=True)
    status = serializers.ChoiceField([str(status) for status in RunStatus])
    status_reason = serializers.CharField(help_text="One sentence why.")
    tasks = TaskMetricsOut(many=True)
    total_tokens = MetricsTokensOut()
    total_cost_usd = serializers.CharField()
