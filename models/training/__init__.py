"""Events and labels -> a bundle: pre-training, supervision, calibration, on separate users.

    fit        70 %   weights, statistics
    choose     15 %   the best epoch, by average precision
    calibrate  15 %   score -> probability; what is measured there goes into metrics.json

recipe.py     the few numbers that there are
batches.py    what a step reads
objective.py  what is minimised
loop.py       phases, epochs, steps
encoder.py    one member: `fit_encoder`
finish.py     calibration, golden windows, the bundle
run.py        `train`: files in, bundle out
"""

from models.training.encoder import Encoder, fit_encoder
from models.training.recipe import Recipe
from models.training.run import TrainReport, train

__all__ = ["Encoder", "Recipe", "TrainReport", "fit_encoder", "train"]
