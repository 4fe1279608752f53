"""A worker whose device stalls: the shipped model scores for a while, and then hardly ever again.

    SHOPSENTRY_... .venv/bin/python -m scripts.hung_worker 60

For `scripts.measure_memory`. Settings come from the environment, as for any worker.
"""

from __future__ import annotations

import asyncio
import logging.config
import sys
import time
from typing import Any, Final

from models import judge
from models.bundle import load as load_bundle
from models.committee import Opinions, hear
from models.encoding import SchemaEncoder
from models.scorer import HANG_S, BundleScorer
from stream_app.core.outcome import Output
from stream_app.edges.kafka_admin import largest_record, partition_counts
from stream_app.edges.log import logging_config
from stream_app.runner import Runner
from stream_app.settings import load
from stream_app.wiring import Outputs, worker_app

STALL_S: Final = HANG_S * 0.8  # of a pass; a longer one ends the worker


class Hung:
    """Stands for `models.committee.hear`, as for a device that does not answer any more."""

    def __init__(self, after_s: float) -> None:
        self._from_s = time.monotonic() + after_s

    def __call__(self, *asked: Any) -> Opinions:
        if time.monotonic() > self._from_s:
            time.sleep(STALL_S)
        return hear(*asked)


def main() -> None:
    settings = load(None)
    kafka, names = settings.kafka, settings.kafka.outputs()
    found = asyncio.run(partition_counts(kafka.aiokafka(), 60))
    most = asyncio.run(largest_record(kafka.aiokafka(), names.values(), kafka.max_record_bytes))
    outputs = Outputs({output: found[names[output]] for output in Output}, most)
    bundle = load_bundle(settings.scorer.bundle, settings.scorer.device)
    scorer = BundleScorer(bundle, threads=settings.scorer.threads)
    vars(judge)["hear"] = Hung(float(sys.argv[1]))
    logging_of = logging_config("warning", False, False)
    logging.config.dictConfig(logging_of)
    encoder = SchemaEncoder(bundle.schema)
    app = worker_app(settings, scorer, encoder, outputs, bundle.schema.window)
    Runner(app, logging_of, "warning").run()


if __name__ == "__main__":
    main()
