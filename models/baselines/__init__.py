"""What the BERT has to beat: simple detectors, each built as well as we can.

    for detector in detectors(["velocity", "boosted"], seed=0, threads=2):
        detector.fit(data, fit_on, choose_on)
        scores = detector.score(data, events)

detector.py    the Protocol that all that judges events offline satisfies
registry.py    detectors by name
"""

from models.baselines.detector import Detector, Draw, fit_draws
from models.baselines.registry import NAMES, detectors

__all__ = ["NAMES", "Detector", "Draw", "detectors", "fit_draws"]
