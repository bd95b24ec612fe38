"""Images.

decoding: from the bytes of a file to pixels.
resizing: images of one size.
hog, color, pixels: the extractors.
"""
