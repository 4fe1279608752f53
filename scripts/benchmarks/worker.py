"""A worker of the product for the benchmark: `wiring.worker_app`, with a scorer of choice."""

from __future__ import annotations

import argparse
import logging.config
from pathlib import Path

from pydantic import SecretStr

from scripts.benchmarks import scorers, stages
from stream_app.core.decode import UNLIMITED
from stream_app.core.outcome import Output
from stream_app.core.ports import EventEncoder, Scorer
from stream_app.core.window import WindowPolicy
from stream_app.edges.log import logging_config
from stream_app.runner import Runner
from stream_app.settings import KafkaSettings, RedisSettings, ScorerSettings, Settings, WebSettings
from stream_app.wiring import Outputs, load_scorer, worker_app


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--kafka", "--redis", "--topic", "--prefix", "--group", "--scorer", "--bundle"):
        parser.add_argument(name, required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--delivery", default="at-least-once")
    parser.add_argument("--schema", default="shop")
    parser.add_argument("--stages", type=Path)
    given = parser.parse_args()
    settings = Settings(
        kafka=KafkaSettings(
            bootstrap=given.kafka,
            group=given.group,
            input_topics=(given.topic,),
            output_prefix=given.prefix,
            delivery=given.delivery,
        ),
        redis=RedisSettings(url=SecretStr(given.redis)),
        scorer=ScorerSettings(bundle=Path(given.bundle), device="cpu"),
        web=WebSettings(port=0),
    )
    scorer: Scorer
    encoder: EventEncoder
    if given.scorer == "free":
        free = scorers.free_encoder(given.schema)
        asked = free.schema.context
        scorer, encoder = scorers.free_scorer(free), free
    else:
        scorer, loaded = load_scorer(settings)
        encoder, asked = loaded, loaded.schema.context
    if given.stages is not None:
        stages.watch(given.stages)
    logging_of = logging_config("warning", False, False)
    logging.config.dictConfig(logging_of)
    outputs = dict.fromkeys(Output, given.partitions)
    Runner(
        worker_app(settings, scorer, encoder, Outputs(outputs, UNLIMITED), WindowPolicy(), asked),
        logging_of,
        "warning",
    ).run()


if __name__ == "__main__":
    main()
