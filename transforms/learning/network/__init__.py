"""Training the network of the strategy `deep`.

jobs: which networks are trained, each without some rows.
batches: the rows of an output as a stream of batches, with modalities dropped.
steps: the network, its losses and its optimiser in JAX; the only module that imports JAX.
fitting: networks trained side by side, in a process of its own.
training: what a recipe asks for and an output lacks, in as many processes as it takes.
tails: moments up to the fourth, and how features are scaled by them.
survey: one pass over the rows beforehand, and who sees which.
bank: the trained networks of an output, by the rows that they have not seen.
"""
