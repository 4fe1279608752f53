"""How good scores are, given the truth: every figure of the project comes from here.

    report = judge({"bert": scores, "boosted": others}, truth_of(data, events, task_names))
    report.figure("bert", "average_precision").value

truth.py      labels, users, campaigns and times of the judged events
ranking.py    average precision, ROC-AUC, recall at budgets, under many weightings at once
campaigns.py  how soon a campaign is noticed
resample.py   the bootstrap over users and campaigns
panel.py      all of these for one detector and draw
details.py    decisions, calibration, delays, look-alikes, budgets kept, curves
spread.py     intervals of calibration errors and kept budgets
judge.py      for all detectors, paired
run.py        an evaluation from files: inputs.py reads, contestants.py fit and score,
              simulated.py splices attacks in where there are no labels,
              leak.py and drift.py look at the data, notes.py tells what to know of it
folder.py     report.json, report.md, report.html: tables.py (alarm_tables.py, decision_tables.py,
              cells.py), plots.py (charts.py, svg.py), page.py
"""

from models.evaluate.details import Scored
from models.evaluate.judge import judge
from models.evaluate.report import Count, Difference, Figure, Measured, Report
from models.evaluate.truth import SEEN, UNSEEN, Truth, joined, truth_of

__all__ = [
    "SEEN",
    "UNSEEN",
    "Count",
    "Difference",
    "Figure",
    "Measured",
    "Report",
    "Scored",
    "Truth",
    "joined",
    "judge",
    "truth_of",
]
