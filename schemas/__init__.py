"""What the data is: recipe models, Arrow schemas, the layout of an output folder, receipts.

Nothing here imports Beam or the rooms above (`transforms`, `pipelines`).
"""
