"""Videos.

decoding: from the bytes of a file to frames, in a process that may die of it.
reader: the program of that process.
frames: extractors of images on the frames of videos.
"""
