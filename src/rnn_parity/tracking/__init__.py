"""From results to MLflow: a projection of `results/` that can be made again at will. Only this package imports mlflow.

`store` says where the runs are kept and creates the embedded database, `content` what a run says, `publish` puts it
there once and only once, `unfinished` what is left of a run that failed, `experiment` is the page they all stand on,
`server` is about those that do not answer, `ui` shows it all in a browser.
"""

import os

from rnn_parity.tracking.publish import Published, publish_job, publish_report
from rnn_parity.tracking.server import TrackingUnavailable
from rnn_parity.tracking.store import ensure_store, redact, resolve_uri
from rnn_parity.tracking.ui import serve_ui
from rnn_parity.tracking.unfinished import publish_unfinished

__all__ = [
    "Published",
    "TrackingUnavailable",
    "ensure_store",
    "publish_job",
    "publish_report",
    "publish_unfinished",
    "redact",
    "resolve_uri",
    "serve_ui",
]

# MLflow reports its use to its makers unless this is set before it is imported, which happens in functions only.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
