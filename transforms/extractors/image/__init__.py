"""Images.

decoding: from the bytes of a file to pixels.
resizing: images of one size.
cells: histograms over a grid.
dense, sampling: local descriptors on a grid, and a sample of them to learn from.
hog, sift, fisher, color, lbp, pixels, hu: the extractors.
"""
