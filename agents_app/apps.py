from django.apps import AppConfig


class AgentsAppConfig(AppConfig):
    name = "agents_app"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents_app.selectors.mcp_servers import McpTools
        from agents_app.services.memory import fetch_here, searcher
        from agents_app.tools.installed import add_source

        # A wrong setting is to be told now, and not to an agent.
        searcher(fetch_here)
        add_source(McpTools())
