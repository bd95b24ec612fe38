"""Training the network of the strategy `deep`.

jobs: which networks are trained, each without some rows.
batches: the rows of an output as a stream of batches, with modalities dropped.
steps: the network, its losses and its optimiser in JAX; the only module that imports JAX.
fitting: training, in a process of its own.
bank: trained networks as files: which are there, which are to be trained.
"""
