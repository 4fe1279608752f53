"""Events and labels -> a bundle: pre-training, supervision, calibration, on separate users.

options.py     what may be asked
run.py         `train`: files in, bundle out
session.py     the same training again after a kill
material.py    what there is to learn from
parts.py       who is learnt from, who judges
replicas.py    simulated attacks in the user's own data
members.py     encoders and trees, one after another
encoder.py     one encoder: `fit_encoder`
warm_start.py  weights to begin from
loop.py        phases, epochs, steps
batches.py     what a step reads
objective.py   what is minimised
recipe.py      the few numbers of it
processes.py   several of them together
checkpoint.py  where a kill leaves off
watch.py       lines, a bar, curves
finish.py      calibration, golden windows, the bundle
"""

from models.training.encoder import Encoder, fit_encoder
from models.training.material import Sources
from models.training.options import Options
from models.training.recipe import Recipe
from models.training.run import TrainReport, train

__all__ = ["Encoder", "Options", "Recipe", "Sources", "TrainReport", "fit_encoder", "train"]
