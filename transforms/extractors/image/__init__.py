"""Images.

decoding: from the bytes of a file to pixels.
resizing: images of one size.
cells: histograms over a grid.
hog, sift, fisher, color, lbp, pixels, hu: the extractors.
"""
