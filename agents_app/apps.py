from django.apps import AppConfig


class AgentsAppConfig(AppConfig):
    name = "agents_app"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents_app.selectors.mcp_servers import McpTools
        from agents_app.tools.installed import add_source

        add_source(McpTools())
