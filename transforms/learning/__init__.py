"""Learning from fused vectors: which strategy and model, how good, and what to keep of it.

- `dataset`: the labelled rows of an output; `problem`: what is learnt from them, and the folds.
- `candidates`: what a recipe asks for, and all of it fitted on the same rows; `fitting`: what
  families of models share; `linear`, `gaussian`, `kernel`, `boosting`: the families.
- `nested`: out-of-fold outputs of the heads of strategies; `judging`: a strategy judged by them;
  `choosing`: which strategy; `training`: all of it together; `model`: what comes out.
- `streaming`: the same for more rows than memory holds. `closed_form`: LDA, naive Bayes, QDA and
  ridge from second moments alone; `curves`: how much to shrink, from those of the folds.
- `network`: training the networks of `deep`, the only place that JAX is imported.
- `calibration`: temperature scaling and the reliability curve.
- `metrics`: how good predictions are, as JSON-ready numbers; `comparing`: intervals of these,
  comparisons over folds, the simplest of the best.
- `explaining`: what a score is made of, by `understanding` (worth and removal of modalities),
  `similarity` and `domains`; `coral`: features of one domain aligned with those of another.
- `artefacts`: a model as files and back, without pickle; `predicting`: its use on new records.

Arrays in, arrays out: nothing here but `dataset`, `predicting` and `network` reads or writes a
file, and nothing knows Beam.
"""
