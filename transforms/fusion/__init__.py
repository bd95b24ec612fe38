"""How the modalities of a key become one vector.

splitting: who is in training, in test, and in which fold.
joining: the sorted features of all modalities merged by key, with a mask for what is missing.
moments: means and second moments of features, bucket by bucket, and how they are merged.
cells: moments of many sets of rows at once, by fold, domain and class.
statistics: these by which modalities rows have: complements of folds, subsets, filling, scale.
collecting: one pass over rows for their statistics.
correlation: variables that modalities share (multi-view CCA), and how similar modalities are.
components: scaling and principal components from these moments, or from rows in memory.
missing: a normal distribution of rows that lack modalities; em: its fit, by the EM algorithm.
filling: conditional means of missing modalities, from that.
fitted: the fusion that is fitted and saved: modalities side by side, or averaged.
parts: the node of one part of a strategy.
strategies: the fit of all of it, in passes over the training rows.
network: the network of `deep` as it is fitted and saved, in NumPy.
decisions: the fusion of what one model a modality says, by mean or product.
fusing: the above put to work on the files of an output.

None imports Beam.
"""
