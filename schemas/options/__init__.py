"""What may be set in a recipe besides its outline: options of extractors and of models.

base: strict models, errors that know their field, and how a modality names its extractors.
image, audio, text, table, vector, series: the extractors of a kind of modality, and their options.
model: deep models as extractors, of any kind of modality.
models: the models that may be trained.
"""
