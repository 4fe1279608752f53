"""A worker for the faults: the product's own wiring and settings, with a scorer that costs nothing.

So the delivery is what is tried, and many records pass. Settings come from the environment.
"""

from __future__ import annotations

import asyncio
import logging.config

from scripts.benchmarks.scorers import free_encoder, free_scorer
from stream_app.core.outcome import Output
from stream_app.core.window import WindowPolicy
from stream_app.edges.kafka_admin import largest_record, partition_counts
from stream_app.edges.log import logging_config
from stream_app.runner import Runner
from stream_app.settings import load
from stream_app.wiring import Outputs, worker_app


def main() -> None:
    settings = load(None)
    kafka = settings.kafka
    names = kafka.outputs()
    found = asyncio.run(partition_counts(kafka.aiokafka(), 60))
    most = asyncio.run(largest_record(kafka.aiokafka(), names.values(), kafka.max_record_bytes))
    outputs = Outputs({output: found[names[output]] for output in Output}, most)
    encoder = free_encoder()
    logging_of = logging_config("warning", False, False)
    logging.config.dictConfig(logging_of)
    app = worker_app(settings, free_scorer(encoder), encoder, outputs, WindowPolicy())
    Runner(app, logging_of, "warning").run()


if __name__ == "__main__":
    main()
