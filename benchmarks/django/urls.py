"""One route, which returns the user to everybody who has a live token."""

from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response


@api_view()
def me(request: Request) -> Response:
    """Return the user's address."""
    return Response({"email": request.user.email})


urlpatterns = [path("me", me)]
