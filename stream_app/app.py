"""The Faust app as a module: `faust -A stream_app.app:app worker` is `shopsentry worker`.

Settings come from the environment and the file that SHOPSENTRY_CONFIG names.
"""

from __future__ import annotations

from stream_app.core.errors import ShopsentryError
from stream_app.settings import load
from stream_app.wiring import prepared_worker

try:
    app = prepared_worker(load()).app
except ShopsentryError as error:
    raise SystemExit(f"shopsentry: {error}") from None
