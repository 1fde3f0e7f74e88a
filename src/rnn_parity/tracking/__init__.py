"""From results to MLflow: a projection of `results/` that can be made again at will. Only this package imports mlflow.

`store` names the place of the runs and creates the embedded database, `server` connects to it, `content` makes the
params, metrics and tags of a run, `publish` writes a run once, `experiment` describes the study, `failures` and
`unfinished` show jobs that died, `ui` serves the pages.
"""

import os

from rnn_parity.tracking.publish import publish_job, publish_report
from rnn_parity.tracking.server import TrackingUnavailable
from rnn_parity.tracking.store import ensure_store, folder_tag, redact, resolve_uri
from rnn_parity.tracking.ui import serve_ui
from rnn_parity.tracking.unfinished import publish_unfinished

__all__ = [
    "TrackingUnavailable",
    "ensure_store",
    "folder_tag",
    "publish_job",
    "publish_report",
    "publish_unfinished",
    "redact",
    "resolve_uri",
    "serve_ui",
]

# MLflow sends usage data to its makers unless this is set before its import. Functions import it, not modules.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
