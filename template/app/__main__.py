"""Run the service: `python -m app`. Host, port, workers and the rest come from the settings."""

import signal
import sys
from functools import partial

import uvicorn
from pydantic import ValidationError

from app.core.config import Settings, explain, load
from app.core.discovery import sections
from app.core.logging import logging_config
from app.core.server import Connection, serve


def main() -> int:
    """Serve until told to stop. Returns the exit code: 2 when a setting is not as it should be, 3 after a bad start."""
    try:
        settings = load(Settings)
        for section in sections():
            load(section)
        settings.check_host()
    except ValidationError as error:
        print(f"The service cannot start with these settings:\n{explain(error)}", file=sys.stderr)
        return 2
    reload = settings.environment == "development"
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        reload=reload,
        reload_dirs=["app"] if reload else None,
        http=partial(  # type: ignore[arg-type]
            Connection, max_head_bytes=settings.max_request_head_bytes, write_timeout=settings.write_timeout
        ),
        log_config=logging_config(settings),
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    return serve(config, settings.shutdown_delay)


if __name__ in {"__main__", "__mp_main__"}:  # The latter is what it is called in workers.
    # uvicorn passes the signal on when it has shut down, which is no reason to end with another code than 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if __name__ == "__main__":
    sys.exit(main())
