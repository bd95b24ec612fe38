"""Tables.

columns: the extractor, which puts together what each family of columns makes.
families: what a family is.
numbers, times, categories, booleans: the families.
quantiles: how many values there are where, in bounded memory.
"""
