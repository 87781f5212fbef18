from django.db import migrations

from tenants.isolation import IsolateTenant, TenantReference


class Migration(migrations.Migration):
    dependencies = [
        ("orchestrator", "0001_initial"),
        ("tenants", "0002_isolation"),
        ("costs", "0002_isolation"),
    ]

    operations = [
        IsolateTenant("Workflow"),
        IsolateTenant("Step"),
        IsolateTenant("WorkflowVersion", hidden=("spec", "plan"), append_only=True),
        # Later changes of a run are the engine's; its history is the event stream.
        IsolateTenant("Run", audit_events="INSERT", hidden=("input", "output")),
        IsolateTenant("AgentRun", audited=False),
        IsolateTenant("Attempt", audited=False, append_only=True, leaf=True),
        IsolateTenant("LlmCall", audited=False, leaf=True),
        IsolateTenant("ToolCall", audited=False, leaf=True),
        IsolateTenant("RunEvent", audited=False, append_only=True, leaf=True),
        IsolateTenant("Gate", audited=False, leaf=True),
        IsolateTenant("ReadyAgentRun", audited=False, leaf=True),
        IsolateTenant("TenantLoad", audited=False, leaf=True),
        IsolateTenant("TenantShare", audited=False, leaf=True),
        IsolateTenant("SpendMinute", audited=False, leaf=True),
        TenantReference("Workflow", "project"),
        TenantReference("Step", "workflow"),
        TenantReference("WorkflowVersion", "workflow"),
        TenantReference("Workflow", "current_version", on_delete="NO ACTION"),
        TenantReference("Run", "project"),
        TenantReference("Run", "workflow"),
        TenantReference("Run", "version"),
        TenantReference("AgentRun", "run"),
        TenantReference("Attempt", "agent_run"),
        TenantReference("LlmCall", "agent_run"),
        TenantReference("LlmCall", "run"),
        TenantReference("ToolCall", "agent_run"),
        TenantReference("ToolCall", "run"),
        TenantReference("RunEvent", "run"),
        TenantReference("Gate", "run"),
        TenantReference("ReadyAgentRun", "run"),
    ]
