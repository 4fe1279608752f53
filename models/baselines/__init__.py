"""What the BERT has to beat: detectors, each built as well as we can.

    for detector in detectors(["velocity", "stack"], seed=0, threads=2):
        detector.fit(data, fit_on, choose_on)
        scores = detector.score(data, events)

detector.py    the Protocol that all that judges events offline satisfies
registry.py    detectors by name; space.py: what may be tuned of them
velocity.py    rules on rates, over windows; the others read `models.counters`

unlabelled.py  isolation forest, ECOD, HBOS, kNN, mean shift, PCA; scale.py: one scale for them
boosting.py    LightGBM on the aggregates
look_back.py   what was said of earlier events; stack.py: trees that read it, again and again
networks.py    the GRU twin, an encoder of random weights
surprise.py    the surprise of a bundle alone
"""

from models.baselines.detector import Detector, Draw, fit_draws
from models.baselines.registry import NAMES, OF_BUNDLE, OF_SCHEMA, detectors

__all__ = ["NAMES", "OF_BUNDLE", "OF_SCHEMA", "Detector", "Draw", "detectors", "fit_draws"]
