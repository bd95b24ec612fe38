"""Learning from fused vectors: which model, how good, and what to keep of it.

- `training`: `train` compares the candidates by cross-validation, refits the best and scores it.
- `candidates`: the models themselves, each fitted exactly in a shared basis.
- `logistic`: the solver of logistic regression.
- `closed_form`: LDA, naive Bayes, QDA and ridge from second moments alone; `curves`: how much to
  shrink, cross-validated from those of the folds.
- `missing`: a normal distribution a class for rows that lack modalities; `em`: its fit.
- `metrics`: how good predictions are, as JSON-ready numbers.
- `artefacts`: a model as bytes and back, without pickle.

Arrays in, arrays out: nothing here reads or writes a file or knows Beam.
"""
