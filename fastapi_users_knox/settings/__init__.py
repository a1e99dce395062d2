"""What an application can configure: the settings of a strategy, and the options of a single login."""

from fastapi_users_knox.settings.login_options import GetLoginOptions, LoginOptions
from fastapi_users_knox.settings.settings import ApiTokenSettings, KnoxSettings, utc_now

__all__ = ["ApiTokenSettings", "GetLoginOptions", "KnoxSettings", "LoginOptions", "utc_now"]
