"""Learning from fused vectors: which model, how good, and what to keep of it.

- `training`: `train` compares the candidates by cross-validation, refits the best and scores it.
- `candidates`: what a recipe asks for, and all of it fitted on the same rows.
- `fitting`: what families share; `linear`, `gaussian`, `boosting`: the families themselves.
- `calibration`: temperature scaling and the reliability curve.
- `metrics`: how good predictions are, as JSON-ready numbers.
- `comparing`: intervals of these numbers, comparisons over folds, the choice between several.
- `understanding`: what each modality is worth, and what is lost without it.
- `coral`: features of one domain aligned with those of another.
- `artefacts`: a model as bytes and back, without pickle.

Arrays in, arrays out: nothing here but `dataset` and `predicting` reads or writes a file, and
nothing knows Beam.
"""
