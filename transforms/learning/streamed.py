"""Models of training a bucket at a time: fitted to statistics, or begun for gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB

from transforms.fusion.statistics import ClassMoments, Statistics
from transforms.learning import closed_form
from transforms.learning.candidates import Candidate
from transforms.learning.closed_form import Linear, NaiveBayes, Quadratic, Whitened
from transforms.learning.gaussian import qda_of
from transforms.learning.linear import estimator_of

Streamed: TypeAlias = Linear | NaiveBayes | Quadratic | SGDClassifier


def fit_statistics(
    candidates: Sequence[Candidate],
    made: Statistics,
    classes: np.ndarray | None,
    shrinkage: float | None,
) -> list[Streamed]:
    """Each candidate, fitted if its statistics suffice for that.

    Args:
        candidates: of one task.
        made: of rows that are filled and scaled; with the matrix of each class if one is `qda`.
        classes: str[k], of the training rows; None for a regression.
        shrinkage: of LDA where it is `auto`.
    """
    if classes is None:
        equations = closed_form.normal_equations(made)
        return [closed_form.ridge(equations, c.options["alpha"]) for c in candidates]
    known, at = made.by_class(), [made.classes.index(c) for c in classes.tolist()]
    components = [c.options["components"] for c in candidates if c.model == "qda"]
    whitened = Whitened.of(known, max(components)) if components else None
    return [_fit(c, known, whitened, at, shrinkage) for c in candidates]


def _fit(
    candidate: Candidate,
    known: ClassMoments,
    whitened: Whitened | None,
    at: list[int],
    shrinkage: float | None,
) -> Streamed:
    """A classifier; `at` are the positions of its classes, as the test may have others."""
    options = candidate.options
    balanced = options.get("class_weight") == "balanced"
    priors = np.ones(len(known.count)) if balanced else None
    if candidate.model == "lda":
        own = shrinkage if options["shrinkage"] == "auto" else options["shrinkage"]
        assert own is not None
        model = closed_form.lda(known, own, priors)
        return Linear(model.coef[at], model.intercept[at], model.output)
    if candidate.model == "naive_bayes":
        bayes = closed_form.naive_bayes(known, options["smoothing"], priors)
        return NaiveBayes(bayes.mean[at], bayes.variance[at], bayes.log_prior[at])
    if candidate.model == "qda":
        assert whitened is not None
        qda = closed_form.qda(whitened, options["components"], options["shrinkage"], priors)
        return Quadratic(qda.mean[at], qda.rotation[at], qda.variance[at], qda.log_prior[at])
    alpha = 1 / (options["C"] * max(int(known.count.sum()), 1))
    # Without averaging: steps shrink as 1 / t anyway, and an average remembers the first ones.
    learner = SGDClassifier("log_loss", alpha=alpha, random_state=0, shuffle=True)
    if balanced:  # what scikit-learn means by it, and one batch cannot tell
        count = known.count[at]
        weights = count.sum() / (max(int((count > 0).sum()), 1) * np.maximum(count, 1))
        learner.class_weight = dict(enumerate(weights.tolist()))
    return learner


def closed(model: Streamed) -> Linear | NaiveBayes | Quadratic:
    """A model of gradient descent as one whose probabilities are the softmax of its scores."""
    if not isinstance(model, SGDClassifier):
        return model
    coef, intercept = model.coef_, model.intercept_
    if len(coef) == 1:
        coef, intercept = np.vstack([0 * coef, coef]), np.concatenate([[0.0], intercept])
    return Linear(coef, intercept, "logits")


def estimator_for(model: Streamed, candidate: Candidate, classes: np.ndarray | None) -> Any:
    """The scikit-learn estimator of a candidate's model, for str[k] classes or numbers."""
    known = closed(model)
    if isinstance(known, Linear):
        made = estimator_of(known.coef, known.intercept, classes is not None)
    elif isinstance(known, Quadratic):
        made = qda_of(known, candidate.options["shrinkage"])
    else:
        made = GaussianNB()
        made.theta_, made.var_ = known.mean, known.variance
        made.class_prior_ = np.exp(known.log_prior)
        made.n_features_in_ = known.mean.shape[1]
    if classes is not None:
        made.classes_ = classes
    return made
