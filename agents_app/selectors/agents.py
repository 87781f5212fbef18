from django.db.models import QuerySet

from agents_app.models import Agent


def agents() -> QuerySet[Agent]:
    return Agent.objects.all()
