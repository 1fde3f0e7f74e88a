"""From results to MLflow: a projection of `results/` that can be made again at will. Only this package imports mlflow.

`store` names the place of the runs, creates the embedded database and connects to it, `content` makes the params,
metrics and tags of a run, `publish` writes a run once, `jobs` and `failures` show the jobs of a folder, also those that
died, `ui` serves the pages.
"""

import logging
import os

from rnn_parity.experiment.tracking_uri import redact, resolve_uri
from rnn_parity.tracking.jobs import publish_results, publish_unfinished
from rnn_parity.tracking.publish import publish_report
from rnn_parity.tracking.store import TrackingUnavailable, ensure_store
from rnn_parity.tracking.ui import serve_ui

__all__ = [
    "TrackingUnavailable",
    "ensure_store",
    "publish_report",
    "publish_results",
    "publish_unfinished",
    "redact",
    "resolve_uri",
    "serve_ui",
]

# MLflow reads these when it is imported, which functions of this package do, and no module.
_SETTINGS = {
    # By default a dead server blocks a call for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # Otherwise MLflow prints the address of every run that ends, with the password in it.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Otherwise it sends usage data to its makers.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
for _name in (
    "alembic",
    "mlflow.store.db.utils",
):  # they log how a database is made, and a traceback of what they raise
    logging.getLogger(_name).setLevel(logging.CRITICAL)
